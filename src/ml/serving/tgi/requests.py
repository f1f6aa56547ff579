"""What clients of Text Generation Inference send.

Source: the OpenAPI document of Text Generation Inference 3, and the parameters that
`huggingface_hub.InferenceClient.text_generation` sends.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Self

from pydantic import ConfigDict, Field, model_validator

from ml.errors import InvalidInput
from ml.generation.request import SamplingParameters
from ml.generation.sampling_options import (
    NUMERIC,
    Alternatives,
    Answers,
    SamplingOptions,
    Temperature,
)
from ml.serving.client_request import ClientRequest
from ml.serving.tgi.grammar import Grammar

__all__ = ["GenerateRequest", "Parameters"]


class Parameters(ClientRequest, SamplingOptions):
    """How to generate. Without any of the sampling parameters, the service's own hold.

    Any sampling parameter but `seed` switches sampling on, at temperature 1 if none is given;
    `do_sample` false alone leaves the service's own.
    """

    neutral: ClassVar = {
        "typical_p": (1,),
        "watermark": (False,),
    }

    adapter_id: str | None = None
    best_of: Answers | None = Field(
        default=None, description="Answers that are made, of which the likeliest is returned"
    )
    decoder_input_details: bool | None = Field(
        default=None, description="With details, the tokens of the prompt"
    )
    details: bool | None = None
    do_sample: bool | None = None
    grammar: Grammar | None = Field(default=None, description="The form of the answer")
    return_full_text: bool | None = None
    temperature: Annotated[Temperature, Field(gt=0)] | None = None
    top_n_tokens: Alternatives | None = Field(
        default=None, description="With details, the likeliest tokens in each place"
    )
    truncate: Annotated[int, Field(ge=1), NUMERIC] | None = None

    @model_validator(mode="after")
    def _can_be_told(self) -> Self:
        if self.decoder_input_details and not self.details:
            raise ValueError("decoder_input_details: set details to true with it")
        return self

    def name_of(self, parameter: str) -> str:
        """Return what these clients call a parameter."""
        names = {"form": "grammar", "top_logprobs": "top_n_tokens"}
        return f"parameters.{names.get(parameter, parameter)}"

    def over(self, defaults: SamplingParameters) -> SamplingParameters:
        """Return the parameters of the request."""
        parameters = replace(
            super().over(defaults),
            logprobs=True,  # which streams and the best of several answers need, as details do
            top_logprobs=self.top_n_tokens or 0,
            form=None if self.grammar is None else self.grammar.form(),
        )
        if self.temperature is None and (self.do_sample or self.top_k or self.top_p):
            return replace(parameters, temperature=1.0)
        return parameters


class GenerateRequest(ClientRequest):
    """The body of `/generate`, `/generate_stream` and `/`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"inputs": "The capital of France is", "parameters": {"max_new_tokens": 8}}
            ]
        }
    )

    inputs: str = Field(min_length=1)
    parameters: Parameters | None = None
    stream: bool | None = Field(default=None, description="Read by `POST /` alone")

    @property
    def asked(self) -> Parameters:
        """How to generate."""
        return self.parameters or Parameters()

    def require_streamable(self) -> None:
        """Raise `InvalidInput` for what is only known at the end, or told at the beginning."""
        if (self.asked.best_of or 1) > 1:
            raise InvalidInput("parameters.best_of: the best is only known at the end of a stream")
        if self.asked.decoder_input_details:
            raise InvalidInput("parameters.decoder_input_details: a stream has no place for it")
