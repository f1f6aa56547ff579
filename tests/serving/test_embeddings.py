"""`/v1/embeddings`: vectors of texts, by models of transformers and of OpenVINO."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.serving.conftest import MakeLLM
from tests.support.requests import JSON
from tests.support.tiny_embedder import save_in_openvinos_form, save_tiny_embedder

TEXTS = ["The capital of France is Paris.", "Hello", "Rome " * 20]
IDS = [504, 3575, 282]


@pytest.fixture(scope="module")
def embedders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("embedders")
    save_tiny_embedder(root / "mean")
    save_tiny_embedder(root / "first", pooling="pooling_mode_cls_token")
    save_tiny_embedder(root / "last", pooling="pooling_mode_lasttoken")
    save_in_openvinos_form(root / "mean", root / "openvino")
    return root


async def post(app: Any, status: int = 200, **body: Any) -> Any:
    response = await app.test_client().post("/v1/embeddings", data=json.dumps(body), headers=JSON)
    text = await response.get_data()
    assert response.status_code == status, text
    return json.loads(text)


def expected(folder: Path, text: str | list[int], kind: str) -> Any:
    """Return a text's vector as transformers makes it of the text alone."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(folder)(text).input_ids if isinstance(text, str) else text
    with torch.inference_mode():
        states = AutoModel.from_pretrained(folder)(torch.tensor([ids])).last_hidden_state[0]
    pooled = {"first": states[0], "last": states[-1]}.get(kind, states.mean(dim=0))
    return (pooled / pooled.norm()).numpy()


@pytest.mark.parametrize("kind", ["mean", "first", "last", "openvino"])
async def test_a_vector_is_that_of_its_text_alone_however_many_come_together(
    make_llm: MakeLLM, embedders: Path, kind: str
) -> None:
    app = await make_llm(arguments={"embedding_model": str(embedders / kind)})
    texts = [*TEXTS, IDS]
    told = await post(app, input=texts)
    assert told["model"] == kind
    assert [entry["index"] for entry in told["data"]] == [0, 1, 2, 3]
    source = embedders / ("mean" if kind == "openvino" else kind)
    for text, entry in zip(texts, told["data"], strict=True):
        vector = entry["embedding"]
        assert np.allclose(vector, expected(source, text, kind), atol=1e-4)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    in_base64 = await post(app, input=IDS, encoding_format="base64", model=kind, dimensions=16)
    raw = base64.b64decode(in_base64["data"][0]["embedding"])
    assert np.allclose(np.frombuffer(raw, "<f4"), told["data"][3]["embedding"], atol=1e-5)
    assert in_base64["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "input: "),
        ({"input": ""}, 400, "input.0: "),
        ({"input": []}, 400, "input: "),
        ({"input": [[]]}, 400, "input: "),
        ({"input": ["a", 5]}, 400, "input: "),
        ({"input": [10**9]}, 400, "input.0: "),
        ({"input": "a b " * 100_000}, 400, "input.0: over "),
        ({"input": "word " * 100}, 400, "input.0: 1"),
        ({"input": ["a"] * 2049}, 400, "input: "),
        ({"input": "a", "dimensions": 8}, 400, "dimensions: "),
        ({"input": "a", "encoding_format": "int8"}, 400, "encoding_format: "),
        ({"input": "a", "model": "gpt-4"}, 404, "There is no embedding model 'gpt-4'"),
    ],
)
async def test_what_cannot_be_embedded_is_refused_with_the_field(
    make_llm: MakeLLM, embedders: Path, body: dict[str, Any], status: int, message: str
) -> None:
    app = await make_llm(arguments={"embedding_model": str(embedders / "mean")})
    error = (await post(app, status, **body))["error"]
    assert error["message"].startswith(message), error


async def test_the_embedding_model_is_listed_and_answers_no_chat(
    make_llm: MakeLLM, embedders: Path
) -> None:
    app = await make_llm(arguments={"embedding_model": str(embedders / "mean")})
    client = app.test_client()
    listed = json.loads(await (await client.get("/v1/models")).get_data())
    assert [entry["id"] for entry in listed["data"]] == ["tiny", "mean"]
    assert (await client.get("/v1/models/mean")).status_code == 200
    chat = {"model": "mean", "messages": [{"role": "user", "content": "Hello"}]}
    response = await client.post("/v1/chat/completions", data=json.dumps(chat), headers=JSON)
    assert response.status_code == 404


async def test_without_an_embedding_model_the_address_says_what_to_set(make_llm: MakeLLM) -> None:
    error = (await post(await make_llm(), 404, input="a"))["error"]
    assert "embedding_model" in error["message"]


async def test_an_embedding_model_that_is_not_there_keeps_the_service_from_being_ready(
    make_llm: MakeLLM,
) -> None:
    app = await make_llm(arguments={"embedding_model": "no/where/at all"})
    assert app.health.state == "failed"
    assert "embedding_model 'no/where/at all' cannot be loaded" in app.health.message
