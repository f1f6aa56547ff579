"""The LLM service with the engine of vLLM, started by `serve`."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from ml.models.embedded_llm import install
from tests.support.processes import ROOT, Server, clean_environment, free_port, until

ARGUMENTS = {"engine": "vllm", "max_new_tokens": 16, "max_length": 512, "slots": 4}
START_SECONDS = 240.0
QUESTION = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}


@pytest.fixture(scope="module")
def service() -> Iterator[Server]:
    install()
    port = free_port()
    command = ["serve", "llm_inference_service", f"--bind=127.0.0.1:{port}"]
    environment = clean_environment(FLASK_LLM_WORKFLOW_KW_ARGS=json.dumps(ARGUMENTS))
    environment["PYTHONPATH"] = f"{ROOT}:{ROOT / 'services'}"
    with Server(command, port=port, environment=environment) as server:
        until(lambda: is_ready(server), "vLLM loads a model in half a minute", START_SECONDS)
        yield server


def is_ready(server: Server) -> bool:
    assert server.process.poll() is None, server.stderr
    return server.get("/health/ready").status_code == 200


def test_the_node_is_answered(service: Server) -> None:
    message = {"source": 1, "destination": 1, "data": {"text": "What is the capital of France?"}}
    reply = httpx.post(f"{service.url}/service_output", json=message, timeout=60)
    assert reply.status_code == 200
    assert "Paris" in reply.text


def test_a_stream_has_the_text_of_the_answer(service: Server) -> None:
    url = f"{service.url}/v1/chat/completions"
    body = {**QUESTION, "temperature": 0, "max_tokens": 12}
    whole = httpx.post(url, json=body, timeout=60).json()["choices"][0]["message"]["content"]
    pieces = []
    with httpx.stream("POST", url, json=body | {"stream": True}, timeout=60) as reply:
        for line in reply.iter_lines():
            if line.startswith("data: {"):
                choices = json.loads(line.removeprefix("data: "))["choices"]
                pieces += [choice["delta"].get("content") or "" for choice in choices]
    assert "".join(pieces) == whole
    assert "Paris" in whole


def test_an_answer_in_json_is_an_object_of_the_schema(service: Server) -> None:
    schema = {
        "type": "object",
        "properties": {"capital": {"type": "string", "maxLength": 20}},
        "required": ["capital"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}
    body = {**QUESTION, "response_format": form, "max_tokens": 60}
    reply = httpx.post(f"{service.url}/v1/chat/completions", json=body, timeout=60).json()
    assert set(json.loads(reply["choices"][0]["message"]["content"])) == {"capital"}


def test_the_node_learns_which_engine_answers(service: Server) -> None:
    reply = httpx.get(f"{service.url}/service-resources", timeout=60).json()
    assert "vllm" in json.dumps(reply)
