"""The command that builds proving artifacts:

python -m ml.proving.artifacts build model.onnx --calibration data.json --out DIR --srs kzg10.srs
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ml.errors import CONFIGURATION_EXIT_CODE, ConfigurationError
from ml.proving.building import BuildRequest, build
from ml.proving.manifest import Visibilities
from ml.proving.srs import SrsKind, SrsSource
from ml.proving.verifier_code import VerifierCompiler

__all__ = ["main"]

_TEST_SRS_WARNING = """\
WARNING: --test-srs: the secret of this SRS was on this machine, so whoever kept it can forge
WARNING: proofs of anything. Never deploy its verifier; use --srs or --public-srs for that.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build an artifact and return the exit code: 0, or 2 with the reason on standard error."""
    options = _parser().parse_args(arguments)
    if options.test_srs:
        sys.stderr.write(_TEST_SRS_WARNING)
    try:
        manifest = build(_request(options), _tell)
    except ConfigurationError as error:
        sys.stderr.write(f"error: {error}\n")
        return CONFIGURATION_EXIT_CODE
    memory = manifest.memory_bytes / 1e6
    sys.stdout.write(
        f"{manifest.id}: {options.out}, a proof in {manifest.proof_seconds} s and {memory:.0f} MB\n"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ml.proving.artifacts")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("build", help="make a folder that proofs can be made with")
    command.add_argument("model", type=Path, help="an ONNX file")
    command.add_argument(
        "--calibration",
        type=Path,
        required=True,
        help='inputs as they come in practice: {"input_data": [[numbers of a tensor], …]}',
    )
    command.add_argument("--out", type=Path, required=True, help="the folder to make")
    command.add_argument("--name", help="of the artifact; the model file's by default")
    srs = command.add_mutually_exclusive_group(required=True)
    srs.add_argument("--srs", type=Path, help="a file such as kzg10.srs, of a public ceremony")
    srs.add_argument("--public-srs", action="store_true", help="let ezkl download it")
    srs.add_argument("--test-srs", action="store_true", help="make one here; proofs can be forged")
    for name, values in (
        ("input", ("public", "private", "hashed")),
        ("param", ("fixed", "private", "hashed")),
        ("output", ("public", "private", "hashed")),
    ):
        command.add_argument(f"--{name}-visibility", choices=values, default=values[0])
    command.add_argument("--target", choices=("resources", "accuracy"), default="resources")
    solc = command.add_mutually_exclusive_group()
    solc.add_argument(
        "--solc", default="", help="the Solidity compiler; solc or solcjs on PATH by default"
    )
    solc.add_argument("--no-bytecode", action="store_true", help="do not compile the verifier")
    command.add_argument("--memory-limit-bytes", type=int, help="refuse what needs more")
    return parser


def _request(options: argparse.Namespace) -> BuildRequest:
    kind: SrsKind = "given" if options.srs else "public" if options.public_srs else "test"
    return BuildRequest(
        model=options.model,
        calibration=options.calibration,
        folder=options.out,
        name=options.name or options.model.stem,
        srs=SrsSource(kind, options.srs),
        visibility=Visibilities(
            input=options.input_visibility,
            param=options.param_visibility,
            output=options.output_visibility,
        ),
        target=options.target,
        memory_limit_bytes=options.memory_limit_bytes,
        compiler=None if options.no_bytecode else VerifierCompiler(options.solc),
    )


def _tell(stage: str, seconds: float, remark: str) -> None:
    sys.stdout.write(f"{stage:<10} {seconds:7.2f} s  {remark}".rstrip() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
