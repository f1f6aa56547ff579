"""Which library loads a model file: by the file's ending, or by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from ml.errors import ConfigurationError, did_you_mean
from ml.extras import how_to_install, is_installed
from ml.models.formats.catboost_file import load_catboost
from ml.models.formats.lightgbm_file import load_lightgbm
from ml.models.formats.onnx_file import load_mapped_onnx, load_onnx
from ml.models.formats.onnx_weights import weight_files
from ml.models.formats.openvino_file import files_of_openvino, load_openvino
from ml.models.formats.skops_file import load_skops
from ml.models.formats.xgboost_file import load_xgboost
from ml.models.tensor_model import Load

__all__ = ["ENGINES", "Engine", "engine_for", "engine_of"]

_PICKLES = (".pkl", ".pickle", ".joblib", ".sav")


@dataclass(frozen=True, slots=True)
class Engine:
    """A library that runs models.

    Attributes:
        endings: of the files that are its own; it may load others where it is asked for.
        module: what is imported of it.
        extra: the extra of this distribution that brings it.
        load: imports it, and loads a file.
        beside: the names of the further files that a model has, relative to the folder of its own.
        load_mapped: as `load`, with weights that stay in their file, if it can that.
        takes_classes: whether a file may hold classes that have to be allowed.
    """

    endings: tuple[str, ...]
    module: str
    extra: str
    load: Load
    beside: Callable[[Path], Sequence[str]] = lambda _: ()
    load_mapped: Load | None = None
    takes_classes: bool = False


ENGINES = {
    "onnxruntime": Engine(
        (".onnx",), "onnxruntime", "onnx", load_onnx, weight_files, load_mapped_onnx
    ),
    "openvino": Engine((".xml",), "openvino", "openvino", load_openvino, files_of_openvino),
    "sklearn": Engine((".skops",), "skops", "sklearn", load_skops, takes_classes=True),
    "xgboost": Engine((".json", ".ubj"), "xgboost", "xgboost", load_xgboost),
    "lightgbm": Engine((".txt",), "lightgbm", "lightgbm", load_lightgbm),
    "catboost": Engine((".cbm",), "catboost", "catboost", load_catboost),
}


def engine_of(filename: str) -> str | None:
    """Return the name of the library that a file is for, None where its ending does not tell."""
    ending = PurePath(filename).suffix.lower()
    return next((name for name, engine in ENGINES.items() if ending in engine.endings), None)


def engine_for(filename: str, asked: str | None) -> tuple[str, Engine]:
    """Return the library for a file: the one that was asked for, or by the file's ending.

    Raises `ConfigurationError` for an ending that says nothing, a name that is none, and a library
    that is not installed.
    """
    name = asked or engine_of(filename)
    if name is None:
        raise ConfigurationError(f"{filename}: {_why_none(filename)}")
    if name not in ENGINES:
        raise ConfigurationError(
            f"engine: {name!r} is none of {', '.join(ENGINES)}{did_you_mean(name, list(ENGINES))}"
        )
    engine = ENGINES[name]
    if not is_installed(engine.module):
        raise ConfigurationError(
            f"{filename}: {engine.module} is not installed: {how_to_install(engine.extra)}"
        )
    return name, engine


def _why_none(filename: str) -> str:
    if filename.lower().endswith(_PICKLES):
        return (
            "a pickle can run any code, so it is not loaded; save the model with skops.io.dump, or "
            "as ONNX"
        )
    known = ", ".join(ending for engine in ENGINES.values() for ending in engine.endings)
    return f"no library is known for this ending; known are {known}, or name one with engine"
