"""Models that lie on this machine under the names that the hub has for them."""

from __future__ import annotations

from ml.models.embedded_llm import embedded_llm_path

__all__ = ["model_source"]


def model_source(name: str) -> str:
    """Return what to load for a model's name: its folder beside the embedded model, or itself.

    That folder is `MODELS_PATH`, in which models lie by their names as the hub has them, such as
    `owner/model`. A name that has no folder there is one of the hub.
    """
    folder = embedded_llm_path().parent / name
    return str(folder) if (folder / "config.json").is_file() else name
