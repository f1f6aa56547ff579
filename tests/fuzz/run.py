"""Sends the requests, and judges the answers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.fuzz.asgi import Answer, Ask, ask
from tests.fuzz.requests import requests_to
from tests.fuzz.services import running

__all__ = ["Outcome", "fuzz"]

#: The texts of nothing.
_WITHOUT_BODY = (204, 304)


@dataclass
class Outcome:
    """How often each status came, and what was wrong."""

    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


async def fuzz(name: str, folder: Path, *, seed: int, count: int) -> Outcome:
    """Send `count` requests to a service that runs in `folder`, which is made."""
    outcome = Outcome()
    random = Random(f"{seed} {name}")
    async with running(name, folder) as target:
        for request in requests_to(target, random, count):
            answer = await ask(target.app, request)
            outcome.statuses[answer.status] += 1
            if fault := _fault(request, answer):
                outcome.faults.append(
                    f"{fault}: {request} -> {answer.status} {answer.body[:300]!r}"
                )
        if in_flight := target.app.admission.in_flight:
            outcome.faults.append(f"{in_flight} places are still taken")
        if target.app.health.state != "ready":
            outcome.faults.append(f"the service is {target.app.health.state}")
    return outcome


def _fault(request: Ask, answer: Answer) -> str:
    """Return what no request may bring about, or ""."""
    if answer.raised is not None:
        return f"raised {answer.raised!r}"
    if not answer.status:
        return "no answer"
    if answer.status in (500, 501):
        return "unhandled"
    if "x-request-id" not in answer.headers:
        return "no request id"
    is_read = request.method != "HEAD" and answer.status not in _WITHOUT_BODY
    if answer.status >= 400 and is_read and not _is_error_form(answer.json()):
        return "not an error's form"
    return ""


def _is_error_form(document: object) -> bool:
    """Return whether it is ours, OpenAI's or TGI's, or the report of unusable data."""
    if not isinstance(document, dict):
        return False
    ours = all(isinstance(document.get(name), str) for name in ("code", "name", "description"))
    error = document.get("error")
    openais = isinstance(error, dict) and isinstance(error.get("message"), str)
    return ours or openais or isinstance(error, str) or "refusal" in document
