"""Fine-tunes language models as jobs, shows their progress, and answers with what was tuned."""

from unsloth_trainer_service.app import create_app

__all__ = ["create_app"]
