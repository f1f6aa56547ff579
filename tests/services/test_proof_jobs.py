"""Long proofs over HTTP: real services that are asked, stopped and killed in mid-proof."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from ml.infernet.tensor_request import TensorRequest
from ml.infernet.vector import DataType, Vector
from ml.proving.manifest import Manifest
from tests.services.conftest import curls_of_readme
from tests.support.circuits import PRIVATE, SETOSA, TRACES, iris_artifact, slow_artifact
from tests.support.event_reader import read_events
from tests.support.processes import (
    ROOT,
    Server,
    children_of,
    clean_environment,
    files_with,
    free_port,
    in_background,
    is_running,
    until,
)

#: The first test that asks for it waits for an artifact to be built.
NAME = "ezkl_proof_service"
IRIS = {"dtype": "float", "values": [SETOSA], "model_id": "iris"}
SLOW = {"dtype": "float", "values": [PRIVATE], "model_id": "slow"}
ENDS = ("succeeded", "failed", "cancelled", "interrupted")

Start = Callable[..., Server]


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """Start services that keep their jobs, temporary files and all, in one folder."""
    with ExitStack() as stack:

        def serve(folder: Path, *, hurried: bool = False, **settings: str) -> Server:
            (folder / "tmp").mkdir(exist_ok=True)
            if hurried:  # the slow artifact's proofs are jobs, and the service starts without one
                # Not less: the small artifact's own proof has to fit at a start on a busy machine.
                seconds = Manifest.read(slow_artifact()).proof_seconds * 0.95
                settings["EZKL_WORKFLOW_KW_ARGS"] = json.dumps({"proof_seconds": seconds})
                settings["EZKL_REQUEST_TIMEOUT_SECONDS"] = str(seconds)
            port = free_port()
            example = ROOT / "services" / NAME / ".env.example"
            command = ["serve", NAME, f"--env-file={example}", f"--bind=127.0.0.1:{port}"]
            artifacts = [str(iris_artifact()), str(slow_artifact())]
            environment = clean_environment(
                EZKL_WORKFLOW_POSITIONAL_ARGS=json.dumps(artifacts),
                EZKL_DRAIN_DELAY_SECONDS="0",
                TMPDIR=str(folder / "tmp"),
                **settings,
            )
            server = Server(command, port=port, environment=environment, directory=folder)
            return stack.enter_context(server).wait_ready()

        yield serve


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("proofs")


@pytest.fixture(scope="module")
def service(start: Start, folder: Path) -> Server:
    return start(folder)


@pytest.fixture(scope="module")
def proved(service: Server) -> dict[str, Any]:
    """A job of the slow artifact from its request to its end."""
    return wait_for(service, queued(service, SLOW)["job_id"])


def post(service: Server, path: str, body: Any = None) -> httpx.Response:
    return httpx.post(service.url + path, json=body, timeout=60)


def queued(service: Server, data: Any) -> dict[str, Any]:
    """Return the view of a new job."""
    return accepted(post(service, "/proofs", data))


def accepted(reply: httpx.Response) -> dict[str, Any]:
    """Return the view in a reply that says that a job was made."""
    assert reply.status_code == 202, reply.text
    view: dict[str, Any] = reply.json()
    address = f"/proofs/{view['job_id']}"
    assert reply.headers["location"] == address
    assert view["addresses"] == {
        "state": address,
        "events": f"{address}/events",
        "cancel": f"{address}/cancel",
    }
    assert view["expected_seconds"] > 0
    return view


def state(service: Server, job_id: str) -> dict[str, Any]:
    reply = service.get(f"/proofs/{job_id}")
    assert reply.status_code == 200, reply.text
    view: dict[str, Any] = reply.json()
    return view


def wait_for(service: Server, job_id: str, *states: str) -> dict[str, Any]:
    """Wait until a job has ended, or is in one of these states."""

    def there() -> dict[str, Any] | None:
        view = state(service, job_id)
        return view if view["status"] in (states or ENDS) else None

    view: dict[str, Any] = until(there, f"{job_id} {states}", 60)
    return view


def in_mid_proof(service: Server, job_id: str) -> dict[str, Any]:
    """Wait until a job has begun the proof itself."""

    def proves() -> dict[str, Any] | None:
        view = state(service, job_id)
        assert view["status"] not in ENDS, view["reason"]
        return view if view["progress"].get("stage") == "prove" else None

    view: dict[str, Any] = until(proves, f"{job_id} proves", 60)
    return view


def events(service: Server, job_id: str, **headers: str) -> list[dict[str, Any]]:
    """Read a job's events to their end."""
    return read_events(f"{service.url}/proofs/{job_id}/events", headers)


def prover_of(service: Server) -> int:
    """Return the process that proves in place."""
    for worker in service.children():
        for pid in children_of(worker):
            if b"ml.proving.worker_process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    raise AssertionError("no process proves")


# --- a whole job ----------------------------------------------------------------------------


def test_a_job_ends_with_an_answer_whose_proof_holds(
    service: Server, proved: dict[str, Any]
) -> None:
    assert (proved["status"], proved["error"]) == ("succeeded", None)
    assert proved["artifact"].startswith("slow-")
    result = proved["result"]
    assert set(result) == set(service.post(IRIS).json())
    assert result["public_values"]["inputs"] == []
    body = {"calldata": result["calldata"], "artifact": "slow"}
    checked = post(service, "/verify", body).json()
    assert checked["valid"]
    assert np.allclose(checked["public_values"]["outputs"], result["outputs"]["values"])
    assert service.metrics()['proof_seconds_count{stage="prove"}'] >= 1


def test_its_events_are_whole_and_in_order_however_often_they_are_read(
    service: Server, proved: dict[str, Any]
) -> None:
    job_id = proved["job_id"]
    first, *stored = events(service, job_id)
    assert (first["event"], first["data"]["job_id"]) == ("init", job_id)
    assert [int(event["id"]) for event in stored] == list(range(1, len(stored) + 1))
    begun = [event["data"]["stage"] for event in stored if event["event"] == "stage"][::2]
    assert begun == ["artifact", "witness", "prove", "verify"]
    assert stored[-1] == {"id": str(len(stored)), "event": "complete", "data": proved["result"]}
    half = len(stored) // 2
    assert events(service, job_id, **{"Last-Event-ID": str(half)})[1:] == stored[half:]
    assert service.get(f"/proofs/{job_id}/events?after={len(stored)}").status_code == 204
    history = service.get(f"/proofs/{job_id}/events/history?after={half}").json()["events"]
    assert [event["data"] for event in history] == [event["data"] for event in stored[half:]]


def test_the_curls_of_the_readme_lead_to_a_proof(service: Server) -> None:
    readme = ROOT / "services" / NAME / "README.md"
    [script] = [c for c in curls_of_readme(readme, service.url) if "/proofs" in c]
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert "event: complete" in ran.stdout
    assert json.loads(ran.stdout.splitlines()[-1])["status"] == "succeeded"


def test_jobs_are_listed_newest_first_without_their_results(
    service: Server, proved: dict[str, Any]
) -> None:
    newer = queued(service, IRIS)["job_id"]
    listed = service.get("/proofs").json()["proofs"]
    assert listed[0]["job_id"] == newer
    assert {view["result"] for view in listed} == {None}
    [newest] = service.get("/proofs?limit=1").json()["proofs"]
    rest = service.get(f"/proofs?after={newest['job_id']}").json()["proofs"]
    assert [view["job_id"] for view in (newest, *rest)] == [view["job_id"] for view in listed]
    wait_for(service, newer)


# --- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        ({"dtype": "float", "values": [[1.0]]}, 400, "takes shape [1, 4]"),
        ({**IRIS, "values": [[1e9, 0, 0, 0]]}, 400, "takes numbers within"),
        ({**IRIS, "values": [["1", 0, 0, 0]]}, 400, "expected numbers"),
        ({**IRIS, "dtype": "bool", "values": [[True] * 4]}, 400, "real numbers"),
        ({**IRIS, "model_id": "none"}, 404, "no artifact 'none'; give one of iris, slow"),
        ([], 400, "expected an object"),
    ],
)
def test_a_wrong_request_is_told_what_is_due_and_queues_nothing(
    service: Server, data: Any, status: int, message: str
) -> None:
    before = service.get("/proofs").json()
    reply = post(service, "/proofs", data)
    assert reply.status_code == status, reply.text
    assert message in reply.json()["description"]
    assert service.get("/proofs").json() == before


@pytest.mark.parametrize("body", [b"", b"{", b'{"dtype":"float","values":[[NaN,1,1,1]]}', b"\xff"])
def test_a_body_that_is_no_json_is_a_400(service: Server, body: bytes) -> None:
    reply = httpx.post(f"{service.url}/proofs", content=body, timeout=30)
    assert reply.status_code == 400
    assert "no JSON" in reply.json()["description"]


@pytest.mark.parametrize("job_id", ["none", "..%2f..%2fetc", "proof_%f0%9f%a6%8a", "a" * 500])
def test_an_unknown_job_is_not_found(service: Server, job_id: str) -> None:
    for path in ("", "/events", "/events/history"):
        assert service.get(f"/proofs/{job_id}{path}").status_code == 404
    for path in ("/cancel", "/resume"):
        assert post(service, f"/proofs/{job_id}{path}").status_code == 404


@pytest.mark.parametrize("query", ["limit=0", "limit=²", "limit=1e3", f"limit={'9' * 5000}"])
def test_a_limit_that_is_no_number_is_a_400(service: Server, query: str) -> None:
    assert service.get(f"/proofs?{query}").status_code == 400


def test_what_ended_is_neither_cancelled_nor_resumed(
    service: Server, proved: dict[str, Any]
) -> None:
    assert not proved["resumable"]
    for action in ("cancel", "resume"):
        reply = post(service, f"/proofs/{proved['job_id']}/{action}")
        assert reply.status_code == 409
        assert "succeeded" in reply.json()["description"]
    assert service.get("/proofs?after=none").status_code == 404


# --- in place or later ----------------------------------------------------------------------


def test_while_four_proofs_are_made_in_place_the_service_lives(service: Server) -> None:
    times = []
    with in_background(lambda: [service.post(IRIS) for _ in range(3)], times=4) as results:
        while len(results) < 4:
            reply = service.get("/health/live")
            times.append(reply.elapsed.total_seconds())
    assert [reply.status_code for replies in results for reply in replies] == [200] * 12
    assert len(times) > 10
    assert sorted(times)[len(times) // 2] < 0.1


@pytest.fixture(scope="module")
def hurried(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Server:
    return start(tmp_path_factory.mktemp("hurried"), hurried=True)


def test_a_proof_that_is_expected_to_take_too_long_is_a_job(hurried: Server) -> None:
    view = accepted(hurried.post(SLOW))
    assert (view["status"], view["position"]) == ("queued", 1)
    assert view["artifact"].startswith("slow-")
    proof = {"source": 1, "data": SLOW, "requires_proof": True}
    second = accepted(post(hurried, "/service_output", proof))
    assert second["position"] in (1, 2)
    assert post(hurried, f"/proofs/{second['job_id']}/cancel").json()["status"] == "cancelled"
    assert wait_for(hurried, view["job_id"])["result"]["calldata"].startswith("0x1e8e1e13")
    wrong = hurried.post({**SLOW, "values": [[1.0]]})
    assert wrong.status_code == 400


def test_a_contract_is_told_at_once_that_it_cannot_wait(hurried: Server) -> None:
    vector = Vector(np.array([PRIVATE], np.float32), DataType.FLOAT32)
    chain = TensorRequest(vector, model_id="slow").encode().hex()
    before = hurried.get("/proofs").json()
    for message in (
        {"source": 0, "data": chain, "requires_proof": True},
        {"source": 1, "data": SLOW, "destination": 0, "requires_proof": True},
        {"source": 1, "data": SLOW, "destination": 2},
    ):
        reply = post(hurried, "/service_output", message)
        assert reply.status_code == 504, reply.text
        assert re.fullmatch(
            r"The proof is expected to end in [\d.]+ s; this request has [\d.]+ s\. "
            r"POST /proofs makes a job of it\.",
            reply.json()["description"],
        )
    for_next = post(hurried, "/service_output", {"source": 0, "data": chain, "destination": 1})
    assert for_next.json().keys() == {"dtype", "shape", "values"}  # which nobody proves
    assert hurried.get("/proofs").json() == before


def test_a_job_is_asked_for_by_the_address_that_a_node_knows(hurried: Server) -> None:
    proof = {"source": 1, "destination": 1, "data": SLOW, "requires_proof": True}
    job_id = accepted(post(hurried, "/service_output", proof))["job_id"]
    question = {**proof, "data": {"job_id": job_id}}

    def answered() -> httpx.Response | None:
        reply = post(hurried, "/service_output", question)
        assert reply.json()["job_id"] == job_id
        return reply if reply.status_code == 200 else None

    view = until(answered, "the proof is told", 60).json()
    assert "code" not in view
    assert view["status"] == "succeeded"
    assert view["result"]["calldata"].startswith("0x1e8e1e13")
    assert view == state(hurried, job_id)
    for data, status, match in (
        ({"job_id": "proof-none"}, 404, "proof-none"),
        ({"job_id": 7}, 400, "data.job_id"),
        ({"job_id": "\0"}, 404, ""),
    ):
        refused = post(hurried, "/service_output", {**question, "data": data})
        assert refused.status_code == status
        assert refused.json()["code"] == str(status)
        assert match in refused.json()["description"]
    for destination in (0, 2):
        refused = post(hurried, "/service_output", {**question, "destination": destination})
        assert refused.status_code == 400
        assert "data.job_id" in refused.json()["description"]
    assert post(hurried, "/proofs", {"job_id": job_id}).status_code == 400


def test_a_proof_that_was_expected_to_fit_and_did_not_is_told_of_jobs(hurried: Server) -> None:
    with in_background(lambda: hurried.post(IRIS)) as results:
        os.kill(prover_of(hurried), signal.SIGSTOP)
    [reply] = results
    assert reply.status_code == 504
    assert reply.json()["description"].endswith("POST /proofs makes a job of it.")
    until(lambda: hurried.post(IRIS).status_code == 200, "another process proves")


def test_a_check_of_a_proof_has_the_deadline_of_a_request(
    hurried: Server, proved: dict[str, Any]
) -> None:
    body = {"calldata": proved["result"]["calldata"], "artifact": "slow"}

    def is_valid() -> bool:
        return bool(post(hurried, "/verify", body).json().get("valid"))

    until(is_valid, "the process checks")
    os.kill(prover_of(hurried), signal.SIGSTOP)
    assert post(hurried, "/verify", body).status_code == 504
    until(is_valid, "another process checks")


# --- what stops in mid-proof ----------------------------------------------------------------


def test_a_cancelled_proof_ends_within_seconds(service: Server, folder: Path) -> None:
    job_id = queued(service, SLOW)["job_id"]
    view = in_mid_proof(service, job_id)
    assert view["progress"]["stages"].keys() == {"artifact", "witness"}
    assert files_with(folder, *TRACES)
    assert post(service, f"/proofs/{job_id}/cancel").json()["stop"] == "cancel"
    assert wait_for(service, job_id)["status"] == "cancelled"
    assert service.get(f"/proofs/{job_id}/events?after=99").status_code == 204


def test_a_proof_that_sigterm_interrupts_is_resumed_after_the_restart(
    start: Start, proved: dict[str, Any], tmp_path: Path
) -> None:
    first = start(tmp_path, hurried=True)
    job_id = queued(first, SLOW)["job_id"]
    in_mid_proof(first, job_id)
    first.signal(signal.SIGTERM)
    assert first.wait() == 0
    second = start(tmp_path, hurried=True)
    view = state(second, job_id)
    assert (view["status"], view["resumable"]) == ("interrupted", True)
    reply = post(second, f"/proofs/{job_id}/resume")
    assert (reply.status_code, reply.json()["status"]) == (202, "queued")
    view = wait_for(second, job_id)
    assert (view["status"], view["attempt"]) == ("succeeded", 2)
    ours, due = view["result"]["public_values"], proved["result"]["public_values"]
    assert ours == due
    _, *stored = events(second, job_id)
    assert [int(event["id"]) for event in stored] == list(range(1, len(stored) + 1))
    assert not files_with(tmp_path, *TRACES)


def test_a_service_that_is_killed_leaves_a_job_to_resume_and_no_trace_of_inputs(
    start: Start, tmp_path: Path
) -> None:
    first = start(tmp_path, hurried=True)
    job_id = queued(first, SLOW)["job_id"]
    in_mid_proof(first, job_id)
    in_place = prover_of(first)
    workers = first.children()
    for pid in (first.process.pid, *workers):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not is_running(in_place), "its process has ended")
    second = start(tmp_path, hurried=True)
    assert wait_for(second, job_id)["status"] == "interrupted"
    assert [path.name for path in files_with(tmp_path, *TRACES)] == ["input.json"]
    assert post(second, f"/proofs/{job_id}/cancel").json()["status"] == "cancelled"
    assert not files_with(tmp_path, *TRACES)
    [left] = (tmp_path / "tmp").glob("proving-*")  # the second service's
    second.signal(signal.SIGTERM)
    assert second.wait() == 0
    assert not left.exists()


def test_a_private_input_is_in_no_record_log_or_file_afterwards(
    service: Server, proved: dict[str, Any], folder: Path
) -> None:
    for view in service.get("/proofs").json()["proofs"]:
        wait_for(service, view["job_id"])
    until(lambda: not files_with(folder, *TRACES), "no trace in files")
    texts = service.stdout + service.stderr
    texts += service.get(f"/proofs/{proved['job_id']}").text
    texts += service.get(f"/proofs/{proved['job_id']}/events/history").text
    assert not [trace for trace in TRACES if trace.decode() in texts]


def test_a_working_folder_that_cannot_be_made_ends_the_service_with_code_2(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [Path(sys.executable).parent / "serve", NAME, "--check"],
        env=clean_environment(
            EZKL_WORKFLOW_POSITIONAL_ARGS=json.dumps([str(iris_artifact())]),
            WORKING_PATH=str(tmp_path / "file" / "working"),
        ),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "working/proofs cannot be made: Not a directory" in done.stderr
    assert "Traceback" not in done.stderr
