"""What people thought of a tuned model's answers, kept among the files of the run that made it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ml.errors import PayloadTooLarge

__all__ = ["FEEDBACK_FILE", "Feedback", "FeedbackCounts", "FeedbackFile"]

FEEDBACK_FILE = "feedback.jsonl"
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


class FeedbackCounts(BaseModel):
    """How many answers were found good, and how many bad."""

    up: int
    down: int


class FeedbackFile:
    """A line of JSON for each entry; several processes may write it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FEEDBACK_FILE

    def add(self, feedback: Feedback) -> None:
        """Write an entry; raises `PayloadTooLarge` for one, or a file, beyond its bounds."""
        line = feedback.model_dump_json().encode() + b"\n"
        if len(line) > _MOST_ENTRY_BYTES:
            raise PayloadTooLarge(f"an entry may have {_MOST_ENTRY_BYTES} bytes")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            before = file.seek(0, os.SEEK_END)
            if before + len(line) > _MOST_FILE_BYTES:
                raise PayloadTooLarge(
                    f"{FEEDBACK_FILE} of this run has all of its {_MOST_FILE_BYTES} bytes"
                )
            if file.write(line) != len(line):
                file.truncate(before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def counts(self) -> FeedbackCounts:
        """Return what the newest entries of all answers add up to."""
        ratings: dict[str, str | None] = {}
        if self._path.exists():
            with self._path.open("rb") as file:
                for line in file:
                    with contextlib.suppress(ValidationError):  # a process died in its middle
                        entry = Feedback.model_validate_json(line)
                        ratings[entry.id] = entry.rating
        given = [*ratings.values()]
        return FeedbackCounts(up=given.count("up"), down=given.count("down"))
