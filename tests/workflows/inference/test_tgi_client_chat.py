"""Which of a TGI server's routes a text goes to, and that no empty answer comes of it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ml.errors import GenerationFailed, ServiceError
from ml.testing.tgi_server import Behaviour, TGIServer
from ml.workflows.inference.tgi_client_inference_workflow import TGIClientInferenceWorkflow

TEXT = {"text": "Is the sky blue?"}
ANSWER = "You asked: Is the sky blue?"
CHAT = "/v1/chat/completions"
#: Where the hub's client sends what TGI calls /generate.
GENERATE = "/"
#: What only /generate has.
ONLY_GENERATE: list[dict[str, Any]] = [
    {"best_of": 1},
    {"do_sample": True},
    {"grammar": {"type": "regex", "value": "a+"}},
    {"repetition_penalty": 1.1},
    {"return_full_text": True},
    {"top_k": 5},
    {"truncate": 100},
    {"typical_p": 0.9},
    {"watermark": True},
]


@contextlib.asynccontextmanager
async def workflow_for(
    server: TGIServer, **options: Any
) -> AsyncIterator[TGIClientInferenceWorkflow]:
    async with server.serving() as url:
        workflow = TGIClientInferenceWorkflow(url, 5, retry_params={"tries": 1}, **options)
        await workflow.setup()
        try:
            yield workflow
        finally:
            await workflow.close()


async def answers(workflow: TGIClientInferenceWorkflow, **fields: Any) -> list[str]:
    """Return the answer to the text, whole and from a stream."""
    request = {**TEXT, **fields}
    whole = await workflow.inference(request)
    return [whole, "".join([piece async for piece in workflow.stream(request)])]


async def test_a_text_is_a_turn_of_a_conversation_where_there_is_a_chat_template() -> None:
    server = TGIServer()
    async with workflow_for(server, max_new_tokens=30, temperature=0.5) as workflow:
        assert await answers(workflow, adapter_id="harbour") == [ANSWER] * 2
        assert await answers(workflow) == [ANSWER] * 2
    assert {request.path for request in server.received} == {CHAT}
    named, plain = server.received[0].body, server.received[-1].body
    assert named["messages"] == [{"role": "user", "content": TEXT["text"]}]
    assert (named["max_tokens"], named["temperature"]) == (30, 0.5)
    assert (named["model"], plain["model"]) == ("harbour", "tgi")


@pytest.mark.parametrize("server", [TGIServer(has_template=False), TGIServer(apis=("tgi",))])
async def test_without_one_the_text_is_sent_as_it_is(server: TGIServer) -> None:
    async with workflow_for(server) as workflow:
        assert await answers(workflow) == [ANSWER] * 2
        assert await answers(workflow) == [ANSWER] * 2
    assert [request.path for request in server.received] == [GENERATE] * 4
    assert {request.body["inputs"] for request in server.received} == {TEXT["text"]}


async def test_a_parameter_that_only_generate_has_is_never_lost() -> None:
    server = TGIServer()
    async with workflow_for(server) as workflow:
        for fields in ONLY_GENERATE:
            assert await answers(workflow, **fields) == [ANSWER] * 2
            request = server.received[-1]
            assert request.path == GENERATE, fields
            assert fields.items() <= request.body["parameters"].items()
        await answers(workflow, top_k=-1)
        assert server.received[-1].path == CHAT


async def test_the_operators_choice_of_the_api_holds() -> None:
    server = TGIServer()
    async with workflow_for(server, api="tgi") as workflow:
        await workflow.inference(TEXT)
    async with workflow_for(server, api="openai") as workflow:
        await workflow.inference({**TEXT, "top_k": 5})
    assert [request.path for request in server.received] == [GENERATE, CHAT]


async def test_a_refusal_is_no_missing_template() -> None:
    server = TGIServer()
    async with workflow_for(server) as workflow:
        for status, kind in ((422, "validation"), (424, "generation"), (429, "overloaded")):
            server.upcoming.append(Behaviour(status=status, error_type=kind))
            with pytest.raises(ServiceError):
                await workflow.inference(TEXT)
        assert await workflow.inference(TEXT) == ANSWER
    assert {request.path for request in server.received} == {CHAT}


@pytest.mark.parametrize("options", [{}, {"api": "tgi"}, {"api": "openai"}])
async def test_an_empty_text_is_a_failure_that_says_so(options: dict[str, str]) -> None:
    server = TGIServer(behaviour=Behaviour(tokens=[]))
    async with workflow_for(server, **options) as workflow:
        with pytest.raises(GenerationFailed, match="answered with an empty text"):
            await workflow.inference(TEXT)
        with pytest.raises(GenerationFailed, match="answered with an empty text"):
            await anext(workflow.stream(TEXT))
