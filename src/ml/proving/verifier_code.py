"""Compiles an artifact's verifier, so that whoever deploys it needs no compiler."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ezkl_patches.solidity import (
    Compilation,
    SolidityError,
    compile_solidity,
    compiler_command,
    read_sources,
)
from ml.errors import ConfigurationError

__all__ = ["VerifierCompiler"]


@dataclass(frozen=True)
class VerifierCompiler:
    """A compiler by its command, as a user writes it; by default what is on PATH, if it is."""

    command: str = ""

    def check(self) -> None:
        """Raise `ConfigurationError` for a command that is not there."""
        if self.command:
            try:
                [program, *_] = compiler_command(self.command)
            except ValueError as error:
                raise ConfigurationError(f"solc: {error}") from None
            if shutil.which(program) is None:
                raise ConfigurationError(f"solc: there is no command {program}")

    def put(self, source: Path, code: Path, abi: Path) -> tuple[str | None, str]:
        """Write the code and the ABI of a verifier; returns the compiler's version and a remark.

        Without a compiler on PATH, or with one that fails, nothing is written and the version is
        None. Raises `ConfigurationError` where the user's own fails.
        """
        try:
            done = self._compile(source)
        except SolidityError as error:
            if self.command:
                raise ConfigurationError(f"solc: {error}") from None
            return None, f"no bytecode: {str(error).splitlines()[0]}"
        [verifier] = done.contracts.values()
        verifier.write(code, abi)
        return done.compiler, f"bytecode of {len(verifier.code)} bytes by solc {done.compiler}"

    def _compile(self, source: Path) -> Compilation:
        return compile_solidity(read_sources([source]), compiler_command(self.command))
