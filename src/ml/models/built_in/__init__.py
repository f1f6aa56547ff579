"""Small models that come with the package, so that a first answer needs no model hub."""

from pathlib import Path

__all__ = ["BUILT_IN_MODELS", "built_in_path"]

#: The names of the models; README.md beside this file says what each takes and answers.
BUILT_IN_MODELS = ("classifier_69", "iris")


def built_in_path(name: str) -> Path:
    """Return the path of a built-in model's file."""
    return Path(__file__).parent / f"{name}.torch"
