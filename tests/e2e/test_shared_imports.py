"""Several workers have in memory together what was imported before they were forked."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from ml.workflows.inference.torch_inference_workflow import TorchInferenceWorkflow
from tests.conftest import StartServer
from tests.support.processes import Server, is_running, until
from tests.support.sharing import Draws, HangsInConstructor, HangsInImport, StartsThread

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is asked")

BUILT_IN = {"model_source": "BUILT_IN", "model_args": {"name": "iris"}}
#: Of torch and of the application, what a process writes while they are imported.
_IMPORTED_KB = 100_000


def threads_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def has_torch(pid: int) -> bool:
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


def shared_kilobytes(pid: int) -> int:
    """Return how much that was written, and is in no file, a process has together with others."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    [size] = [line.split()[1] for line in lines if line.startswith("Shared_Dirty:")]
    return int(size)


def test_workers_share_torch_and_the_supervisor_has_no_thread(start_server: StartServer) -> None:
    server = start_server(TorchInferenceWorkflow, workers=2, workflow_kw_args=BUILT_IN)
    server.wait_ready(2)
    assert has_torch(server.process.pid)
    assert threads_of(server.process.pid) == 1
    assert all(shared_kilobytes(worker) > _IMPORTED_KB for worker in server.children())


def test_one_worker_imports_for_itself(start_server: StartServer) -> None:
    server = start_server(TorchInferenceWorkflow, workflow_kw_args=BUILT_IN).wait_ready()
    [worker] = server.children()
    assert has_torch(worker)
    assert not has_torch(server.process.pid)


def test_workers_draw_other_random_numbers(start_server: StartServer) -> None:
    server = start_server(Draws, workers=2).wait_ready(2)
    drawn: dict[int, list[float]] = {}

    def both_answered() -> bool:
        answer = server.post(None).json()
        drawn.setdefault(answer["pid"], answer["drawn"])
        return len(drawn) == 2

    until(both_answered, "answers of both")
    one, other = drawn.values()
    assert all(a != b for a, b in zip(one, other, strict=True))


def test_threads_of_a_workflow_and_modules_that_fail_are_its_workers_own_matter(
    start_server: StartServer,
) -> None:
    server = start_server(StartsThread, workers=2).wait_ready(2)
    assert threads_of(server.process.pid) == 1
    assert server.post("a").json() == "a"
    assert server.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_an_import_that_hangs(start_server: StartServer, number: int) -> None:
    server: Server = start_server(HangsInImport, workers=2)
    until(lambda: "importing" in server.stderr, "the import has begun")
    server.signal(number)
    assert server.wait(20) == 0
    assert server.stderr == "importing\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_a_workflow_that_is_never_made_with_its_process(
    start_server: StartServer, tmp_path: Path, number: int
) -> None:
    journal = tmp_path / "journal"
    server: Server = start_server(
        HangsInConstructor, workers=2, workflow_positional_args=[str(journal)]
    )
    pid = int(until(lambda: journal.exists() and journal.read_text(), "it is being made"))
    server.signal(number)
    assert server.wait(20) == (-number if number == signal.SIGKILL else 0)
    until(lambda: not is_running(pid), "its process is gone")
    assert server.stderr == ""
