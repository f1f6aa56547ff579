"""What clients of Text Generation Inference send.

Source: the OpenAPI document of Text Generation Inference 3, and the parameters that
`huggingface_hub.InferenceClient.text_generation` sends.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from ml.generation.request import TopK, TopP
from ml.serving.client_request import ClientRequest

__all__ = ["GenerateRequest", "Parameters"]


class Parameters(ClientRequest):
    """How to generate. Without any of the sampling parameters, the service's own hold."""

    neutral: ClassVar = {
        "best_of": (1,),
        "decoder_input_details": (False,),
        "frequency_penalty": (0,),
        "grammar": (),
        "repetition_penalty": (1,),
        "top_n_tokens": (0,),
        "typical_p": (1,),
        "watermark": (False,),
    }

    adapter_id: str | None = None
    details: bool | None = None
    do_sample: bool | None = None
    max_new_tokens: int | None = Field(default=None, ge=1)
    return_full_text: bool | None = None
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    stop: list[str] | None = Field(default=None, max_length=16)
    temperature: float | None = Field(default=None, gt=0, le=5)
    top_k: TopK | None = None
    top_p: TopP | None = None
    truncate: int | None = Field(default=None, ge=1)

    def sampling(self) -> dict[str, Any]:
        """Return what the request says about sampling; None where it says nothing.

        Any sampling parameter but `seed` switches sampling on, at temperature 1 if none is given;
        `do_sample` false alone leaves the service's own.
        """
        temperature = self.temperature
        if temperature is None and (self.do_sample or self.top_k or self.top_p):
            temperature = 1.0
        return {
            "max_new_tokens": self.max_new_tokens,
            "temperature": temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "seed": self.seed,
            "stop": None if self.stop is None else tuple(self.stop),
        }


class GenerateRequest(ClientRequest):
    """The body of `/generate`, `/generate_stream` and `/`."""

    inputs: str = Field(min_length=1)
    parameters: Parameters | None = None
    stream: bool | None = Field(default=None, description="Read by `POST /` alone")
