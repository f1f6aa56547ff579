"""What a query may ask for is told by the document of each service, and nothing else is read."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field
from quart_schema import document_querystring

from ml.serving.availability import needs_no_workflow
from ml.serving.query import Query
from tests.services.test_keys import ARGUMENTS
from tests.support.processes import ROOT
from tests.support.services import PREFIXES, SERVICES

JOBS = {"limit", "after", "status"}
EVENTS = {"": JOBS, "/{job_id}/events": {"after", "points"}, "/{job_id}/events/history": {"after"}}
EVERYWHERE = {"/service-resources": {"model_id"}, "/service_output/form": {"model_id"}}
#: By service: the addresses that heed a query, and what it may ask for.
TOLD: dict[str, dict[str, set[str]]] = {
    "ezkl_proof_service": {f"/proofs{path}": names for path, names in EVENTS.items()},
    "llm_inference_service": {"/v1/adapters/{name}": {"sha256", "replace"}},
    "unsloth_trainer_service": {
        **{f"/jobs{path}": names for path, names in EVENTS.items()},
        **{f"/train{path}": names for path, names in EVENTS.items()},
        "/v1/fine_tuning/jobs": {"limit", "after", "metadata"},
        "/v1/fine_tuning/jobs/{job_id}/events": {"limit", "after"},
        "/v1/fine_tuning/jobs/{job_id}/checkpoints": {"limit", "after"},
        "/v1/files": {"limit", "after", "order", "purpose"},
        "/v1/models/{name}/serve": {"replace"},
        "/models": {"limit", "after", "search"},
        "/logs/{job_id}": {"limit"},
    },
}


def create(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Any:
    monkeypatch.setenv(f"{PREFIXES[name]}WORKFLOW_POSITIONAL_ARGS", ARGUMENTS.get(name, "[]"))
    monkeypatch.setenv("WORKING_PATH", str(folder))
    return importlib.import_module(name).create_app()


async def parameters(app: Any) -> dict[str, dict[str, Any]]:
    """Return the parameters of queries, by address and name."""
    document = await (await app.test_client().get("/openapi.json")).get_json()
    told: dict[str, dict[str, Any]] = {}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for one in operation["parameters"]:
                if one["in"] == "query":
                    told.setdefault(path, {})[one["name"]] = one
    return told


@pytest.mark.parametrize("name", SERVICES)
async def test_each_parameter_is_told_with_what_it_does_and_its_bounds(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = await parameters(create(name, monkeypatch, tmp_path))
    expected = {**EVERYWHERE, **TOLD.get(name, {})}
    assert {path: set(names) for path, names in told.items()} == expected
    for names in told.values():
        for one in names.values():
            assert len(one["description"]) > 10
            schema = one["schema"]
            assert not one.get("required")
            assert "type" in schema or "anyOf" in schema or "enum" in schema
            assert "null" not in [way.get("type") for way in schema.get("anyOf", ())]
            if schema.get("type") == "integer":
                assert {"minimum", "maximum"} <= schema.keys()


def test_nothing_else_is_read_of_a_query() -> None:
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "services").rglob("*.py")]
    readers = {
        path.name
        for path in sources
        if re.search(r"request\.(args|query_string|values)", path.read_text())
    }
    assert readers == {"query.py", "openai_jobs.py"}  # the latter in a Query's `given`


class Wished(Query):
    """What the addresses of this test may be asked."""

    most: int | None = Field(default=None, ge=2, le=9, description="How many")
    names: list[str] = Field(default=[], description="Which ones")


@pytest.mark.parametrize(
    ("query", "status", "answer"),
    [
        ("", 200, {"most": None, "names": []}),
        ("?most=2&names=a&names=b&other=1", 200, {"most": 2, "names": ["a", "b"]}),
        ("?most=3&most=x", 200, {"most": 3, "names": []}),
        *((f"?most={bad}", 400, "most: give a whole number from 2 to 9") for bad in ("1", "10")),
        *((f"?most={bad}", 400, "give a whole number") for bad in ("", "+3", "3.0", "%C2%B2", "x")),
        (f"?most={'9' * 6000}", 400, "give a whole number"),
    ],
)
async def test_an_address_reads_what_it_tells_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, query: str, status: int, answer: Any
) -> None:
    app = create("classic_ml_inference_service", monkeypatch, tmp_path)

    @app.get("/told")
    @document_querystring(Wished)
    @needs_no_workflow
    async def told() -> dict[str, Any]:
        return Wished.asked().model_dump()

    @app.get("/untold")
    @needs_no_workflow
    async def untold() -> dict[str, Any]:
        return Wished.asked().model_dump()

    reply = await app.test_client().get(f"/told{query}")
    said = await reply.get_json()
    assert reply.status_code == status
    assert said == answer if status == 200 else answer in said["description"]
    assert (await app.test_client().get("/untold")).status_code == 500
