"""Ray's own jobs, by the REST API of a cluster's dashboard: no package of Ray's is needed.

https://docs.ray.io/en/latest/cluster/running-applications/job-submission/rest.html
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from ml.jobs.resources import Resources

__all__ = ["RayAway", "RayJob", "RayJobs", "RayRefusal", "TokenRefused"]

_ASK_SECONDS, _SUBMIT_SECONDS = 3.0, 30.0
#: A cluster that did not answer is left alone for so long: all its jobs ask at once.
_PAUSE_SECONDS = 2.0
#: Of a job that wishes for none: one without any would be put on the head, whatever is free.
_CPUS = 1.0
_OVER = frozenset({"STOPPED", "SUCCEEDED", "FAILED"})


class RayAway(Exception):
    """The cluster does not answer, or cannot do now what it is asked for."""


class TokenRefused(RayAway):
    """The cluster does not take our token."""


class RayRefusal(Exception):
    """The cluster says that what it was asked for cannot be."""


@dataclass(frozen=True, slots=True)
class RayJob:
    """What Ray knows of one of its jobs.

    Attributes:
        command: as it was submitted.
        message: for a person, several lines.
        fault: the kind of failure, by Ray's name for it; "" if none is known.
        exit_code: of the command, negative for a signal; None if it was not seen to end.
    """

    status: str
    command: str
    message: str
    fault: str
    exit_code: int | None

    @property
    def is_over(self) -> bool:
        """Whether its command has ended, or never will run."""
        return self.status in _OVER


class RayJobs:
    """The jobs of the cluster whose dashboard is at `address`.

    Every method raises `RayAway` where the cluster cannot be asked.
    """

    def __init__(self, address: str, token: str) -> None:
        self.address = address
        self._away_until = 0.0
        self._client = httpx.AsyncClient(
            base_url=address, headers={"Authorization": f"Bearer {token}"}
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def version(self) -> str:
        """Return the cluster's version of Ray."""
        return str((await self._ask("GET", "/api/version")).json()["ray_version"])

    async def submit(
        self, name: str, command: str, variables: Mapping[str, str], resources: Resources
    ) -> None:
        """Have a command run on some node; the same name again is the same job.

        All of this stands in Ray's dashboard for everybody who has the token. Raises `RayRefusal`.
        """
        request = {
            "submission_id": name,
            "entrypoint": command,
            "runtime_env": {"env_vars": dict(variables)},
            "entrypoint_num_cpus": resources.cpus or _CPUS,
            "entrypoint_num_gpus": resources.gpus or 0,
            "entrypoint_memory": resources.memory_bytes or 0,
        }
        fault: Exception
        try:
            reply = await self._ask("POST", "/api/jobs/", json=request, seconds=_SUBMIT_SECONDS)
        except RayAway as error:
            fault = error
        else:
            if reply.is_success:
                return
            fault = RayRefusal(_last_line(reply.text))
        # A name that it has is an error too: an answer may have been lost before.
        known = await self.look(name)
        if known is None:
            raise fault
        if known.command != command:
            raise RayRefusal(f"it has another job {name} already")

    async def look(self, name: str) -> RayJob | None:
        """Return what Ray knows of a job; None if it knows none, as after the head's restart."""
        reply = await self._ask("GET", f"/api/jobs/{name}")
        if reply.status_code == httpx.codes.NOT_FOUND:
            return None
        known = reply.json()
        return RayJob(
            status=str(known["status"]),
            command=str(known.get("entrypoint") or ""),
            message=str(known.get("message") or ""),
            fault=str(known.get("error_type") or ""),
            exit_code=known.get("driver_exit_code"),
        )

    async def stop(self, name: str) -> None:
        """Have a job's command sent SIGTERM, and killed some time later."""
        await self._ask("POST", f"/api/jobs/{name}/stop")

    async def _ask(
        self, method: str, path: str, *, seconds: float = _ASK_SECONDS, **options: Any
    ) -> httpx.Response:
        if time.monotonic() < self._away_until:
            raise RayAway(f"{self.address} did not answer a moment ago")
        try:
            reply = await self._client.request(method, path, timeout=seconds, **options)
        except httpx.TransportError as error:
            self._away_until = time.monotonic() + _PAUSE_SECONDS
            raise RayAway(f"{self.address}: {type(error).__name__}") from error
        if reply.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise TokenRefused(f"{self.address} does not take the token")
        if reply.is_server_error:
            raise RayAway(f"{self.address}: {reply.status_code}: {_last_line(reply.text)}")
        return reply


def _last_line(text: str) -> str:
    """Return the last line of a traceback, which is what Ray answers with."""
    return next(reversed(text.strip().splitlines()), "")[:300]
