"""Write the embedded iris model as ONNX, with calibration data, into a folder.

python examples/proving/export_iris.py artifacts
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch

from ml.models.built_in import built_in_path


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # Our own file. Its softmax is left out: it costs most of a proof and orders nothing anew.
    model = torch.load(built_in_path("iris"), weights_only=False)[:-1]
    rows = np.random.default_rng(0).uniform([4.3, 2.0, 1.0, 0.1], [7.9, 4.4, 6.9, 2.5], (8, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter that needs no further package
        example = torch.tensor([[5.1, 3.5, 1.4, 0.2]])
        torch.onnx.export(model, (example,), folder / "iris.onnx", dynamo=False, opset_version=17)
    data = {"input_data": [rows.round(1).reshape(-1).tolist()]}
    (folder / "calibration.json").write_text(json.dumps(data))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
