"""Adapters by name: one service, a model of its own for each request."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.serving.conftest import MakeLLM
from tests.support.requests import JSON, post
from tests.support.tiny_llm import save_adapter

QUESTION = {"messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture(scope="session")
def adapters(tiny_llm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("adapters")
    save_adapter(tiny_llm, root / "formal", seed=1)
    save_adapter(tiny_llm, root / "pirate", seed=2)
    return root


@pytest.fixture
async def app(make_llm: MakeLLM, adapters: Path) -> Any:
    return await make_llm(arguments={"adapters_path": str(adapters)})


async def call(app: Any, method: str, path: str, **fields: Any) -> tuple[int, Any]:
    body = json.dumps(fields) if fields else None
    response = await app.test_client().open(path, method=method, data=body, headers=JSON)
    return response.status_code, json.loads(await response.get_data())


async def chat(app: Any, model: str | None) -> str:
    status, document = await call(app, "POST", "/v1/chat/completions", model=model, **QUESTION)
    assert status == 200, document
    assert document["model"] == (model or "tiny")
    return str(document["choices"][0]["message"]["content"])


async def test_each_name_is_a_model_of_its_own_in_every_api(app: Any) -> None:
    answers = {model: await chat(app, model) for model in (None, "formal", "pirate")}
    assert len(set(answers.values())) == 3
    for model, answer in answers.items():
        response = await post(app, {"text": "Hello", "model": model})
        assert json.loads(await response.get_data()) == answer
    generated = []
    for adapter in (None, "formal"):
        parameters = {"adapter_id": adapter}
        status, document = await call(app, "POST", "/generate", inputs="Hi", parameters=parameters)
        assert status == 200
        generated.append(document["generated_text"])
    assert generated[0] != generated[1]


async def test_requests_for_different_adapters_share_a_batch(app: Any) -> None:
    models = [None, "formal", "pirate", "formal", None]
    alone = [await chat(app, model) for model in models]
    together = await asyncio.gather(*(chat(app, model) for model in models))
    # On a processor with bfloat16 a close choice may fall differently in company.
    assert sum(a == b for a, b in zip(alone, together, strict=True)) >= 3


async def test_they_are_listed_as_models_and_with_their_state(app: Any) -> None:
    _, models = await call(app, "GET", "/v1/models")
    assert [model["id"] for model in models["data"]] == ["tiny", "formal", "pirate"]
    await chat(app, "pirate")
    _, listed = await call(app, "GET", "/v1/adapters")
    assert [(one["id"], one["loaded"]) for one in listed["data"]] == [
        ("formal", False),
        ("pirate", True),
    ]


async def test_they_are_loaded_and_unloaded_by_hand(app: Any) -> None:
    assert await call(app, "POST", "/v1/adapters", name="formal") == (
        200,
        {"id": "formal", "object": "adapter", "loaded": True, "in_use": False},
    )
    status, document = await call(app, "DELETE", "/v1/adapters/formal")
    assert (status, document["loaded"]) == (200, False)
    assert await chat(app, "formal")


@pytest.mark.parametrize("name", ["nobody", "..", "../formal", "/etc", ""])
async def test_an_unknown_adapter_is_never_the_model_itself(app: Any, name: str) -> None:
    status, _ = await call(app, "POST", "/v1/adapters", name=name)
    assert status == (404 if name else 400)
    if name:
        status, document = await call(app, "POST", "/v1/chat/completions", model=name, **QUESTION)
        assert status == 404
        assert document["error"]["code"] == "model_not_found"


async def test_without_a_folder_there_are_none(make_llm: MakeLLM) -> None:
    status, document = await call(await make_llm(), "GET", "/v1/adapters")
    assert status == 404
    assert "adapters_path" in document["error"]["message"]


async def test_a_missing_folder_is_told_when_the_service_loads(
    make_llm: MakeLLM, tmp_path: Path
) -> None:
    app = await make_llm(arguments={"adapters_path": str(tmp_path / "none")})
    status, document = await call(app, "GET", "/health/ready")
    assert (status, document["state"]) == (503, "failed")
    assert "no such folder" in document["description"]
