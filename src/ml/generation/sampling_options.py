"""What a request may say about how tokens are chosen, and its bounds, for all addresses."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ml.generation.request import SamplingParameters

__all__ = [
    "MOST_ANSWERS",
    "MOST_STOP_STRINGS",
    "NUMERIC",
    "Alternatives",
    "Answers",
    "MaxNewTokens",
    "NewTokens",
    "SamplingOptions",
    "StopStrings",
    "Temperature",
]

MOST_STOP_STRINGS = 16
_LEAST_TEMPERATURE = 1e-4
_MOST_TOKENS = 2**31 - 1
#: Of one request: each answer waits for a slot of its own.
MOST_ANSWERS = 64


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("give a number, not true or false")
    return value


#: Refuses true and false, which Python takes for 1 and 0.
NUMERIC = BeforeValidator(_no_truth)


def _all_as_zero(value: Any) -> Any:
    """Return 0 for -1, with which other servers keep all tokens."""
    return 0 if value == -1 else value


def _zero_if_tiny(temperature: float) -> float:
    """Return 0 where nothing but the likeliest token has a chance, before 32 bits overflow."""
    return temperature if temperature >= _LEAST_TEMPERATURE else 0.0


def _as_many_as_fit(tokens: int) -> int:
    """Return a number that 32 bits hold: no model has room for more."""
    return min(tokens, _MOST_TOKENS)


NewTokens = Annotated[int, Field(ge=0), AfterValidator(_as_many_as_fit), NUMERIC]
MaxNewTokens = Annotated[int, Field(ge=1), AfterValidator(_as_many_as_fit), NUMERIC]
Temperature = Annotated[float, Field(ge=0, le=5), AfterValidator(_zero_if_tiny), NUMERIC]
TopP = Annotated[float, Field(ge=0, le=1), NUMERIC]
TopK = Annotated[int, BeforeValidator(_all_as_zero), Field(ge=0), NUMERIC]
MinP = Annotated[float, Field(ge=0, le=1), NUMERIC]
RepetitionPenalty = Annotated[float, Field(ge=0.01, le=10), NUMERIC]
Penalty = Annotated[float, Field(ge=-2, le=2), NUMERIC]
Seed = Annotated[int, Field(ge=0, lt=2**63), NUMERIC]
#: Tokens that are told for each place.
Alternatives = Annotated[int, Field(ge=0, le=20), NUMERIC]
Answers = Annotated[int, Field(ge=1, le=MOST_ANSWERS), NUMERIC]
StopStrings = Annotated[list[str], Field(max_length=MOST_STOP_STRINGS)]


class SamplingOptions(BaseModel):
    """How tokens shall be chosen: `SamplingParameters`, each of which may be left out.

    A protocol with another name or bound for one overrides its field, with the types above.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    max_new_tokens: MaxNewTokens | None = Field(
        default=None, description="Tokens that the answer may have"
    )
    temperature: Temperature | None = Field(default=None, description="0 takes the likeliest token")
    top_p: TopP | None = Field(
        default=None, description="1 keeps all tokens, 0 the likeliest alone"
    )
    top_k: TopK | None = Field(default=None, description="0 and -1 keep all tokens")
    seed: Seed | None = Field(default=None, description="The same one gives the same choices")
    stop: StopStrings | None = Field(default=None, description="Texts that end the answer")
    min_p: MinP | None = Field(
        default=None,
        description="Keeps tokens at least so likely as this part of the likeliest one",
    )
    repetition_penalty: RepetitionPenalty | None = Field(
        default=None, description="Above 1, tokens of prompt and answer are less likely"
    )
    frequency_penalty: Penalty | None = Field(
        default=None, description="Makes tokens less likely for each time the answer has them"
    )
    presence_penalty: Penalty | None = Field(
        default=None, description="Makes tokens that the answer has less likely"
    )
    ignore_eos: bool | None = Field(
        default=None, description="The end of the turn does not end the answer"
    )

    def name_of(self, parameter: str) -> str:
        """Return what the protocol calls a parameter of `SamplingParameters`."""
        if parameter == "form":
            return "response_format"
        field = type(self).model_fields.get(parameter)
        return (field and field.alias) or parameter

    def over(self, defaults: SamplingParameters) -> SamplingParameters:
        """Return the parameters of a request: what is left out is as in `defaults`."""
        given = {
            name: value
            for name in SamplingOptions.model_fields
            if (value := getattr(self, name)) is not None
        }
        return replace(defaults, **given)
