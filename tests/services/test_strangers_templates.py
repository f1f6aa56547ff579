"""Chat templates of the trainer's clients, as the running service meets them."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.services.conftest import ServeExample
from tests.support.processes import Server, children_of, is_running, until

MODEL = "SmolLM2-135M-Instruct"
ENDLESS = "{{ 9**(9**9) }}"
HUGE = "{{ 'a' * 10**10 }}"


@pytest.fixture(scope="module")
def service(serve_example: ServeExample, tmp_path_factory: pytest.TempPathFactory) -> Server:
    root = tmp_path_factory.mktemp("trainer")
    (root / "in").mkdir()
    row = {"prompt": "Which river?", "completion": "The Senna."}
    (root / "in" / "rows.jsonl").write_text(json.dumps(row))
    folders = {"INPUT_PATH": "in", "OUTPUT_PATH": "out", "WORKING_PATH": "work"}
    places = {name: str(root / folder) for name, folder in folders.items()}
    return serve_example("unsloth_trainer_service", TRAINER_WORKFLOW_POSITIONAL_ARGS="[]", **places)


def bodies(template: str) -> dict[str, dict[str, Any]]:
    body = {"model_name": MODEL, "dataset_name": "rows", "chat_template": template}
    parameters = {"chat_template": template}
    return {
        "/datasets/validate": body,
        "/finetune": body,
        "/v1/fine_tuning/jobs": {
            "model": MODEL,
            "training_file": "rows",
            "hyperparameters": parameters,
        },
    }


def renderers_of(pid: int) -> list[int]:
    """Return the processes below this one in which a template is rendered, and their parents."""
    found = []
    for child in filter(is_running, children_of(pid)):
        if b"template_process" in Path(f"/proc/{child}/cmdline").read_bytes():
            found += [pid, child]
        found += renderers_of(child)
    return found


def test_a_template_without_end_is_refused_while_the_service_answers_others(
    service: Server,
) -> None:
    url, body = f"{service.url}/datasets/validate", bodies(ENDLESS)["/datasets/validate"]
    with ThreadPoolExecutor() as threads, httpx.Client(timeout=60) as client:
        asked = threads.submit(httpx.post, url, json=body, timeout=120)
        lives = 0
        while not asked.done():
            assert client.get(f"{service.url}/health/live").elapsed.total_seconds() < 5
            lives += 1
    assert asked.result().status_code == 422
    assert "chat_template: it takes too long" in asked.result().text
    assert lives > 10


@pytest.mark.parametrize(
    ("path", "template", "said"),
    [
        ("/datasets/validate", "{% if %}", "no Jinja"),
        ("/finetune", HUGE, "too much memory"),
        ("/v1/fine_tuning/jobs", "alpaca", "shows no message"),
    ],
)
def test_no_address_takes_a_template_that_cannot_be_trained_on(
    service: Server, path: str, template: str, said: str
) -> None:
    reply = httpx.post(f"{service.url}{path}", json=bodies(template)[path], timeout=120)
    # OpenAI's clients know a 400 for what is wrong with a request.
    assert reply.status_code == (400 if path.startswith("/v1/") else 422), reply.text
    assert said in reply.text


def test_the_work_ends_when_the_client_leaves(service: Server) -> None:
    body = json.dumps(bodies(ENDLESS)["/datasets/validate"]).encode()
    head = f"POST /datasets/validate HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        client.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        begun = until(lambda: renderers_of(service.process.pid), "a rendering")
    until(lambda: not any(map(is_running, begun)), "the end of the look and the rendering")
