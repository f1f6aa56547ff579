"""What a caller sends to a proof workflow: a tensor for one of the artifacts, or a job's id."""

from __future__ import annotations

from pydantic import BaseModel, Field, model_validator

from ml.errors import unknown_fields
from ml.infernet.tensor_request import TensorRequest
from ml.workflows.inference.answer_before import ANSWERS
from ml.workflows.inference.tensor_input import OnchainTensorInput, TensorInput

__all__ = ["JobQuestion", "OnchainProofInput", "ProofInput"]


class JobQuestion(BaseModel, strict=True, frozen=True):
    """Asks for a proof that is a job."""

    job_id: str = Field(max_length=200)


class ProofInput(TensorInput):
    """A tensor as the classic service takes it, for one of the artifacts.

    Unknown keys are refused; a `shape`, which the answers of tensor services have, is not read. Of
    an answer with its proof, only the tensor is.
    """

    model_id: str = Field(
        default="", description="The name or id of an artifact; the first one by default"
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, data: object) -> object:
        known = [*cls.model_fields, "shape"]
        if not isinstance(data, dict) or data.keys() & set(ANSWERS):
            return data
        if unknown := unknown_fields(data, known):
            raise ValueError("; ".join(unknown))
        return data


class OnchainProofInput(OnchainTensorInput):
    """A tensor that a contract sent, for one of the artifacts."""

    model_id: str = ""

    @classmethod
    def from_request(cls, request: TensorRequest) -> OnchainProofInput:
        """Return the input of a tensor request; raises as `OnchainTensorInput` does."""
        tensor = super().from_request(request)
        return cls.model_construct(**(dict(tensor) | {"model_id": request.model_id}))
