"""BentoML with one worker, without access log lines.

bentoml serve bentoml_service:Classifier --working-dir benchmarks/peers --port PORT
"""

from typing import Any

import bentoml
import torch
from torch import nn


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Classifier:
    def __init__(self) -> None:
        layers = nn.Linear(69, 64), nn.ReLU(), nn.Linear(64, 2), nn.Softmax(-1)
        self.model = nn.Sequential(*layers).double()

    @bentoml.api(route="/service_output")
    def service_output(self, source: int, data: dict[str, Any]) -> dict[str, Any]:
        with torch.inference_mode():
            output = self.model(torch.tensor(data["values"], dtype=torch.float64))
        return {"dtype": "double", "shape": list(output.shape), "values": output.tolist()}
