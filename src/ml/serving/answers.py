"""What addresses answer, for the API's document alone: what all services have in common.

A model is written as JSON unless its `media_types` say otherwise.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, Field, RootModel

from ml.json_text import JsonObject

__all__ = [
    "EVENTS",
    "JSON",
    "About",
    "AnyObject",
    "EventStream",
    "FileContent",
    "Live",
    "PlainText",
    "Readiness",
    "Resources",
    "Streamable",
    "media_types_of",
]

JSON, EVENTS = "application/json", "text/event-stream"


class Streamable(BaseModel):
    """What comes as a whole or, with `stream`, as events."""

    media_types: ClassVar[tuple[str, ...]] = (JSON, EVENTS)


class EventStream(RootModel[str]):
    """Server-sent events, until there are no more."""

    media_types: ClassVar[tuple[str, ...]] = (EVENTS,)


class PlainText(RootModel[str]):
    """Lines of text."""

    media_types: ClassVar[tuple[str, ...]] = ("text/plain",)


class FileContent(RootModel[str]):
    """The file as it is."""

    media_types: ClassVar[tuple[str, ...]] = ("application/octet-stream",)


class AnyObject(RootModel[JsonObject]):
    """An object of which each service has its own fields."""


class About(BaseModel):
    """What this service is."""

    name: str
    version: str
    workflow: str = Field(description="The dotted path of its class")


class Live(BaseModel):
    """The process runs."""

    state: str


class Check(BaseModel):
    """One of the things that have to be right."""

    ok: bool
    message: str = ""


class LoadedModels(BaseModel):
    """What of several models is loaded in the worker that was asked."""

    loaded: list[str]
    loading: list[str]
    bytes: int


class Readiness(BaseModel):
    """Whether requests are answered, and why not."""

    state: str = Field(description="ready or busy; else starting, unavailable, failed, draining")
    reason: str
    checks: dict[str, Check]
    models: LoadedModels | None = Field(default=None, description="Of a service of several models")


class ResourcesDocument(BaseModel):
    """What this container can do."""

    version: str
    service_id: str
    hardware_capabilities: list[JsonObject]
    compute_capability: list[JsonObject]


class Supported(BaseModel):
    """Whether a model is answered for."""

    supported: bool


class Resources(RootModel[ResourcesDocument | Supported]):
    """What this container can do; with `?model_id=`, whether it answers for that model."""


def media_types_of(model: type) -> tuple[str, ...]:
    """Return what an answer may be written as."""
    return getattr(model, "media_types", (JSON,))
