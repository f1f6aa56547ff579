"""Jobs on a real Ray cluster of three nodes on this machine, whose nodes and head are killed.

The tests share the cluster, in which each job has a name of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.errors import ConfigurationError
from ml.finetuning.export_request import ExportJobRequest, ExportRequest
from ml.finetuning.model_exports import EXPORT
from ml.finetuning.settings import TrainerSettings
from ml.jobs.engine import JobEngine
from ml.jobs.job import Job, JobState, StopRequest
from ml.jobs.settings import JobSettings
from ml.jobs.store import JobStore
from ml.proving.artifact import Artifact
from ml.proving.proof_jobs import ProofJobs
from ml.proving.prover import Prover
from ml.proving.worker import Worker
from tests.support.circuits import SETOSA, iris_artifact
from tests.support.finetuning import REQUEST, save_small_llm, write_rows
from tests.support.jobs import PostgresqlServer, job_at_step, job_in
from tests.support.processes import (
    CLIENT,
    ROOT,
    Server,
    clean_environment,
    free_port,
    is_running,
    until,
)
from tests.support.ray_cluster import RayCluster, ray_command
from tests.support.requests import eventually
from tests.support.step_job import KIND
from tests.support.trace_receiver import TraceReceiver

pytestmark = [
    pytest.mark.skipif(ray_command() is None, reason="Ray is not installed: make test-ray"),
    pytest.mark.timeout(400),
]

StartEngine = Callable[..., Awaitable[JobEngine]]
ENDLESS = {"steps": 100_000, "pause_seconds": 0.02}
FINAL = [state for state in JobState if state.is_final]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    save_small_llm(root / "small")
    return root


@pytest.fixture(scope="module")
def cluster(models: Path) -> Iterator[RayCluster]:
    """A head and two nodes of one CPU each."""
    with RayCluster(PYTHONPATH=str(ROOT), MODELS_PATH=str(models)) as cluster:
        cluster.start_head()
        cluster.start_node()
        cluster.start_node()
        yield cluster


@pytest.fixture
def url(postgresql: PostgresqlServer) -> str:
    return postgresql.new_database()


@pytest.fixture
async def start_engine(cluster: RayCluster, url: str, tmp_path: Path) -> AsyncIterator[StartEngine]:
    """Start what a service has for its jobs; all jobs that are left are ended with the test."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> JobEngine:
            environment = settings.pop("environment", {})
            on_end = settings.pop("on_end", None)
            files_url = settings.pop("files_url", None)
            given = {
                "ray_token": cluster.token,
                "grace_seconds": 10,
                "job_slots": 4,
                "lost_seconds": 30,
                **settings,
            }
            engine = JobEngine(
                tmp_path,
                JobSettings(
                    executor="ray",
                    database_url=url,
                    ray_address=cluster.address,
                    **given,
                ),
                environment=environment,
                files_url=files_url,
                on_end=on_end,
            )
            stack.push_async_callback(engine.close)
            stack.push_async_callback(end_all, engine)
            await engine.open()
            await engine.start()
            return engine

        yield start


async def end_all(engine: JobEngine) -> None:
    try:
        store = engine.store
    except Exception:  # the test has closed it
        return
    for job in await store.list([JobState.QUEUED, JobState.RUNNING]):
        await store.request_stop(job.id, StopRequest.CANCEL)
    for job in await store.list():
        await job_in(store, job.id, *FINAL)


def text_of(path: Path) -> str:
    return path.read_text()


def files_of_variables(folder: Path) -> list[Path]:
    return list(folder.rglob("environment-*.json"))


def command_lines(cluster: RayCluster) -> str:
    found = []
    for pid in (pid for node in cluster.nodes for pid in node.pids()):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append(Path(f"/proc/{pid}/cmdline").read_text())
    assert any("ml.jobs.child" in line for line in found)
    return "\n".join(found)


async def steps_of(store: JobStore, job_id: str) -> list[int]:
    events = await store.events(job_id, limit=100_000)
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    return [event.data["step"] for event in events if event.type == "progress"]


async def test_a_job_runs_on_a_node_and_no_secret_is_where_others_read_it(
    cluster: RayCluster, start_engine: StartEngine, url: str, tmp_path: Path
) -> None:
    ended: list[Job] = []

    async def on_end(job: Job) -> None:
        ended.append(job)

    secret = "hunter2-of-the-tests"
    engine = await start_engine(on_end=on_end, environment={"A_SECRET": secret})
    await engine.store.create(KIND, {"steps": 300, "pause_seconds": 0.02}, "hides")
    job = await job_at_step(engine.store, "hides", 3)
    node = cluster.node_of(job.process["pid"])
    assert node is not None
    assert node is not cluster.head
    told = json.dumps(cluster.get("/api/jobs/"))
    assert "hides-1" in told
    for hidden in (secret, url, cluster.token):
        assert hidden not in told
        assert hidden not in command_lines(cluster)
    assert not files_of_variables(tmp_path)  # the job took it away
    job = await job_in(engine.store, "hides", *FINAL)
    assert (job.state, job.result) == (JobState.SUCCEEDED, {"first": 0, "steps": 300})
    assert await steps_of(engine.store, "hides") == list(range(300))
    assert text_of(tmp_path / "jobs" / "hides" / "log.txt") == "the last words\n"
    await eventually(lambda: [one.state for one in ended] == [JobState.SUCCEEDED])


async def test_a_token_that_the_cluster_does_not_take_is_a_fault_of_the_settings(
    start_engine: StartEngine,
) -> None:
    with pytest.raises(ConfigurationError, match=r"^ray_token: .* does not take the token$"):
        await start_engine(ray_token="of another cluster")


async def test_three_jobs_on_two_nodes_run_two_at_once(
    cluster: RayCluster, start_engine: StartEngine
) -> None:
    engine = await start_engine()
    names = ("one", "two", "three")
    for name in names:
        await engine.store.create(KIND, {"steps": 100, "pause_seconds": 0.05}, name)
    seen: dict[str, int] = {}
    most = 0
    while await engine.store.list([JobState.QUEUED, JobState.RUNNING]):
        jobs = await engine.store.list([JobState.RUNNING])
        begun = {job.id: job.process["pid"] for job in jobs if "pid" in job.process}
        most = max(most, sum(map(is_running, begun.values())))
        seen |= begun
        await asyncio.sleep(0.05)
    jobs = [await engine.store.get(name) for name in names]
    assert [(job.state, job.attempt) for job in jobs] == [(JobState.SUCCEEDED, 1)] * 3
    assert len(set(seen.values())) == 3
    assert most == 2
    for name in names:
        assert await steps_of(engine.store, name) == list(range(100))


async def test_a_running_job_that_is_cancelled_saves_and_one_without_a_node_ends_at_once(
    cluster: RayCluster, start_engine: StartEngine, tmp_path: Path
) -> None:
    engine = await start_engine()
    store = engine.store
    await store.create(KIND, ENDLESS, "runs")
    await job_at_step(store, "runs", 3)
    await store.create(KIND, {"steps": 1, "resources": {"cpus": 64}}, "waits")
    await eventually(lambda: cluster.get("/api/jobs/waits-1"))
    await store.request_stop("waits", StopRequest.CANCEL)
    waits = await job_in(store, "waits", JobState.CANCELLED)
    assert waits.reason == "It was stopped before a node had taken it up."
    await store.request_stop("runs", StopRequest.CANCEL)
    runs = await job_in(store, "runs", JobState.CANCELLED)
    saved = int(text_of(tmp_path / "jobs" / "runs" / "step"))
    assert saved == runs.progress["step"] + 1
    await eventually(lambda: not files_of_variables(tmp_path))


async def test_a_job_that_does_not_stop_is_killed_after_its_time(
    start_engine: StartEngine,
) -> None:
    engine = await start_engine(grace_seconds=1)
    await engine.store.create(KIND, ENDLESS | {"stubborn": True}, "stubborn")
    job = await job_at_step(engine.store, "stubborn", 3)
    await engine.store.request_stop("stubborn", StopRequest.CANCEL)
    cancelled = await job_in(engine.store, "stubborn", JobState.CANCELLED)
    assert cancelled.reason == "It did not stop within 1 s and was killed."
    until(lambda: not is_running(job.process["pid"]), "the job is gone")


async def test_a_killed_process_leaves_an_interrupted_job_that_goes_on(
    start_engine: StartEngine,
) -> None:
    engine = await start_engine()
    await engine.store.create(KIND, {"steps": 50, "pause_seconds": 0.02}, "killed")
    job = await job_at_step(engine.store, "killed", 3)
    os.kill(job.process["pid"], signal.SIGKILL)
    job = await job_in(engine.store, "killed", JobState.INTERRUPTED)
    assert job.reason == "Its process was killed by SIGKILL, probably out of memory."
    await engine.store.requeue("killed")
    job = await job_in(engine.store, "killed", *FINAL)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2)
    assert job.result is not None
    assert job.result["first"] > 0


async def test_a_job_goes_on_while_its_service_is_away_and_the_next_one_tells_its_end(
    start_engine: StartEngine, url: str
) -> None:
    ended: list[Job] = []

    async def on_end(job: Job) -> None:
        ended.append(job)

    engine = await start_engine()
    await engine.store.create(KIND, ENDLESS, "outlives")
    first = await job_at_step(engine.store, "outlives", 3)
    await engine.close()
    async with JobStore(url) as store:
        later = await job_at_step(store, "outlives", first.progress["step"] + 20)
    assert later.process == first.process
    engine = await start_engine(on_end=on_end)
    await engine.store.request_stop("outlives", StopRequest.CANCEL)
    await job_in(engine.store, "outlives", JobState.CANCELLED)
    await eventually(lambda: [job.id for job in ended] == ["outlives"])


async def test_training_on_a_killed_node_goes_on_elsewhere_with_the_losses_of_an_unbroken_run(
    cluster: RayCluster, start_engine: StartEngine, tmp_path: Path
) -> None:
    environment = workplace(tmp_path)
    engine = await start_engine(environment=environment)
    store = engine.store
    request = REQUEST | {"max_steps": 30, "save_steps": 5}
    for name in ("broken", "whole"):
        await store.create("ml.finetuning.job", request | {"output_dir": name}, name)
    job = await job_at_step(store, "broken", 12)
    os.kill(job.process["pid"], signal.SIGSTOP)  # so that it is not done before its node dies
    node = cluster.node_of(job.process["pid"])
    assert node is not None
    node.kill()
    job = await job_in(store, "broken", *FINAL)
    assert (job.state, job.reason) == (
        JobState.INTERRUPTED,
        "Its node died, or what watched over it there.",
    )
    cluster.start_node(waiting=False)
    await store.requeue("broken")
    jobs = [await job_in(store, name, *FINAL) for name in ("broken", "whole")]
    assert [(job.state, job.attempt, job.reason) for job in jobs] == [
        (JobState.SUCCEEDED, 2, None),
        (JobState.SUCCEEDED, 1, None),
    ]
    assert await losses(store, "broken") == pytest.approx(await losses(store, "whole"), rel=1e-6)


def workplace(folder: Path) -> dict[str, str]:
    """Return the settings by which a trainer finds its folders, of which one has data."""
    (folder / "input").mkdir()
    (folder / "output").mkdir()
    pairs = [(f"Which colour has house {n}?", f"It is colour {n % 4}.") for n in range(16)]
    write_rows(folder / "input" / "rows.jsonl", pairs)
    return {
        "INPUT_PATH": str(folder / "input"),
        "OUTPUT_PATH": str(folder / "output"),
        "WORKING_PATH": str(folder),
        "TRAINER_DTYPE": "float32",
    }


def test_the_service_trains_on_a_node_by_settings_alone(
    cluster: RayCluster, models: Path, url: str, tmp_path: Path
) -> None:
    port = free_port()
    environment = clean_environment(
        **workplace(tmp_path),
        MODELS_PATH=str(models),
        TRAINER_EXECUTOR="ray",
        TRAINER_RAY_ADDRESS=cluster.address,
        TRAINER_RAY_TOKEN=cluster.token,
        TRAINER_DATABASE_URL=url,
    )
    command = ["serve", "unsloth_trainer_service", f"--bind=127.0.0.1:{port}"]
    with Server(command, port=port, environment=environment) as server:
        server.wait_ready()
        request = REQUEST | {"resources": {"cpus": 0.5}, "output_dir": "tuned"}
        reply = CLIENT.post(f"{server.url}/finetune", json=request)
        assert reply.status_code == 200, reply.text
        job_id = reply.json()["job_id"]
        ended = ("succeeded", "failed")
        until(lambda: server.get(f"/jobs/{job_id}").json()["status"] in ended, "it ends", 120)
        job = server.get(f"/jobs/{job_id}").json()
        assert job["status"] == "succeeded", job
        known = f"/api/jobs/{job_id}-1"
        until(lambda: cluster.get(known)["status"] == "SUCCEEDED", "Ray knows it by its name")
        assert (tmp_path / "output" / "tuned" / "adapter_model.safetensors").is_file()
        assert cluster.token not in server.stdout + server.stderr


async def losses(store: JobStore, job_id: str) -> dict[int, float]:
    events = await store.events(job_id, limit=10_000)
    found = {event.data["step"]: event.data["loss"] for event in events if event.type == "progress"}
    assert sorted(found) == list(range(1, 31))
    return found


async def test_a_proof_runs_on_a_node_and_its_input_goes_with_its_end(
    cluster: RayCluster, url: str, tmp_path: Path
) -> None:
    proved: list[Any] = []
    settings = JobSettings(
        executor="ray",
        database_url=url,
        ray_address=cluster.address,
        ray_token=cluster.token,
    )
    jobs = ProofJobs(
        tmp_path, [iris_artifact()], settings, memory_limit_bytes=None, proved=proved.append
    )
    prover = Prover(Artifact(iris_artifact()), Worker())  # which starts no process
    await jobs.open()
    try:
        job = await jobs.submit(prover, [np.array([SETOSA], np.float32)])
        job = await job_in(jobs.store, job.id, *FINAL)
        assert job.state is JobState.SUCCEEDED, job.reason
        assert job.result is not None
        assert job.result["proof"]
        await eventually(lambda: proved)
    finally:
        await jobs.close()
    assert not list_of_inputs(tmp_path)


def list_of_inputs(folder: Path) -> list[Path]:
    return list(folder.rglob("input*"))


async def test_a_job_on_a_node_tells_of_its_work_as_its_service_does(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TraceReceiver() as receiver:
        for name, value in (receiver.variables | {"OTEL_SERVICE_NAME": "the service"}).items():
            monkeypatch.setenv(name, value)
        engine = await start_engine()
        await engine.store.create(KIND, {"steps": 1}, "traced")
        await job_in(engine.store, "traced", JobState.SUCCEEDED)
        await eventually(
            lambda: (
                [
                    (span.service, span.name)
                    for span in receiver.spans
                    if span.attributes.get("job.id") == "traced"
                ]
                == [("the service", KIND)]
            )
        )


async def test_a_head_that_dies_and_comes_back_empty_loses_nothing(
    cluster: RayCluster, start_engine: StartEngine
) -> None:
    engine = await start_engine(resume_interrupted=True, lost_seconds=10)
    store = engine.store
    await store.create(KIND, {"steps": 100, "pause_seconds": 0.05}, "stays")
    await job_at_step(store, "stays", 3)
    assert cluster.head is not None
    cluster.head.kill()
    await store.create(KIND, {"steps": 2}, "comes")
    await job_in(store, "comes", JobState.RUNNING)
    for node in cluster.nodes:
        if node.is_up:  # they would end themselves, once the head is away for long
            node.kill()
    cluster.start_head()
    cluster.start_node()
    jobs = [await job_in(store, name, JobState.SUCCEEDED) for name in ("comes", "stays")]
    assert [job.attempt for job in jobs] == [1, 2]
    steps = await steps_of(store, "stays")
    assert sorted(set(steps)) == list(range(100))
    assert len(steps) - len(set(steps)) <= 1  # the step that was not saved is done again


async def test_training_on_nodes_that_share_no_folder_goes_on_elsewhere_as_exports_do(
    cluster: RayCluster, start_engine: StartEngine, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    (there / "input").mkdir(parents=True)
    pairs = [(f"Which colour has house {n}?", f"It is colour {n % 4}.") for n in range(16)]
    write_rows(there / "input" / "rows.jsonl", pairs)
    url = f"file://{there}"
    settings = TrainerSettings(working_path=tmp_path, files_url=url, dtype="float32")
    engine = await start_engine(environment=settings.environment(), files_url=url)
    store = engine.store
    request = REQUEST | {"max_steps": 30, "save_steps": 5, "output_dir": "tuned"}
    await store.create("ml.finetuning.job", request, "moves")
    job = await job_at_step(store, "moves", 12)
    os.kill(job.process["pid"], signal.SIGKILL)
    await job_in(store, "moves", JobState.INTERRUPTED)
    shutil.rmtree(tmp_path / "jobs" / "moves")
    shutil.rmtree(tmp_path / "copies")
    await store.requeue("moves")
    job = await job_in(store, "moves", *FINAL)
    assert (job.state, job.attempt, job.reason) == (JobState.SUCCEEDED, 2, None)
    assert sorted(await losses(store, "moves")) == list(range(1, 31))
    assert (there / "output" / "tuned" / "adapter_model.safetensors").is_file()
    asked = ExportJobRequest.of(ExportRequest(exports=["merged_16bit"]), "tuned", "moves", request)
    await store.create(EXPORT, asked.model_dump(mode="json"), "export")
    job = await job_in(store, "export", *FINAL)
    assert job.state is JobState.SUCCEEDED, job.reason
    assert (there / "output" / "tuned-merged" / "model.safetensors").is_file()
    assert (there / "output" / "tuned-merged" / ".job").read_text() == "moves"
    assert not files_of_variables(there)
