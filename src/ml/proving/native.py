"""ezkl's calls, typed by hand: the stub that it ships is wrong. Only for a worker's process.

Each raises `RuntimeError` or pyo3's PanicException, which is no `Exception`. No call checks what it
is given: a wrong SRS or key yields a proof that does not hold, a file of another version may abort.
Source: the signatures of ezkl 23.0.5 itself.
"""

from __future__ import annotations

import asyncio
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "RunArguments",
    "calibrate_settings",
    "compile_circuit",
    "create_evm_verifier",
    "gen_settings",
    "gen_srs",
    "gen_witness",
    "get_srs",
    "prove",
    "setup",
    "verify",
]


@dataclass(frozen=True)
class RunArguments:
    """How a circuit is made; numbers are cut into `decomp_legs` digits to the base `decomp_base`.

    `input_visibility` and `output_visibility` are "public", "private" or "hashed",
    `param_visibility` "fixed", "private" or "hashed".
    """

    input_visibility: str = "public"
    param_visibility: str = "fixed"
    output_visibility: str = "public"
    decomp_base: int = 16384
    decomp_legs: int = 2


def gen_settings(model: Path, settings: Path, arguments: RunArguments) -> None:
    """Write the settings of a model's circuit."""
    run_args = _ezkl().PyRunArgs()
    for name, value in vars(arguments).items():
        setattr(run_args, name, value)
    _ezkl().gen_settings(str(model), str(settings), py_run_args=run_args)


def calibrate_settings(data: Path, model: Path, settings: Path, target: str) -> None:
    """Rewrite scales and rows by data; the target is "resources" or "accuracy"."""
    _ezkl().calibrate_settings(str(data), str(model), str(settings), target)


def compile_circuit(model: Path, circuit: Path, settings: Path) -> None:
    """Write the compiled model."""
    _ezkl().compile_circuit(str(model), str(circuit), str(settings))


def gen_srs(srs: Path, logrows: int) -> None:
    """Write an SRS whose secret this process knew: for tests alone."""
    _ezkl().gen_srs(str(srs), logrows)


def get_srs(srs: Path, logrows: int) -> None:
    """Download the public SRS of the perpetual powers of tau."""

    async def download() -> None:
        await _ezkl().get_srs(logrows=logrows, srs_path=str(srs))

    asyncio.run(download())


def setup(circuit: Path, verifying_key: Path, proving_key: Path, srs: Path) -> None:
    """Write both keys."""
    _ezkl().setup(str(circuit), str(verifying_key), str(proving_key), srs_path=str(srs))


def gen_witness(data: Path, circuit: Path, witness: Path) -> dict[str, Any]:
    """Run the circuit; `inputs` and `outputs` of the result are field elements for each tensor."""
    result: dict[str, Any] = _ezkl().gen_witness(str(data), str(circuit), str(witness))
    return result


def prove(
    witness: Path, circuit: Path, proving_key: Path, proof: Path, srs: Path
) -> dict[str, Any]:
    """Return a proof, as `instances` and `proof`. It is not checked: call `verify`."""
    result: dict[str, Any] = _ezkl().prove(
        str(witness), str(circuit), str(proving_key), str(proof), srs_path=str(srs)
    )
    return result


def verify(proof: Path, settings: Path, verifying_key: Path, srs: Path) -> None:
    """Raise unless a proof holds."""
    if not _ezkl().verify(str(proof), str(settings), str(verifying_key), srs_path=str(srs)):
        raise RuntimeError("verify returned false")


def create_evm_verifier(
    verifying_key: Path, settings: Path, source: Path, srs: Path, *, reusable: bool = False
) -> None:
    """Write the Solidity source of the verifier."""
    source.unlink(missing_ok=True)

    async def create() -> None:
        abi = source.with_suffix(".abi")
        paths = [str(path) for path in (verifying_key, settings, source, abi)]
        await _ezkl().create_evm_verifier(*paths, srs_path=str(srs), reusable=reusable)

    try:
        asyncio.run(create())
    except RuntimeError as error:
        # Once the source is written, it wants a compiler from the network to derive the ABI.
        if "svm error" not in str(error) or not source.exists():
            raise


def _ezkl() -> Any:
    return importlib.import_module("ezkl")
