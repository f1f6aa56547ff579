"""Proving artifacts of small models, built once for all tests of a run."""

from __future__ import annotations

import json
import runpy
import shutil
import warnings
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ml.proving import native
from ml.proving.building import BuildRequest, build
from ml.proving.manifest import Visibilities
from ml.proving.srs import SrsSource
from ml.proving.tasks import CircuitFiles
from tests.support.shared import made_once

if TYPE_CHECKING:
    from torch import nn

#: An iris that the tests ask about, and its kind.
SETOSA = [5.1, 3.5, 1.4, 0.2]
#: Numbers that stand nowhere else: times and seconds, in which the digits may be, have no sign.
PRIVATE = [-5.234561, -3.345672, -1.456783, -0.567894]
#: How they begin wherever they are written, in float32 too.
TRACES = [str(value)[:7].encode() for value in PRIVATE]


def export(model: nn.Module, path: Path, *inputs: Any, **options: Any) -> Path:
    """Write a torch model as ONNX; `inputs` are tensors as it takes them."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter that needs no further package
        torch.onnx.export(model, inputs, path, dynamo=False, opset_version=17, **options)
    return path


def iris_layers() -> nn.Sequential:
    """Return the built-in iris model up to its logits, float32: 4 numbers to 3."""
    import torch

    from ml.models.built_in import built_in_path

    model = torch.load(built_in_path("iris"), weights_only=False)
    return torch.nn.Sequential(*list(model)[:-1])


@cache
def iris_model() -> Path:
    """Return the iris model as ONNX."""
    import torch

    return made_once("iris.onnx", lambda path: export(iris_layers(), path, torch.tensor([SETOSA])))


@cache
def iris_calibration() -> Path:
    """Return flowers of all sizes as calibration data."""
    generator = np.random.default_rng(0)
    rows = generator.uniform([4.3, 2.0, 1.0, 0.1], [7.9, 4.4, 6.9, 2.5], (8, 4)).round(1)
    text = json.dumps({"input_data": [rows.reshape(-1).tolist()]})
    return made_once("calibration.json", lambda path: path.write_text(text))


@cache
def iris_artifact(visibility: tuple[str, str, str] = ("public", "fixed", "public")) -> Path:
    """Return an artifact of the iris model; visibility is of inputs, parameters and outputs.

    Do not alter it: `copy_of` gives a copy.
    """
    name = "iris" if visibility[0] == "public" else f"iris-{visibility[0]}"
    return _artifact(name, visibility=visibility)


@cache
def built_in_iris_artifact() -> Path:
    """Return an artifact of the whole built-in iris model, softmax included, as the example's."""
    example = Path(__file__).parents[2] / "examples" / "proving" / "export_iris.py"
    folder = made_once("built-in", runpy.run_path(str(example))["main"])
    data = {"model": folder / "iris.onnx", "calibration": folder / "calibration.json"}
    return _artifact("built-in-iris", name="iris", **data)


@cache
def slow_artifact() -> Path:
    """Return an artifact with 2^14 rows, whose proofs take seconds and whose input is private.

    It takes and gives what that of the iris model does.
    """
    import torch

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 256), torch.nn.ReLU(), torch.nn.Linear(256, 3))
    path = made_once("slow.onnx", lambda path: export(model, path, torch.tensor([SETOSA])))
    return _artifact("slow", model=path, visibility=("private", "fixed", "public"))


def iris_request(
    folder: Path,
    *,
    name: str = "iris",
    visibility: tuple[str, str, str] = ("public", "fixed", "public"),
    **changes: Any,
) -> BuildRequest:
    """Return a wish for an artifact of the iris model over an SRS for tests."""
    inputs, parameters, outputs = visibility
    values: dict[str, Any] = {
        "model": iris_model(),
        "calibration": iris_calibration(),
        "folder": folder,
        "name": name,
        "srs": SrsSource("test"),
        "visibility": Visibilities.model_validate(
            {"input": inputs, "param": parameters, "output": outputs}
        ),
    }
    return BuildRequest(**(values | changes))


def copy_of(artifact: Path, folder: Path) -> Path:
    """Return a copy of an artifact that may be altered."""
    return Path(shutil.copytree(artifact, folder / artifact.name))


# --- tasks for a worker's process -------------------------------------------------------------


def make_reusable(files: CircuitFiles, source: Path, vka: Path, *_: Any) -> None:
    """Write the Solidity source that serves all circuits, and the key artifact of this one."""
    import asyncio

    import ezkl

    async def create() -> None:
        paths = [str(path) for path in (files.verifying_key, files.settings, vka)]
        await ezkl.create_evm_vka(*paths, srs_path=str(files.srs))

    native.create_evm_verifier(
        files.verifying_key, files.settings, source, files.srs, reusable=True
    )
    asyncio.run(create())


def _artifact(folder: str, **request: Any) -> Path:
    def make(path: Path) -> None:
        build(iris_request(path, **({"name": folder} | request)), lambda *_: None)

    return made_once(folder, make)
