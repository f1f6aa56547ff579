"""The types of events and the states of jobs have the same names wherever they are read."""

from __future__ import annotations

import json
import re

import pytest

from ml.jobs.event_type import EventType, phase_event, state_event
from ml.jobs.job import JobState
from tests.support.processes import ROOT

STATIC = ROOT / "services" / "unsloth_trainer_service" / "static"


def test_the_dashboard_listens_to_every_type_of_event() -> None:
    [names] = re.findall(r"const EVENT_TYPES = (\[.*\]);", (STATIC / "run.js").read_text())
    assert json.loads(names) == list(EventType)


def test_the_dashboard_knows_every_state() -> None:
    [final] = re.findall(r"const FINAL = new Set\((\[.*\])\);", (STATIC / "run.js").read_text())
    assert json.loads(final) == [state for state in JobState if state.is_final]
    [marks] = re.findall(r"const MARKS = \{(.*)\};", (STATIC / "dashboard_words.js").read_text())
    assert re.findall(r"(\w+):", marks) == list(JobState)


@pytest.mark.parametrize(
    ("service", "others"),
    [
        ("unsloth_trainer_service", {EventType.STAGE}),
        ("ezkl_proof_service", {EventType.PROGRESS, EventType.SAMPLE}),
    ],
)
def test_a_readme_names_the_types_that_the_service_has(
    service: str, others: set[EventType]
) -> None:
    text = (ROOT / "services" / service / "README.md").read_text()
    [names] = re.findall(r"its events as they come \(SSE\): (.*) \|", text)
    assert set(re.findall(r"`(\w+)`", names)) == {*EventType} - others


def test_a_status_event_tells_a_state_or_a_phase_and_says_which() -> None:
    type_, data = state_event(JobState.RUNNING, "It runs.")
    assert (type_, data) == (
        "status",
        {"status": "running", "state": "running", "message": "It runs."},
    )
    type_, data = phase_event("training", "On 16 examples", data={"rows": 16})
    assert (type_, data["status"], data["phase"]) == ("status", "training", "training")
    assert "state" not in data
