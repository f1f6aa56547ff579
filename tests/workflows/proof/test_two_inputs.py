"""A circuit of two inputs: the library proves it; a request, which holds one tensor, is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from ml.errors import InvalidInput
from ml.proving.artifact import Artifact
from ml.proving.building import build
from ml.proving.prover import Prover
from ml.proving.worker import Worker
from ml.workflows.proof.ezkl_proof_workflow import EZKLProofWorkflow
from tests.support.circuits import export, iris_request

ROW, WEIGHT = [[0.5, -1.5]], [[2.0]]


class Weighted(nn.Module):
    def forward(self, row: Any, weight: Any) -> Any:
        return row * weight


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    folder = tmp_path_factory.mktemp("two")
    tensors = torch.tensor(ROW), torch.tensor(WEIGHT)
    model = export(Weighted(), folder / "weighted.onnx", *tensors)
    calibration = folder / "calibration.json"
    calibration.write_text(json.dumps({"input_data": [ROW[0] * 3, WEIGHT[0] * 3]}))
    request = iris_request(
        folder / "weighted", name="weighted", model=model, calibration=calibration
    )
    build(request, lambda *_: None)
    return folder / "weighted"


def test_the_prover_takes_two_tensors(artifact: Path) -> None:
    with Worker() as worker:
        prover = Prover(Artifact(artifact), worker)
        answer = prover.prove([np.array(ROW, np.float32), np.array(WEIGHT, np.float32)])
        values = prover.verify(answer.proof)
    assert values.inputs == ((0.5, -1.5), (2.0,))
    assert values.outputs == ((1.0, -3.0),)


async def test_a_request_is_refused_with_the_number_of_tensors(artifact: Path) -> None:
    workflow = EZKLProofWorkflow(artifact)
    await workflow.setup()
    try:
        with pytest.raises(InvalidInput, match="the circuit takes 2 tensors; given 1"):
            await workflow.inference({"dtype": "float", "values": ROW})
    finally:
        await workflow.close()
