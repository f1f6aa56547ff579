"""When a failed request is sent again, and how long it waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import aiohttp
import pytest

from ml.caller import set_deadline
from ml.upstream.failures import BrokenAnswer, Refused, is_transient
from ml.upstream.retries import with_retries
from ml.upstream.retry_parameters import RetryParameters

QUICK = RetryParameters(delay=0.01, jitter=0.0)


def refused(status: int, retry_after: str = "") -> Refused:
    return Refused({}, status, retry_after)


def failed(kind: str) -> Refused:
    """Return what TGI says in the middle of a stream."""
    return Refused({"error": "no", "error_type": kind})


class Server:
    """Fails with each of these, then answers."""

    def __init__(self, failures: Sequence[Exception]) -> None:
        self.failures = list(failures)
        self.asked = 0

    async def ask(self) -> str:
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        return "answer"


TRANSIENT = [
    *(refused(status) for status in (429, 502, 503, 504)),
    failed("overloaded"),
    aiohttp.ClientConnectionError("refused"),
    aiohttp.ConnectionTimeoutError("slow"),
    aiohttp.SocketTimeoutError("slow"),
    aiohttp.ServerDisconnectedError("cut"),
    aiohttp.ClientPayloadError("cut"),
]
FINAL = [
    *(refused(status) for status in (400, 401, 403, 404, 413, 422, 424, 500)),
    *(failed(kind) for kind in ("validation", "generation", "incomplete_generation")),
    BrokenAnswer("no JSON"),
    aiohttp.InvalidURL("ftp"),
    KeyError("bug"),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
async def test_what_passes_is_tried_again(error: Exception) -> None:
    server = Server([error])
    assert await with_retries(server.ask, QUICK) == "answer"
    assert server.asked == 2


@pytest.mark.parametrize("error", FINAL, ids=repr)
async def test_what_does_not_pass_is_raised_at_once(error: Exception) -> None:
    assert not is_transient(error)
    server = Server([error])
    with pytest.raises(type(error)):
        await with_retries(server.ask, QUICK)
    assert server.asked == 1


async def test_the_last_failure_is_raised_after_all_tries() -> None:
    failures = [refused(503), refused(429), refused(502), refused(504)]
    server = Server(failures)
    with pytest.raises(Refused) as raised:
        await with_retries(server.ask, QUICK)
    assert raised.value.status == 502
    assert server.asked == 3


def test_the_documents_defaults_hold() -> None:
    parameters = RetryParameters()
    assert parameters.tries == 3
    assert parameters.max_delay is None
    for failures, delay in ((1, 3), (2, 6), (3, 12)):
        waits = [parameters.wait_seconds(failures) for _ in range(50)]
        assert all(delay + 0.5 <= wait <= delay + 1.5 for wait in waits)
        assert len(set(waits)) > 1


def test_jitter_may_be_a_number_and_the_wait_has_a_limit() -> None:
    parameters = RetryParameters(delay=1, backoff=3, jitter=2.0, max_delay=10)
    assert [parameters.wait_seconds(n) for n in (1, 2, 3)] == [3, 5, 10]
    assert RetryParameters.model_validate({"jitter": 2}).wait_seconds(1) == 5


async def test_a_longer_retry_after_is_honoured() -> None:
    server = Server([refused(503, "1")])
    started = time.monotonic()
    await with_retries(server.ask, QUICK)
    assert time.monotonic() - started >= 1


async def test_no_wait_ends_behind_the_deadline() -> None:
    """The failure is raised at once, and not after a wait for nothing."""
    server = Server([refused(503, "600")])

    async def ask() -> None:
        set_deadline(5)
        with pytest.raises(Refused):
            await with_retries(server.ask, QUICK)

    async with asyncio.timeout(2):
        await asyncio.create_task(ask())
    assert server.asked == 1
