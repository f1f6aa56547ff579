"""The generation parameters of Text Generation Inference.

Source: its OpenAPI document, `GenerateParameters`. `details`, `decoder_input_details` and
`top_n_tokens` are missing: they change the form of the answer, which here is a text.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

__all__ = ["Api", "GenerationParameters"]

#: What a server may speak.
Api = Literal["tgi", "openai"]

_SMALLEST_SHARE = 1e-6


def _none_if_all(value: Any) -> Any:
    """Return None for the values with which other servers keep all tokens, and TGI has none."""
    return None if value in (0, -1) and not isinstance(value, bool) else value


def _smallest_if_zero(value: Any) -> Any:
    """Return a share that TGI takes where others take 0, which keeps the likeliest token alone."""
    return _SMALLEST_SHARE if value == 0 and not isinstance(value, bool) else value


class GenerationParameters(BaseModel):
    """How to generate; None leaves the choice to the server."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    adapter_id: str | None = None
    best_of: int | None = Field(default=None, ge=1)
    do_sample: bool | None = None
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    grammar: dict[str, Any] | None = None
    max_new_tokens: int | None = Field(default=None, ge=1)
    repetition_penalty: float | None = Field(default=None, gt=0)
    return_full_text: bool | None = None
    seed: int | None = Field(default=None, ge=0)
    stop: list[str] | None = None
    temperature: float | None = Field(default=None, gt=0)
    top_k: Annotated[int | None, BeforeValidator(_none_if_all)] = Field(default=None, ge=1)
    top_p: Annotated[float | None, BeforeValidator(_smallest_if_zero)] = Field(
        default=None, gt=0, le=1
    )
    truncate: int | None = Field(default=None, ge=1)
    typical_p: float | None = Field(default=None, gt=0, le=1)
    watermark: bool | None = None

    def given(self) -> dict[str, Any]:
        """Return the parameters that are not None."""
        values = vars(self)
        return {name: values[name] for name in _NAMES if values[name] is not None}


_NAMES = tuple(GenerationParameters.model_fields)
