"""Write the embedded iris model as ONNX, with calibration data, into a folder.

python examples/proving/export_iris.py artifacts
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ml.models.built_in import built_in_path


class SmallSoftmax(nn.Module):
    """Softmax by sums and products alone, within 0.001 of the real one.

    ezkl has exp as a table, which makes one proof take a minute and 4 GB. Here exp(x) is
    exp(x / 16) ** 16, and exp(x / 16) the first terms of its series; below -8 it is as good as 0.
    """

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        x = (logits - logits.max(dim=-1, keepdim=True).values).clamp(min=-8.0) / 16
        powers = 1 + x * (1 + x / 2 * (1 + x / 3))
        for _ in range(4):
            powers = powers * powers
        return powers / powers.sum(dim=-1, keepdim=True)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    *layers, _ = torch.load(built_in_path("iris"), weights_only=False)  # our own file
    model = nn.Sequential(*layers, SmallSoftmax()).eval()
    rows = np.random.default_rng(0).uniform([4.3, 2.0, 1.0, 0.1], [7.9, 4.4, 6.9, 2.5], (8, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter that needs no further package
        example = torch.tensor([[5.1, 3.5, 1.4, 0.2]])
        torch.onnx.export(model, (example,), folder / "iris.onnx", dynamo=False, opset_version=17)
    data = {"input_data": [rows.round(1).reshape(-1).tolist()]}
    (folder / "calibration.json").write_text(json.dumps(data))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where the files go; made if it is not there")
    main(parser.parse_args().folder)
