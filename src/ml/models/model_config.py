"""What the JSON files of a model's folder say, as far as we read them ourselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from ml.errors import ConfigurationError, describe_faults

__all__ = ["ModelConfig", "context_length"]


class ModelConfig(BaseModel):
    """Fields of such a file, or of the `text_config` in it; null is as good as left out."""

    model_config = ConfigDict(frozen=True, strict=True)

    @classmethod
    def read(cls, file: Path) -> Self:
        """Return what a file says. Raises `ConfigurationError` naming it and what is wrong."""
        try:
            given = from_json(file.read_bytes())  # with infinity, as in configs of Mamba
        except OSError as error:
            raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ConfigurationError(f"{file} is no JSON: {error}") from error
        if isinstance(given, dict) and isinstance(of_text := given.get("text_config"), dict):
            given = given | of_text
        if isinstance(given, dict):
            given = {name: value for name, value in given.items() if value is not None}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise ConfigurationError(f"{file}: {describe_faults(error)}") from error


def context_length(config: Any, default: int) -> int:
    """Return for how many positions a model with this config of transformers was made.

    Raises `ValueError` for a number that none can have.
    """
    positions = getattr(config, "max_position_embeddings", default)
    if not isinstance(positions, int) or positions < 1:
        raise ValueError(
            f"config.json: max_position_embeddings is {positions!r}, which none can be"
        )
    return positions
