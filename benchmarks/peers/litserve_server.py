"""LitServe with one API process and one inference process.

python benchmarks/peers/litserve_server.py PORT                  69-64-2, float64
python benchmarks/peers/litserve_server.py PORT MODEL BATCH      a model file, float32, in batches
"""

import sys
from typing import Any

import litserve
import torch
from torch import nn


class Classifier(litserve.LitAPI):
    def __init__(self, model_file: str | None, **options: Any) -> None:
        super().__init__(api_path="/service_output", **options)
        self.model_file = model_file

    def setup(self, device: str) -> None:
        if self.model_file is None:
            layers = nn.Linear(69, 64), nn.ReLU(), nn.Linear(64, 2), nn.Softmax(-1)
            self.model, self.dtype = nn.Sequential(*layers).double(), torch.float64
        else:  # made by the benchmark itself
            self.model = torch.load(self.model_file, weights_only=False)
            self.dtype = torch.float32

    def decode_request(self, request: dict[str, Any], **_: Any) -> torch.Tensor:
        return torch.tensor(request["data"]["values"], dtype=self.dtype)

    def batch(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat(inputs)

    def predict(self, x: torch.Tensor, **_: Any) -> torch.Tensor:
        with torch.inference_mode():
            return self.model(x)

    def unbatch(self, output: torch.Tensor) -> list[torch.Tensor]:
        return list(output.split(1))

    def encode_response(self, output: torch.Tensor, **_: Any) -> dict[str, Any]:
        return {"shape": list(output.shape), "values": output.tolist()}


def main(port: int, model_file: str | None = None, batch: str = "1") -> None:
    timeout = 0.002 if int(batch) > 1 else 0.0
    api = Classifier(model_file, max_batch_size=int(batch), batch_timeout=timeout)
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=port,
        num_api_servers=1,
        log_level="error",
        access_log=False,
        generate_client_file=False,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
