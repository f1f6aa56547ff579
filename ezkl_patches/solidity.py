"""Compiles Solidity with a compiler that is installed here: npm's `solc`, or the native one.

    python -m ezkl_patches.solidity verifier.sol --out build --solc node_modules/.bin/solcjs

writes `CONTRACT.bin`, the code that deploys a contract in hex, and `CONTRACT.abi.json`. The
verifiers that ezkl generates compile in one way alone: with the optimizer, and not through the IR.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

__all__ = [
    "Compilation",
    "Contract",
    "SolidityError",
    "compile_solidity",
    "compiler_command",
    "main",
    "read_sources",
]

_ADVICE = "`npm install solc` brings one: node_modules/.bin/solcjs"
_EXIT_CODE = 2
#: What the same source and compiler make of these is the same code on every machine: the names of
#: the files are left out of it. All chains that take 0.8.20's code take Shanghai's.
_SETTINGS = {
    "optimizer": {"enabled": True, "runs": 1},
    "viaIR": False,
    "evmVersion": "shanghai",
    "metadata": {"bytecodeHash": "none"},
    "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object", "metadata"]}},
}


class SolidityError(ValueError):
    """There is no compiler, it failed, or it refused the sources: the text says which."""


@dataclass(frozen=True)
class Contract:
    """A compiled contract.

    Attributes:
        code: what a transaction deploys it with; its constructor's arguments follow.
        abi: its functions, events and errors, as the compiler lists them.
    """

    code: bytes
    abi: list[dict[str, Any]]

    def write(self, code: Path, abi: Path) -> None:
        """Write the code in hex, without 0x, and the ABI as JSON."""
        code.write_text(self.code.hex() + "\n")
        abi.write_text(json.dumps(self.abi, indent=2) + "\n")


@dataclass(frozen=True)
class Compilation:
    """What a compiler made of sources.

    Attributes:
        compiler: its version, such as "0.8.37+commit.…".
        contracts: by name; interfaces and abstract contracts, which have no code, are left out.
        warnings: each with its place in the source.
    """

    compiler: str
    contracts: dict[str, Contract]
    warnings: tuple[str, ...]


def compiler_command(text: str = "") -> list[str]:
    """Return a command that a user wrote as one line; without one, that of a compiler on PATH.

    Raises `SolidityError` if there is none, and for a line whose quotes do not close.
    """
    if text:
        try:
            return shlex.split(text)
        except ValueError as error:
            raise SolidityError(f"{text}: {error}") from None
    for name in ("solc", "solcjs"):
        if path := shutil.which(name):
            return [path]
    raise SolidityError(f"there is no solc or solcjs on PATH; {_ADVICE}")


def read_sources(paths: Iterable[Path]) -> dict[str, str]:
    """Return the sources of files by their paths, which is how imports find them.

    Raises `SolidityError` for a file that cannot be read.
    """
    try:
        return {path.as_posix(): path.read_text() for path in paths}
    except OSError as error:
        raise SolidityError(f"{error.filename}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SolidityError("a source is no text in UTF-8") from None


def compile_solidity(
    sources: Mapping[str, str], command: Sequence[str], *, seconds: float = 120
) -> Compilation:
    """Return the contracts of sources by file name; every file that they import is among these.

    `command` starts a compiler, `["solc"]` or `["node", "node_modules/solc/solc.js"]`; it gets
    `--standard-json`. Raises `SolidityError`, also when it takes longer than `seconds`.
    """
    request = {
        "language": "Solidity",
        "sources": {name: {"content": source} for name, source in sources.items()},
        "settings": _SETTINGS,
    }
    output = _run([*command, "--standard-json"], json.dumps(request), seconds)
    faults = output.get("errors", [])
    if refusals := [_text(fault) for fault in faults if fault.get("severity") == "error"]:
        raise SolidityError("\n".join(refusals))
    found = [
        (name, contract)
        for file in output.get("contracts", {}).values()
        for name, contract in file.items()
        if contract["evm"]["bytecode"]["object"]
    ]
    if not found:
        raise SolidityError("the sources hold no contract that can be deployed")
    return Compilation(
        compiler=json.loads(found[0][1]["metadata"])["compiler"]["version"],
        contracts=dict(_contracts(found)),
        warnings=tuple(map(_text, faults)),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile files and return the exit code: 0, or 2 with the reason on standard error."""
    options = _parser().parse_args(arguments)
    try:
        command = compiler_command(options.solc)
        done = compile_solidity(read_sources(options.files), command)
        options.out.mkdir(parents=True, exist_ok=True)
        for name, contract in done.contracts.items():
            contract.write(options.out / f"{name}.bin", options.out / f"{name}.abi.json")
    except (SolidityError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return _EXIT_CODE
    for warning in done.warnings:
        sys.stderr.write(f"{warning.rstrip()}\n")
    for name, contract in done.contracts.items():
        sys.stdout.write(f"{options.out / name}.bin: {len(contract.code)} bytes\n")
    sys.stdout.write(f"compiled by solc {done.compiler}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ezkl_patches.solidity")
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE.sol", help="with all that they import"
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder for code and ABI")
    parser.add_argument(
        "--solc", default="", help="the compiler's command; solc or solcjs on PATH by default"
    )
    return parser


def _run(command: Sequence[str], request: str, seconds: float) -> dict[str, Any]:
    shown = shlex.join(command)
    # By files, because solc of npm neither waits for all of a pipe's input nor until a pipe took
    # all of its output.
    with tempfile.TemporaryFile("w+") as stdin, tempfile.TemporaryFile("w+") as stdout:
        stdin.write(request)
        stdin.seek(0)
        try:
            done = _start(command, stdin, stdout, seconds)
        except OSError as error:
            raise SolidityError(f"{command[0]}: {error.strerror}; {_ADVICE}") from None
        except subprocess.TimeoutExpired:
            raise SolidityError(f"{shown} was not done after {seconds:g} seconds") from None
        stdout.seek(0)
        text = stdout.read()
    try:
        output = json.loads(text[text.index("{") :])  # a remark may stand before it
    except ValueError:
        output = None
    if not isinstance(output, dict) or not {"contracts", "errors"} & set(output):
        said = done.stderr.strip() or text.strip() or "nothing"
        raise SolidityError(
            f"{shown} is no Solidity compiler: it ended with {done.returncode} and said: "
            f"{said[-500:]}"
        )
    return output


def _start(
    command: Sequence[str], stdin: IO[str], stdout: IO[str], seconds: float
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 (the user names the command)
        command,
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )


def _contracts(found: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Contract]]:
    names = set()
    for name, contract in found:
        if name in names:
            raise SolidityError(f"two contracts are named {name}: compile them one by one")
        names.add(name)
        try:
            code = bytes.fromhex(contract["evm"]["bytecode"]["object"])
        except ValueError:
            raise SolidityError(f"{name} uses a library, which this does not link") from None
        yield name, Contract(code, contract["abi"])


def _text(fault: Mapping[str, Any]) -> str:
    return str(fault.get("formattedMessage") or fault["message"])


if __name__ == "__main__":
    sys.exit(main())
