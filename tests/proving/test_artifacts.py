"""The command that builds artifacts: what it tells, and what it refuses with which reason."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from ml.errors import NotFound
from ml.proving.artifact import COMPILED, FILES, Artifact
from ml.proving.artifacts import main
from ml.proving.prover import Prover
from ml.proving.worker import Worker
from tests.chain.conftest import compiler
from tests.support.circuits import SETOSA, export, iris_artifact, iris_calibration, iris_model
from tests.support.processes import clean_environment

STAGES = ["settings", "compile", "srs", "setup", "verifier", "self-test"]


class Command:
    """Runs the command in this process and keeps what it told."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.out = folder / "artifact"
        self._capsys = capsys
        self.stdout = ""

    def build(self, model: Path, *options: str, calibration: Path | None = None) -> str:
        """Return what stood on standard error; the exit code has to fit to it."""
        data = str(calibration or iris_calibration())
        self._capsys.readouterr()
        code = main(["build", str(model), "--calibration", data, "--out", str(self.out), *options])
        self.stdout, stderr = self._capsys.readouterr()
        assert code == (2 if "error: " in stderr else 0)
        return stderr

    def refuses(self, model: Path, *options: str, **files: Path) -> str:
        stderr = self.build(model, *(options or ("--test-srs",)), **files)
        assert "error: " in stderr
        assert not self.out.exists()
        assert list(self.out.parent.glob(".building*")) == []
        return stderr


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path / "out", capsys)


def test_one_command_makes_an_artifact_that_proves(tmp_path: Path) -> None:
    out = tmp_path / "artifact"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ml.proving.artifacts", "build", iris_model(), "--test-srs"),
            *("--calibration", iris_calibration(), "--out", out, "--name", "flowers"),
        ],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    *lines, summary = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == STAGES
    assert all(re.match(r"\S+ +\d+\.\d\d s", line) for line in lines)
    assert re.match(r"flowers-[0-9a-f]{12}: .* a proof in [\d.]+ s and \d+ MB", summary)
    assert done.stderr.count("WARNING") == 2
    assert "forge" in done.stderr
    with Worker() as worker:
        Prover(Artifact(out), worker).require_usable(seconds=60)


def test_a_given_srs_is_used_without_a_warning(command: Command) -> None:
    srs = iris_artifact() / "kzg.srs"
    assert command.build(iris_model(), "--srs", str(srs)) == ""
    artifact = Artifact(command.out)
    assert artifact.manifest.srs == "given"
    assert (command.out / "kzg.srs").read_bytes() == srs.read_bytes()


def test_a_given_srs_that_is_none_or_too_small_is_refused(command: Command, tmp_path: Path) -> None:
    srs = tmp_path / "kzg.srs"
    srs.write_bytes((3).to_bytes(4, "little") + bytes(128 * 8 + 256))
    stderr = command.refuses(iris_model(), "--srs", str(srs))
    assert "is for 2^3 rows; this circuit needs kzg10.srs" in stderr
    srs.write_bytes(b"no srs")
    assert "no KZG SRS over BN254" in command.refuses(iris_model(), "--srs", str(srs))
    assert "No such file" in command.refuses(iris_model(), "--srs", str(tmp_path / "none"))


def test_a_public_srs_that_cannot_be_reached_says_what_to_do(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    stderr = command.refuses(iris_model(), "--public-srs")
    assert "the public SRS for 2^10 rows cannot be downloaded" in stderr
    assert "give it with --srs" in stderr


def test_a_circuit_over_the_memory_limit_is_refused_with_numbers(command: Command) -> None:
    stderr = command.refuses(iris_model(), "--test-srs", "--memory-limit-bytes", "45000000")
    assert re.search(r"2\^10 rows, .* about 51 MB for a proof, over the limit of 45 MB", stderr)


# --- the verifier's code ----------------------------------------------------------------------


@pytest.fixture
def no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def test_a_compiler_makes_the_verifiers_code_part_of_the_artifact(command: Command) -> None:
    command.build(iris_model(), "--test-srs", "--solc", shlex.join(compiler()))
    assert re.search(r"verifier .* bytecode of \d+ bytes by solc 0\.8\.37\+", command.stdout)
    artifact = Artifact(command.out)
    assert (artifact.manifest.verifier_compiler or "").startswith("0.8.37+commit.")
    assert set(artifact.manifest.files) == {*FILES, *COMPILED}
    assert bytes.fromhex(artifact.read("verifier.bin").decode())
    [function] = json.loads(artifact.read("verifier.abi.json"))
    assert function["name"] == "verifyProof"


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_the_artifact_is_built_and_says_what_is_missing(
    command: Command,
) -> None:
    command.build(iris_model(), "--test-srs")
    assert "no bytecode: there is no solc or solcjs on PATH; `npm install solc`" in command.stdout
    artifact = Artifact(command.out)
    assert artifact.manifest.verifier_compiler is None
    for name in COMPILED:
        with pytest.raises(NotFound, match=f"has no {name}: .* `npm install solc`"):
            artifact.read(name)
    with pytest.raises(NotFound, match=r"has no model\.onnx$"):
        artifact.read("model.onnx")


def test_a_compiler_on_the_path_may_be_left_out(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solc = tmp_path / "solc"
    solc.write_text("#!/bin/sh\necho broken >&2\n")
    solc.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    command.build(iris_model(), "--test-srs", "--no-bytecode")
    assert "bytecode" not in command.stdout
    command.out = tmp_path / "again"
    command.build(iris_model(), "--test-srs")
    assert "no bytecode: " in command.stdout
    assert "and said: broken" in command.stdout


def test_a_compiler_that_was_named_has_to_work(command: Command) -> None:
    assert "solc: there is no command nosolc" in command.refuses(
        iris_model(), "--test-srs", "--solc", "nosolc"
    )
    assert command.stdout == ""  # before the first stage
    assert "solc: No closing quotation" in command.refuses(
        iris_model(), "--test-srs", "--solc", "'"
    ).replace("solc: ': ", "solc: ")
    assert "is no Solidity compiler" in command.refuses(iris_model(), "--test-srs", "--solc", "cat")


# --- models that cannot work ------------------------------------------------------------------


class Sorted(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.sort(-1).values


class Truth(nn.Module):
    def forward(self, x: Any) -> Any:
        return x.float() + 1


def test_a_float64_linear_layer_is_refused_with_the_fix(command: Command, tmp_path: Path) -> None:
    import torch

    row = torch.tensor([SETOSA]).double()
    model = export(nn.Sequential(nn.Linear(4, 2)).double(), tmp_path / "double.onnx", row)
    stderr = command.refuses(model)
    assert "float64 nn.Linear (Gemm)" in stderr
    assert "model.float()" in stderr


def test_float64_input_with_float32_weights_works(command: Command, tmp_path: Path) -> None:
    """The fix that the refusal names."""
    import numpy as np
    import torch

    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            return self.layer(x.to(torch.float32))

    model = export(Fixed(), tmp_path / "fixed.onnx", torch.tensor([SETOSA]).double())
    assert "error" not in command.build(model, "--test-srs")
    artifact = Artifact(command.out)
    assert [tensor.dtype for tensor in artifact.manifest.inputs] == ["F64"]
    with Worker() as worker:
        answer = Prover(artifact, worker).prove([np.array([SETOSA])])
    artifact.layout.check_inputs(answer.proof.instances, [SETOSA])


def test_an_operator_without_a_circuit_is_named(command: Command, tmp_path: Path) -> None:
    import torch

    model = export(Sorted(), tmp_path / "sort.onnx", torch.tensor([SETOSA]))
    assert "the operator Topk (node '/TopK') has no circuit" in command.refuses(model)


def test_half_floats_booleans_and_free_dimensions_are_refused(
    command: Command, tmp_path: Path
) -> None:
    import torch

    half = nn.Sequential(nn.Linear(4, 2)).half()
    model = export(half, tmp_path / "half.onnx", torch.tensor([SETOSA]).half())
    assert "16-bit floats" in command.refuses(model)
    model = export(Truth(), tmp_path / "truth.onnx", torch.tensor([[True] * 4]))
    assert "takes booleans" in command.refuses(model)
    free = {"input_names": ["x"], "dynamic_axes": {"x": {0: "rows"}}}
    model = export(nn.Linear(4, 2), tmp_path / "free.onnx", torch.tensor([SETOSA]), **free)
    assert "dimension 'rows' of input 'x' has no size" in command.refuses(model)


def test_what_is_no_model_is_refused(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    assert "no such file" in command.refuses(path)
    path.write_bytes(b"no onnx at all")
    assert "model.onnx is not an ONNX model" in command.refuses(path)


# --- calibration data, folders and names ------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "not valid JSON"),
        ("[]", 'expected {"input_data"'),
        ('{"input_data": []}', 'expected {"input_data"'),
        ('{"input_data": [[[1, 2]]]}', "flat list of finite numbers"),
        ('{"input_data": [[1, NaN, 2, 3]]}', "flat list of finite numbers"),
        ('{"input_data": [[true, 1, 2, 3]]}', "flat list of finite numbers"),
        ('{"input_data": [[1, 2, 3]]}', "expected a multiple of 4 numbers; the data has 3"),
        ('{"input_data": [[1, 2, 3, 4], [1]]}', "takes 1 tensors; the data has 2"),
    ],
)
def test_calibration_data_that_does_not_fit_is_refused(
    command: Command, tmp_path: Path, text: str, match: str
) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(text)
    assert match in command.refuses(iris_model(), calibration=path)


def test_a_folder_that_exists_is_not_written_over(command: Command) -> None:
    command.out.mkdir(parents=True)
    (command.out / "mine").write_text("")
    assert "exists; give a new folder" in command.build(iris_model(), "--test-srs")
    assert [path.name for path in command.out.iterdir()] == ["mine"]


def test_a_name_that_is_no_name_is_refused(command: Command) -> None:
    assert "name: '../iris'" in command.refuses(iris_model(), "--test-srs", "--name", "../iris")


def test_the_source_of_the_srs_has_to_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["build", "model.onnx", "--calibration", "c.json", "--out", "x"])
    assert "one of the arguments --srs --public-srs --test-srs is required" in (
        capsys.readouterr().err
    )


def test_the_self_test_is_the_first_input_of_the_calibration() -> None:
    first = json.loads(iris_calibration().read_text())["input_data"][0][:4]
    assert json.loads(Artifact(iris_artifact()).self_test) == {"input_data": [first]}
