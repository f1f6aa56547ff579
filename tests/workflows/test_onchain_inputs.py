"""What contracts send to the workflows of all services, with offsets and lengths that lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from eth_abi.abi import encode

from ml.errors import InvalidInput, NotFound
from ml.infernet.legacy import encode_legacy
from ml.infernet.tensor_request import TensorRequest
from ml.infernet.vector import Arithmetic, DataType, Vector
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow
from ml.workflows.inference.llm_inference_workflow import LLMInferenceWorkflow
from ml.workflows.inference.tgi_client_inference_workflow import TGIClientInferenceWorkflow
from ml.workflows.inference.torch_inference_workflow import TorchInferenceWorkflow
from ml.workflows.proof.ezkl_proof_workflow import EZKLProofWorkflow
from ml.workflows.training.unsloth_trainer_workflow import UnslothTrainerWorkflow

TENSOR = TensorRequest(
    Vector(np.ones((1, 4)), DataType.FLOAT64, Arithmetic.FIXED_POINT),
    model_id="huggingface/owner/name:model.torch",
    output_arithmetic=Arithmetic.FIXED_POINT,
    output_decimals=6,
).encode()
TRAINING = encode(["string"] * 3, ["model", "data.jsonl", '{"epochs": 1}'])
TEXT = encode(["string"], ["hello"])

WORKFLOWS: dict[str, tuple[Callable[[Path], BaseInferenceWorkflow], list[bytes]]] = {
    "classic": (
        lambda _: TorchInferenceWorkflow(model_source="BUILT_IN", model_args={"name": "iris"}),
        [TENSOR, encode_legacy([1.0, 2.0])],
    ),
    "llm": (lambda _: LLMInferenceWorkflow(), [TEXT]),
    "tgi": (lambda _: TGIClientInferenceWorkflow("http://127.0.0.1:1"), [TEXT]),
    "trainer": (
        lambda folder: UnslothTrainerWorkflow(
            input_path=folder, output_path=folder, working_path=folder
        ),
        [TRAINING],
    ),
    "ezkl": (lambda folder: EZKLProofWorkflow(folder), [TENSOR, encode_legacy([1.0, 2.0])]),
}
#: As offsets and lengths: around nothing, the head, machine integers, and the last of a uint256.
EXTREMES = sorted(
    {
        0, 1, 31, 32, 33, 63, 64, 65, 95, 96, 97, 128, 160,
        *(2**bits + step for bits in (31, 32, 63, 64, 128, 255) for step in (-32, -1, 0, 1)),
        *(2**256 - step for step in (1, 31, 32, 33, 63, 64, 96, 160)),
    }
)  # fmt: skip


@pytest.mark.parametrize("service", list(WORKFLOWS))
def test_no_word_of_a_contracts_bytes_makes_a_failure_of_the_service(
    service: str, tmp_path: Path
) -> None:
    make, inputs = WORKFLOWS[service]
    workflow = make(tmp_path)
    for given in inputs:
        for position in range(0, len(given), 32):
            for extreme in EXTREMES:
                word = extreme.to_bytes(32, "big")
                decode(workflow, given[:position] + word + given[position + 32 :])
            decode(workflow, given[: position + 7])
            decode(workflow, given[:position])


def decode(workflow: BaseInferenceWorkflow, data: bytes) -> None:
    try:
        workflow.decode_onchain(data)
    except (InvalidInput, NotFound) as error:
        assert error.description  # noqa: PT017


@pytest.mark.parametrize("params", ["[" * 100_000, '{"a": NaN}', "[1]", "9" * 5000, "{", "\ud83d"])
def test_params_of_a_training_that_are_no_object_are_refused(params: str, tmp_path: Path) -> None:
    workflow = WORKFLOWS["trainer"][0](tmp_path)
    text = params.encode("utf-8", "surrogatepass")
    data = encode(["bytes"] * 3, [b"model", b"data.jsonl", text])
    with pytest.raises(InvalidInput, match="params"):
        workflow.decode_onchain(data)


def test_a_length_at_the_end_of_a_uint256_is_refused_naming_the_field(tmp_path: Path) -> None:
    start = 3 * 32 + 2 * 64  # of the third text
    data = TRAINING[:start] + (2**256 - 32).to_bytes(32, "big") + TRAINING[start + 32 :]
    with pytest.raises(InvalidInput, match="params: the ABI length exceeds the data"):
        WORKFLOWS["trainer"][0](tmp_path).decode_onchain(data)
