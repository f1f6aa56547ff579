"""Proofs of a small trained model: made, checked, refused."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ezkl_patches import FIELD_ORDER, Proof, decode_verify_calldata
from ml.errors import DeadlineExceeded, InvalidInput
from ml.proving.artifact import Artifact
from ml.proving.failures import (
    ArtifactFault,
    OutOfCircuitRange,
    ProofRefused,
    ProvingProcessDied,
)
from ml.proving.prover import ProvedAnswer, Prover
from ml.proving.worker import Worker
from tests.support.circuits import SETOSA, copy_of, iris_artifact, iris_layers
from tests.support.processes import in_background

IRIS = np.array([SETOSA], np.float32)


@pytest.fixture(scope="module")
def answer(prover: Prover) -> ProvedAnswer:
    return prover.prove([IRIS])


def memory_bytes(pid: int) -> int:
    [line] = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(line) * 1024


def test_a_proof_says_the_input_and_nearly_the_models_output(
    prover: Prover, answer: ProvedAnswer
) -> None:
    import torch

    expected = iris_layers()(torch.from_numpy(IRIS)).detach().numpy()
    [output] = answer.outputs
    assert output.shape == expected.shape
    assert output.dtype == np.float32
    assert np.abs(output - expected).max() < 0.01
    prover.artifact.layout.check_inputs(answer.proof.instances, IRIS.tolist())
    [public] = answer.public_values.outputs
    assert np.array_equal(output[0], np.array(public, np.float32))
    assert decode_verify_calldata(answer.calldata) == answer.proof


def test_each_stage_is_told_with_its_seconds(prover: Prover) -> None:
    told: list[tuple[str, float | None]] = []
    answer = prover.prove([IRIS], progress=lambda *stage: told.append(stage))
    assert [name for name, _ in told[::2]] == ["witness", "prove", "verify"]
    assert [seconds for _, seconds in told[::2]] == [None] * 3
    assert dict(told[1::2]) == answer.seconds


def test_the_circuit_alone_gives_the_output_that_is_proved(
    prover: Prover, answer: ProvedAnswer
) -> None:
    [output] = prover.run([IRIS])
    assert np.array_equal(output, answer.outputs[0])


def test_a_proof_is_verified_by_ezkl(prover: Prover, answer: ProvedAnswer) -> None:
    assert prover.verify(answer.proof) == answer.public_values


@pytest.mark.parametrize("position", [0, 1500, 3071])
def test_a_flipped_byte_of_a_proof_is_refused(
    prover: Prover, answer: ProvedAnswer, position: int
) -> None:
    altered = bytearray(answer.proof.proof)
    altered[position] ^= 1
    with pytest.raises(ProofRefused, match="does not hold"):
        prover.verify(replace(answer.proof, proof=bytes(altered)))


@pytest.mark.parametrize("position", range(7))
def test_an_altered_instance_is_refused(
    prover: Prover, answer: ProvedAnswer, position: int
) -> None:
    instances = list(answer.proof.instances)
    instances[position] = (instances[position] + 1) % FIELD_ORDER
    with pytest.raises(ProofRefused, match="does not hold"):
        prover.verify(Proof(answer.proof.proof, tuple(instances)))


def test_lengths_that_a_contract_refuses_are_refused(prover: Prover, answer: ProvedAnswer) -> None:
    """ezkl itself takes a proof with bytes appended."""
    proof, instances = answer.proof.proof, answer.proof.instances
    with pytest.raises(ProofRefused, match=r"has 3104 bytes; those of iris-.* have 3072"):
        prover.verify(Proof(proof + bytes(32), instances))
    with pytest.raises(ProofRefused, match="expected 7 instances; given 6"):
        prover.verify(Proof(proof, instances[:-1]))


def test_a_proof_of_another_artifact_is_refused(
    prover: Prover, answer: ProvedAnswer, worker: Worker
) -> None:
    hashed = Prover(Artifact(iris_artifact(("hashed", "fixed", "public"))), worker)
    with pytest.raises(ProofRefused):
        hashed.verify(answer.proof)
    assert hashed.prove([IRIS]).public_values.inputs == ()


def test_numbers_that_grow_too_large_inside_of_the_circuit_are_refused(prover: Prover) -> None:
    with pytest.raises(OutOfCircuitRange, match="too large for the circuit"):
        prover.prove([np.full((1, 4), 400_000.0)])
    assert prover.run([IRIS])


def test_two_requests_at_once_do_not_mix(prover: Prover) -> None:
    inputs = [IRIS * factor for factor in (1.0, 0.5, 0.25, 0.75)]
    waiting = iter(inputs)
    lock = threading.Lock()

    def prove() -> tuple[np.ndarray, ProvedAnswer]:
        with lock:
            tensor = next(waiting)
        return tensor, prover.prove([tensor])

    with in_background(prove, times=4) as results:
        pass
    assert len(results) == 4
    for tensor, answer in results:
        prover.artifact.layout.check_inputs(answer.proof.instances, tensor.tolist())
        assert np.array_equal(answer.outputs[0], prover.run([tensor])[0])


# --- a process that ends, a deadline ----------------------------------------------------------


def when_proving(action: Callable[[], None]) -> Callable[[str, float | None], None]:
    """Return a progress callback that acts once, when the proof itself begins."""
    done: list[str] = []

    def progress(stage: str, seconds: float | None) -> None:
        if stage == "prove" and not done:
            done.append(stage)
            action()

    return progress


def test_a_process_killed_in_mid_proof_fails_this_request_alone(
    prover: Prover, worker: Worker
) -> None:
    kill = when_proving(lambda: os.kill(worker.pid or 0, signal.SIGKILL))
    with pytest.raises(ProvingProcessDied, match="SIGKILL"):
        prover.prove([IRIS], progress=kill)
    assert prover.verify(prover.prove([IRIS]).proof)


def test_a_proof_over_its_deadline_is_ended_and_the_next_works(prover: Prover) -> None:
    with pytest.raises(DeadlineExceeded):
        prover.prove([IRIS], seconds=0.05)
    assert prover.verify(prover.prove([IRIS]).proof)


def test_a_cancelled_proof_is_ended_and_the_next_works(prover: Prover) -> None:
    cancelled = threading.Event()
    with pytest.raises(DeadlineExceeded, match="cancelled"):
        prover.prove([IRIS], progress=when_proving(cancelled.set), is_cancelled=cancelled.is_set)
    assert prover.verify(prover.prove([IRIS]).proof)


def test_thirty_proofs_take_no_more_memory_than_ten(prover: Prover, worker: Worker) -> None:
    """Less than one proving key, of 4 MB, may stay for each five proofs."""
    for count in range(1, 31):
        prover.prove([IRIS])
        if count == 10:
            pids = [os.getpid(), worker.pid or 0]
            before = [memory_bytes(pid) for pid in pids]
    after = [memory_bytes(pid) for pid in pids]
    for was, now in zip(before, after, strict=True):
        assert now - was < 16_000_000


# --- artifacts that change --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pk.key", "vk.key", "kzg.srs", "network.ezkl", "settings.json"])
def test_a_file_that_is_altered_while_it_is_used_is_named(
    worker: Worker, tmp_path: Path, name: str
) -> None:
    folder = copy_of(iris_artifact(), tmp_path)
    prover = Prover(Artifact(folder), worker)
    path = folder / name
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(ArtifactFault, match=f"{name} of the artifact iris-.* was altered"):
        prover.prove([IRIS])
    path.write_bytes(whole)
    assert prover.run([IRIS])
    path.unlink()
    with pytest.raises(ArtifactFault, match=f"{name}: No such file"):
        prover.prove([IRIS])


def test_an_artifact_that_was_only_touched_goes_on(worker: Worker, tmp_path: Path) -> None:
    folder = copy_of(iris_artifact(), tmp_path)
    prover = Prover(Artifact(folder), worker)
    os.utime(folder / "pk.key", (1, 1))
    assert prover.run([IRIS])


def test_files_of_two_setups_yield_no_proof(worker: Worker, tmp_path: Path) -> None:
    """Their manifest says that they belong together, but the fresh proof does not hold."""
    folder = copy_of(iris_artifact(), tmp_path)
    srs = folder / "kzg.srs"
    other = iris_artifact(("hashed", "fixed", "public")) / "kzg.srs"
    forge(folder, "kzg.srs", other.read_bytes())
    assert srs.stat().st_size == other.stat().st_size
    with pytest.raises(ArtifactFault, match="not of one setup"):
        Prover(Artifact(folder), worker).prove([IRIS])


def forge(folder: Path, name: str, data: bytes) -> None:
    """Replace a file and what the manifest says of it."""
    import hashlib

    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


# --- inputs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tensors", "match"),
    [
        ([], "takes 1 tensors; given 0"),
        ([IRIS, IRIS], "takes 1 tensors; given 2"),
        ([IRIS[:, :3]], r"takes shape \[1, 4\]; given \[1, 3\]"),
        ([IRIS[0]], r"takes shape \[1, 4\]; given \[4\]"),
        ([IRIS > 1], "takes real numbers; given bool"),
        ([IRIS.astype(np.complex64)], "takes real numbers; given complex64"),
        ([IRIS * np.nan], "takes finite numbers"),
        ([IRIS * np.inf], "takes finite numbers"),
    ],
)
def test_what_the_circuit_does_not_take_is_refused_before_ezkl(
    prover: Prover, worker: Worker, tensors: list[np.ndarray], match: str
) -> None:
    with pytest.raises(InvalidInput, match=match):
        prover.prove(tensors)


def test_a_number_beyond_the_circuits_range_names_the_limit(prover: Prover) -> None:
    for value in (524_288.0, -1e30):
        with pytest.raises(OutOfCircuitRange, match="takes numbers within ±524288; given"):
            prover.prove([np.full((1, 4), value)])


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32, np.uint8])
def test_other_real_dtypes_are_taken(prover: Prover, dtype: type) -> None:
    tensor = np.array([[5, 3, 1, 0]], dtype)
    prover.artifact.layout.check_inputs(prover.prove([tensor]).proof.instances, tensor.tolist())
