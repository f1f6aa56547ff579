"""What clients of Text Generation Inference read of answers, for the API's document alone."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, Field, RootModel

from ml.json_text import JsonObject
from ml.serving.answers import EVENTS, JSON, EventStream

__all__ = ["Generated", "GeneratedEither", "GeneratedEvents", "Information"]


class Generated(BaseModel):
    """How a text goes on."""

    generated_text: str
    details: JsonObject | None = Field(default=None, description="Where they are asked for")


class GeneratedEither(RootModel[list[Generated]]):
    """A list with the one answer; with `stream`, an event for each token."""

    media_types: ClassVar[tuple[str, ...]] = (JSON, EVENTS)


class GeneratedEvents(EventStream):
    """An event for each token; the last one has `generated_text` and `details`."""


class Information(BaseModel):
    """What is served, and its limits."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    model_device_type: str
    model_pipeline_tag: str
    max_concurrent_requests: int
    max_best_of: int
    max_stop_sequences: int
    max_input_tokens: int
    max_total_tokens: int
    max_client_batch_size: int
    router: str
    version: str
    sha: str | None
    docker_label: str | None
