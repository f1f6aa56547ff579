"""What clients of Text Generation Inference send.

Source: the OpenAPI document of Text Generation Inference 3, and the parameters that
`huggingface_hub.InferenceClient.text_generation` sends.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import Field

from ml.generation.request import SamplingParameters
from ml.generation.sampling_options import SamplingOptions, Temperature
from ml.serving.client_request import ClientRequest

__all__ = ["GenerateRequest", "Parameters"]


class Parameters(ClientRequest, SamplingOptions):
    """How to generate. Without any of the sampling parameters, the service's own hold.

    Any sampling parameter but `seed` switches sampling on, at temperature 1 if none is given;
    `do_sample` false alone leaves the service's own.
    """

    neutral: ClassVar = {
        "best_of": (1,),
        "decoder_input_details": (False,),
        "grammar": (),
        "top_n_tokens": (0,),
        "typical_p": (1,),
        "watermark": (False,),
    }

    adapter_id: str | None = None
    details: bool | None = None
    do_sample: bool | None = None
    return_full_text: bool | None = None
    temperature: Annotated[Temperature, Field(gt=0)] | None = None
    truncate: int | None = Field(default=None, ge=1)

    def over(self, defaults: SamplingParameters) -> SamplingParameters:
        """Return the parameters of the request."""
        parameters = super().over(defaults)
        if self.temperature is None and (self.do_sample or self.top_k or self.top_p):
            return replace(parameters, temperature=1.0)
        return parameters


class GenerateRequest(ClientRequest):
    """The body of `/generate`, `/generate_stream` and `/`."""

    inputs: str = Field(min_length=1)
    parameters: Parameters | None = None
    stream: bool | None = Field(default=None, description="Read by `POST /` alone")
