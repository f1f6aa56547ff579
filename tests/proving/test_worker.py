"""The process that runs ezkl: what becomes of a task, a panic, an abort, a deadline."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ml.errors import DeadlineExceeded, InternalError, InvalidInput, OutOfMemory, ServiceError
from ml.proving.failures import ProvingPanic, ProvingProcessDied
from ml.proving.worker import Progress, Worker
from tests.support.processes import clean_environment, is_running, until
from tests.support.proving_tasks import (
    abort,
    allocate,
    die_in_mid_answer,
    echo,
    fill_the_disk,
    leave_files,
    panic,
    reach_the_network,
    refuse,
    reply_with_a_lock,
    sleep,
)


def test_a_task_runs_in_another_process_and_its_result_comes_back(worker: Worker) -> None:
    pid, value = worker.run(partial(echo, {"a": [1, 2]}))
    assert value == {"a": [1, 2]}
    assert pid == worker.pid != os.getpid()


def test_stages_are_told_as_they_begin_and_end(worker: Worker) -> None:
    told: list[tuple[str, float | None]] = []
    worker.run(partial(sleep, 0.05), progress=lambda *stage: told.append(stage))
    [(first, began), (second, seconds)] = told
    assert (first, second, began) == ("sleep", "sleep", None)
    assert seconds is not None
    assert 0.05 <= seconds < 30


def test_a_failure_of_ours_comes_back_as_it_was_raised(worker: Worker) -> None:
    with pytest.raises(InvalidInput, match="values: not this one"):
        worker.run(partial(refuse, "values: not this one"))


def test_a_panic_inside_ezkl_is_a_failure_and_the_process_goes_on(worker: Worker) -> None:
    before = worker.run(partial(echo, None))[0]
    with pytest.raises(ProvingPanic, match="ezkl panicked"):
        worker.run(panic)
    assert worker.run(partial(echo, None))[0] == before


def test_what_cannot_be_pickled_is_a_failure_and_the_process_goes_on(worker: Worker) -> None:
    before = worker.run(partial(echo, None))[0]
    with pytest.raises(InternalError):
        worker.run(reply_with_a_lock)
    assert worker.run(partial(echo, None))[0] == before


def test_an_abort_is_a_failure_and_the_next_task_has_a_new_process(worker: Worker) -> None:
    before = worker.run(partial(echo, None))[0]
    with pytest.raises(ProvingProcessDied, match=r"died \(SIGABRT\); the next request starts"):
        worker.run(abort)
    assert worker.run(partial(echo, None))[0] != before


def test_a_process_that_is_killed_in_mid_task_is_a_failure_of_this_task(worker: Worker) -> None:
    running = threading.Event()

    def kill() -> None:
        running.wait(20)
        os.kill(worker.pid or 0, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(ProvingProcessDied, match=r"died \(SIGKILL; out of memory"):
        worker.run(partial(sleep, 60.0), progress=lambda *_: running.set())
    killer.join()
    assert worker.run(partial(echo, 7))[1] == 7


def test_a_process_that_is_killed_in_mid_answer_died(worker: Worker) -> None:
    with pytest.raises(ProvingProcessDied, match=r"died \(SIGKILL"):
        worker.run(die_in_mid_answer)
    assert worker.run(partial(echo, 7))[1] == 7


def test_a_task_that_cannot_be_imported_is_a_failure_and_the_process_goes_on(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = worker.run(partial(echo, None))[0]
    alone = ModuleType("known_here_alone")
    monkeypatch.setitem(sys.modules, alone.__name__, alone)

    def task(scratch: Path, report: Progress) -> None: ...

    task.__module__, task.__qualname__ = alone.__name__, "task"
    vars(alone)["task"] = task
    with pytest.raises(InternalError):
        worker.run(task)
    assert worker.run(partial(echo, None))[0] == before


def test_a_process_that_died_while_it_was_idle_costs_no_task(worker: Worker) -> None:
    pid = worker.run(partial(echo, None))[0]
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_running(pid), "the process is gone")
    assert worker.run(partial(echo, 8))[1] == 8


def test_a_deadline_ends_the_process_at_once(worker: Worker) -> None:
    pid = worker.run(partial(echo, None))[0]
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="did not finish in time"):
        worker.run(partial(sleep, 60.0), seconds=0.3)
    assert time.monotonic() - began < 10
    assert not is_running(pid)
    assert worker.run(partial(echo, 9))[1] == 9


def test_a_cancelled_task_ends(worker: Worker) -> None:
    cancelled = threading.Event()
    with pytest.raises(DeadlineExceeded, match="cancelled"):
        worker.run(
            partial(sleep, 60.0),
            progress=lambda *_: cancelled.set(),
            is_cancelled=cancelled.is_set,
        )


def test_who_waits_for_the_turn_has_a_deadline_too(worker: Worker) -> None:
    running = threading.Event()

    def occupy() -> None:
        worker.run(partial(sleep, 1.0), progress=lambda *_: running.set())

    other = threading.Thread(target=occupy)
    other.start()
    running.wait(20)
    with pytest.raises(DeadlineExceeded):
        worker.run(partial(echo, None), seconds=0.1)
    other.join()


def test_a_progress_callback_that_raises_ends_its_own_task_alone(worker: Worker) -> None:
    def refuse_stage(*_: Any) -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        worker.run(partial(sleep, 60.0), progress=refuse_stage)
    assert worker.run(partial(echo, 10))[1] == 10


def test_what_needs_more_memory_than_allowed_fails_readably() -> None:
    with Worker(memory_limit_bytes=200_000_000) as worker:
        for by_rust in (True, False):
            with pytest.raises(OutOfMemory, match="needs more memory than the proving process"):
                worker.run(partial(allocate, by_rust))
            assert worker.run(partial(echo, 11))[1] == 11


@pytest.mark.parametrize("offline", [True, False])
def test_an_offline_process_reaches_no_network(
    offline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy stands for the network: only a worker that may use it comes there."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0.5 if offline else 20)
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        with Worker(offline=offline) as worker:
            came = threading.Thread(target=try_download, args=(worker,))
            came.start()
            with pytest.raises(TimeoutError) if offline else contextlib.nullcontext():
                proxy.accept()[0].close()
            came.join(20)


def try_download(worker: Worker) -> None:
    with contextlib.suppress(ServiceError):
        worker.run(reach_the_network, seconds=5)


def test_each_task_has_a_private_folder_that_goes_with_it(worker: Worker) -> None:
    folder, mode = worker.run(leave_files)
    assert mode == 0o700
    assert not folder.exists()
    left: list[Path] = []
    with pytest.raises(ProvingProcessDied):
        worker.run(
            partial(leave_files, dying=True), progress=lambda path, _: left.append(Path(path))
        )
    assert [path.exists() for path in left] == [False]


@pytest.mark.parametrize("part", ["", "ezkl", "output"])
def test_what_a_cleaner_of_temporary_files_took_is_made_again(tmp_path: Path, part: str) -> None:
    with Worker(folder=tmp_path) as worker:
        first = worker.run(partial(echo, None))[0]
        taken = worker.run(leave_files)[0].parent / part
        taken.unlink() if taken.is_file() else shutil.rmtree(taken)
        assert worker.run(partial(echo, None))[0] != first
        assert not is_running(first)
        [folder] = tmp_path.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_as_what_it_is(worker: Worker) -> None:
    with pytest.raises(InternalError, match="cannot use its files: No space left on device"):
        worker.run(fill_the_disk)


def test_closing_leaves_no_process_and_no_file() -> None:
    worker = Worker()
    pid = worker.run(partial(echo, None))[0]
    folder = worker.run(leave_files)[0].parent
    assert folder.exists()
    worker.close()
    assert not is_running(pid)
    assert not folder.exists()
    assert worker.pid is None


def test_a_process_whose_parent_was_killed_removes_its_folder_and_ends(tmp_path: Path) -> None:
    code = (
        "from functools import partial; from ml.proving.worker import Progress, Worker;"
        "from tests.support.proving_tasks import sleep; worker = Worker();"
        "worker.run(partial(sleep, 2.0), progress=lambda *_: print(worker.pid, flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=clean_environment() | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        [folder] = tmp_path.glob("proving-*")
        assert list(folder.glob("task-*"))
        parent.kill()
    until(lambda: not is_running(pid), "the process has ended")
    assert not folder.exists()


def test_closing_ends_a_running_task() -> None:
    worker = Worker()
    running = threading.Event()
    failures: list[Exception] = []

    def work() -> None:
        try:
            worker.run(partial(sleep, 60.0), progress=lambda *_: running.set())
        except ServiceError as error:
            failures.append(error)

    other = threading.Thread(target=work)
    other.start()
    running.wait(20)
    worker.close()
    other.join(20)
    assert [type(failure) for failure in failures] == [ProvingProcessDied]
