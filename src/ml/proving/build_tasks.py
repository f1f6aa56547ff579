"""What a worker's process does to build an artifact: each function is one stage."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml.errors import ConfigurationError
from ml.proving import native
from ml.proving.model_faults import explain_model
from ml.proving.native import RunArguments
from ml.proving.tasks import CircuitFiles

if TYPE_CHECKING:
    from ml.proving.worker import Progress

__all__ = [
    "DECOMPOSITIONS",
    "choose_settings",
    "compile_circuit",
    "download_srs",
    "inspect_model",
    "make_keys",
    "make_test_srs",
    "write_verifier",
]

#: Bases and legs that range checks may be cut into. The number of rows is at least the base, so a
#: small base makes small circuits of small models; many legs cost rows in large ones.
DECOMPOSITIONS = ((16384, 2), (1024, 3), (256, 4))


def inspect_model(model: Path, scratch: Path, report: Progress) -> dict[str, Any]:
    """Return settings in which all inputs and outputs are public, for their shapes and types.

    Raises `ConfigurationError` for a model that has no circuit, with the fix where it is known.
    """
    path = scratch / "settings.json"
    try:
        native.gen_settings(model, path, RunArguments())
    except RuntimeError as error:
        raise ConfigurationError(f"{model.name}: {explain_model(model, str(error))}") from None
    return _read(path)


def choose_settings(
    model: Path,
    calibration: Path,
    arguments: RunArguments,
    target: str,
    scratch: Path,
    report: Progress,
) -> dict[str, Any]:
    """Return the calibrated settings with the fewest rows. Raises `ConfigurationError`."""
    best: dict[str, Any] | None = None
    failed = ""
    for base, legs in DECOMPOSITIONS:
        path = scratch / f"settings-{base}.json"
        native.gen_settings(model, path, replace(arguments, decomp_base=base, decomp_legs=legs))
        try:
            native.calibrate_settings(calibration, model, path, target)
        except RuntimeError as error:
            failed = str(error)
            continue
        settings = _read(path)
        if best is None or _logrows(settings) < _logrows(best):
            best = settings
    if best is None:
        raise ConfigurationError(
            f"{model.name}: no scale fits the calibration data: it may hold numbers that are too "
            f"large for a circuit ({failed.rpartition('] ')[2]})"
        )
    return best


def compile_circuit(model: Path, files: CircuitFiles, scratch: Path, report: Progress) -> None:
    """Write the compiled model."""
    native.compile_circuit(model, files.circuit, files.settings)


def make_test_srs(srs: Path, logrows: int, scratch: Path, report: Progress) -> None:
    """Write an SRS that proves nothing to others."""
    native.gen_srs(srs, logrows)


def download_srs(srs: Path, logrows: int, scratch: Path, report: Progress) -> None:
    """Write ezkl's public SRS. Raises `ConfigurationError` where it cannot be reached."""
    try:
        native.get_srs(srs, logrows)
    except RuntimeError as error:
        raise ConfigurationError(
            f"the public SRS for 2^{logrows} rows cannot be downloaded; fetch kzg{logrows}.srs "
            f"elsewhere and give it with --srs ({error})"
        ) from None


def make_keys(files: CircuitFiles, scratch: Path, report: Progress) -> None:
    """Write the proving and the verifying key."""
    native.setup(files.circuit, files.verifying_key, files.proving_key, files.srs)


def write_verifier(files: CircuitFiles, target: Path, scratch: Path, report: Progress) -> None:
    """Write the Solidity source of the verifier."""
    source = scratch / "verifier.sol"
    native.create_evm_verifier(files.verifying_key, files.settings, source, files.srs)
    shutil.copyfile(source, target)


def _read(path: Path) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(path.read_bytes())
    return settings


def _logrows(settings: dict[str, Any]) -> int:
    logrows: int = settings["run_args"]["logrows"]
    return logrows
