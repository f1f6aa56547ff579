"""The environment variables that torch workflows read."""

from __future__ import annotations

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ml.errors import ConfigurationError, fault_lines

__all__ = ["TorchSettings"]


class TorchSettings(BaseSettings):
    """Defaults for arguments that a workflow was not given."""

    model_config = SettingsConfigDict(env_ignore_empty=True, frozen=True)

    torch_model_file_name: str = Field(
        default="model.torch", description="The model's file in its repository or folder"
    )
    use_jit: bool = Field(default=False, description="Load the file as TorchScript")

    @classmethod
    def from_environment(cls) -> TorchSettings:
        """Read the environment. Raises `ConfigurationError` that names the variable at fault."""
        try:
            return cls()
        except ValidationError as error:
            names = {name: name.upper() for name in cls.model_fields}
            raise ConfigurationError("; ".join(fault_lines(error, names=names))) from None
