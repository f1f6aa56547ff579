"""What people thought of a tuned model's answers, kept among the files of the run that made it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ml.errors import PayloadTooLarge
from ml.jobs.remote_files import RemoteFiles

__all__ = ["FEEDBACK_FILE", "FEEDBACK_FOLDER", "Feedback", "FeedbackCounts", "RunFeedback"]

#: In a job's folder: the entries, or where hosts share files those of each host.
FEEDBACK_FILE, FEEDBACK_FOLDER = "feedback.jsonl", "feedback"
_MOST_ENTRY_BYTES = 1 << 18
_MOST_FILE_BYTES = 1 << 24
_MOST_MESSAGES = 1000


class Turn(BaseModel):
    """A message of the conversation that was answered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["system", "developer", "user", "assistant"]
    content: str


class Feedback(BaseModel):
    """What somebody thinks of an answer; a later one with the same `id` takes its place."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "id": "chatcmpl-1",
                    "rating": "up",
                    "messages": [{"role": "user", "content": "When does the harbour open?"}],
                    "answer": "At six.",
                }
            ]
        },
    )

    id: str = Field(min_length=1, max_length=100, description="That of the answer")
    rating: Literal["up", "down"] | None = Field(description="null takes an earlier one back")
    messages: list[Turn] = Field(
        min_length=1, max_length=_MOST_MESSAGES, description="What was answered"
    )
    answer: str


class _Entry(Feedback):
    """What is kept: an entry, and when it came, in seconds since 1970."""

    at: float = 0.0


class FeedbackCounts(BaseModel):
    """How many answers were found good, and how many bad."""

    up: int
    down: int


class RunFeedback:
    """What was thought of the answers of a run's model: a line of JSON for each entry.

    They are in a file of the job's folder, which several processes may write. Where hosts share
    files, each has one of its own below `feedback`, and copies it to where all find it.
    """

    def __init__(self, folder: Path, files: RemoteFiles | None) -> None:
        self._folder = folder
        self._files = files
        self._there = f"jobs/{folder.name}/{FEEDBACK_FOLDER}"

    def add(self, feedback: Feedback) -> None:
        """Write an entry, or nothing of it.

        Raises `PayloadTooLarge` for one, or a file, beyond its bounds, and `FilesAway`.
        """
        entry = _Entry(**feedback.model_dump(), at=time.time())
        line = entry.model_dump_json().encode() + b"\n"
        if len(line) > _MOST_ENTRY_BYTES:
            raise PayloadTooLarge(f"an entry may have {_MOST_ENTRY_BYTES} bytes")
        own = self._own()
        own.parent.mkdir(parents=True, exist_ok=True)
        with own.open("ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            before = file.seek(0, os.SEEK_END)
            if before + len(line) > _MOST_FILE_BYTES:
                raise PayloadTooLarge(
                    f"{FEEDBACK_FILE} of this run has all of its {_MOST_FILE_BYTES} bytes"
                )
            try:
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if self._files is not None:
                    self._files.upload(own, f"{self._there}/{own.name}")
            except BaseException:
                file.truncate(before)
                raise

    def counts(self) -> FeedbackCounts:
        """Return what the newest entries of all answers add up to; raises `FilesAway`."""
        newest: dict[str, _Entry] = {}
        for content in self._contents():
            for line in content.splitlines():
                with contextlib.suppress(ValidationError):  # a process died in its middle
                    entry = _Entry.model_validate_json(line)
                    if entry.id not in newest or newest[entry.id].at <= entry.at:
                        newest[entry.id] = entry
        given = [entry.rating for entry in newest.values()]
        return FeedbackCounts(up=given.count("up"), down=given.count("down"))

    def _own(self) -> Path:
        if self._files is None:
            return self._folder / FEEDBACK_FILE
        folder = self._folder / FEEDBACK_FOLDER
        return min(folder.glob("*.jsonl"), default=folder / f"{uuid.uuid4().hex}.jsonl")

    def _contents(self) -> Iterator[bytes]:
        if self._files is not None:
            for name in self._files.list(self._there):
                yield self._files.read(f"{self._there}/{name}") or b""
        elif self._own().exists():
            yield self._own().read_bytes()
