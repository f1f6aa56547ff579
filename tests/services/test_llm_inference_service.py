"""The LLM service as its document describes it, on the embedded model."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from eth_abi.abi import decode, encode

from tests.services.conftest import ServeExample, curls_of_readme
from tests.support.processes import ROOT, Server

NAME = "llm_inference_service"
SERVICE = ROOT / "services" / NAME
TEXT = "I am launching a revolutionary product today, buy my shares before they are gone!"
DOCUMENT_DATA = {"text": TEXT, "key": "123", "messageId": "123456", "history": []}


@pytest.fixture(scope="module")
def service(serve_example: ServeExample) -> Server:
    return serve_example(NAME)


def answer(service: Server, data: Any, **options: Any) -> str:
    reply = service.post(data, **options)
    assert reply.status_code == 200, reply.text
    text: str = reply.json()
    return text


def run_shell(command: str) -> str:
    ran = subprocess.run(["bash", "-c", command], capture_output=True, check=True, timeout=60)
    return ran.stdout.decode()


def test_the_curls_of_the_readme_are_answered(service: Server) -> None:
    chat, generate, document = curls_of_readme(SERVICE / "README.md", service.url)
    text = json.loads(run_shell(document))
    assert isinstance(text, str)
    assert text == answer(service, DOCUMENT_DATA)
    assert "Paris" in run_shell(chat)
    assert run_shell(chat).endswith("data: [DONE]\n\n")
    assert json.loads(run_shell(generate))["generated_text"].startswith(" Paris")


def test_the_history_is_part_of_the_conversation(service: Server) -> None:
    history = [{"player": "What is the capital of Italy?"}, None, {"bot": "Rome."}, {}]
    data = {"text": "And what is it in France?", "history": history, "max_new_tokens": 12}
    assert "Paris" in answer(service, data)


@pytest.mark.parametrize("data", [TEXT, {"output": TEXT}, {"text": TEXT, "history": None}])
def test_a_chained_containers_text_is_read(service: Server, data: Any) -> None:
    assert answer(service, data) == answer(service, DOCUMENT_DATA)


def test_a_contract_sends_and_gets_a_string(service: Server) -> None:
    data = encode(["string"], [TEXT]).hex()
    reply = service.post(data, source=0).json()
    (text,) = decode(["string"], bytes.fromhex(reply["raw_output"]))
    assert text == answer(service, DOCUMENT_DATA)
    assert reply["raw_input"] == data


def test_a_stream_comes_in_pieces_that_are_whole_characters(service: Server) -> None:
    data = {"text": "Greet me in Japanese, with emojis.", "max_new_tokens": 40}
    message = {"source": 1, "destination": 2, "data": data}
    with httpx.stream("POST", f"{service.url}/service_output", json=message, timeout=60) as reply:
        pieces = list(reply.iter_raw())
    assert len(pieces) > 3
    assert "".join(piece.decode() for piece in pieces) == answer(service, data)


def test_plain_text_is_given_to_who_asks_for_it(service: Server) -> None:
    reply = service.post(DOCUMENT_DATA, headers={"Accept": "text/plain"})
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.text == answer(service, DOCUMENT_DATA)


def test_concurrent_requests_get_the_answers_they_get_alone(service: Server) -> None:
    questions = ["What is 2+2?", "Name a colour.", "Who wrote Hamlet?", "Say hello."]
    data = [{"text": text, "max_new_tokens": 8} for text in questions]
    alone = [answer(service, one) for one in data]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda one: answer(service, one), data))
    # In bfloat16 a close choice may fall differently in company; not for all of them.
    assert sum(a == b for a, b in zip(alone, together, strict=True)) >= 2


def test_a_stop_string_ends_the_answer(service: Server) -> None:
    data = {"text": "Count from one to five in digits.", "max_new_tokens": 40}
    whole = answer(service, data)
    stop = whole[len(whole) // 2 :][:3]
    assert answer(service, {**data, "stop": [stop]}) == whole[: whole.index(stop)]


def test_a_seed_gives_the_same_answer_again(service: Server) -> None:
    data = {"text": "Tell me a story.", "temperature": 1.0, "seed": 3, "max_new_tokens": 16}
    assert answer(service, data) == answer(service, data)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ({}, "data.text"),
        ({"text": ""}, "data.text"),
        ({"text": 5}, "data.text"),
        ({"text": "a", "history": "b"}, "data.history"),
        ({"text": "a", "temperature": -1}, "data.temperature"),
        ({"text": "word " * 3000}, "tokens with its history"),
        (7, "data"),
    ],
)
def test_a_wrong_request_is_refused_with_the_field(service: Server, data: Any, fault: str) -> None:
    reply = service.post(data)
    assert reply.status_code == 400
    assert fault in reply.json()["description"]
