"""Compiling Solidity with a compiler that is there, and what is said of one that is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ezkl_patches.solidity import (
    SolidityError,
    compile_solidity,
    compiler_command,
    main,
    read_sources,
)
from tests.chain.conftest import CONTRACTS, compiler
from tests.support.processes import clean_environment, is_running

PRAGMA = "// SPDX-License-Identifier: MIT\npragma solidity ^0.8.20;\n"
COUNTER = PRAGMA + "contract Counter { uint256 public count; function add() external { count++; } }"


def script(folder: Path, text: str) -> list[str]:
    """Return the command of a program that is no Solidity compiler."""
    path = folder / "solc"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return [str(path)]


def refused(sources: dict[str, str]) -> str:
    with pytest.raises(SolidityError) as caught:
        compile_solidity(sources, compiler())
    return str(caught.value)


def test_one_command_writes_code_and_abi(tmp_path: Path) -> None:
    (tmp_path / "counter.sol").write_text(COUNTER)
    done = subprocess.run(
        [
            *(sys.executable, "-W", "error", "-m", "ezkl_patches.solidity", "counter.sol"),
            *("--out", "build/here", "--solc", " ".join(compiler())),
        ],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    code = bytes.fromhex((tmp_path / "build/here/Counter.bin").read_text())
    assert done.stdout.splitlines() == [
        f"build/here/Counter.bin: {len(code)} bytes",
        "compiled by solc 0.8.37+commit.f401782d",
    ]
    abi = json.loads((tmp_path / "build/here/Counter.abi.json").read_text())
    assert {function["name"] for function in abi} == {"add", "count"}


def test_imports_are_found_among_the_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(path) for path in CONTRACTS.glob("*.sol")]
    assert main([*files, "--out", str(tmp_path), "--solc", " ".join(compiler())]) == 0
    names = {path.stem for path in tmp_path.glob("*.bin")}
    assert {"Coordinator", "ProofConsumer"} <= names
    assert "CallbackConsumer" not in names  # abstract
    [consumer] = (path for path in files if path.endswith("PromptConsumer.sol"))
    assert main([consumer, "--out", str(tmp_path), "--solc", " ".join(compiler())]) == 2
    assert "CallbackConsumer.sol" in capsys.readouterr().err


def test_the_code_does_not_depend_on_the_name_of_the_file() -> None:
    codes = {
        compile_solidity({name: COUNTER}, compiler()).contracts["Counter"].code
        for name in ("counter.sol", "/elsewhere/other.sol")
    }
    assert len(codes) == 1


def test_a_fault_in_the_source_is_shown_with_its_line() -> None:
    fault = refused({"counter.sol": COUNTER.replace("count++", "cuont++")})
    assert "Undeclared identifier" in fault
    assert "counter.sol:3:" in fault


def test_a_warning_is_told_and_the_code_is_there() -> None:
    done = compile_solidity({"a.sol": COUNTER.replace(PRAGMA, "")}, compiler())
    assert any("SPDX license" in warning for warning in done.warnings)
    assert done.contracts["Counter"].code


def test_sources_that_cannot_be_deployed_are_refused() -> None:
    library = "library L { function f() external {} } "
    contract = "contract A { function g() external { L.f(); } }"
    assert "uses a library" in refused({"a.sol": PRAGMA + library + contract})
    twice = {"a.sol": COUNTER, "b.sol": COUNTER}
    assert "two contracts are named Counter" in refused(twice)
    assert "no contract that can be deployed" in refused({"a.sol": PRAGMA + "interface I {}"})


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(SolidityError, match=r"none\.sol: No such file"):
        read_sources([tmp_path / "none.sol"])
    (tmp_path / "binary.sol").write_bytes(b"\xff\xfe")
    with pytest.raises(SolidityError, match="no text"):
        read_sources([tmp_path / "binary.sol"])


def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "counter.sol"
    source.write_text(COUNTER)
    assert main([str(source), "--out", str(source), "--solc", " ".join(compiler())]) == 2
    assert "counter.sol" in capsys.readouterr().err


# --- compilers --------------------------------------------------------------------------------


def test_the_compiler_on_the_path_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node, solc = compiler()
    [command] = script(tmp_path, f'exec {node} "{solc}" "$@"')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert compiler_command() == [command]
    assert compile_solidity({"a.sol": COUNTER}, compiler_command()).contracts


def test_without_a_compiler_the_advice_is_npm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "counter.sol"
    source.write_text(COUNTER)
    monkeypatch.setenv("PATH", str(tmp_path))
    for options in ([], ["--solc", "solcjs"]):
        assert main([str(source), "--out", str(tmp_path / "out"), *options]) == 2
        assert "npm install solc" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_command_with_an_open_quote_is_refused() -> None:
    with pytest.raises(SolidityError, match="No closing quotation"):
        compiler_command("node 'solc.js")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("exit 0", "is no Solidity compiler: it ended with 0 and said: nothing"),
        ("echo broken >&2; exit 3", "it ended with 3 and said: broken"),
        ("echo '{}'", "is no Solidity compiler"),
        ("echo 'Killed {'; exit 137", "it ended with 137 and said: Killed"),
    ],
)
def test_what_is_no_compiler_is_told_with_what_it_said(
    tmp_path: Path, text: str, match: str
) -> None:
    with pytest.raises(SolidityError, match=match):
        compile_solidity({"a.sol": COUNTER}, script(tmp_path, text))


def test_a_compiler_that_does_not_end_is_ended(tmp_path: Path) -> None:
    command = script(tmp_path, f"echo $$ > {tmp_path}/pid\nexec sleep 60")
    with pytest.raises(SolidityError, match="was not done after 1 seconds"):
        compile_solidity({"a.sol": COUNTER}, command, seconds=1)
    assert not is_running(int((tmp_path / "pid").read_text()))
