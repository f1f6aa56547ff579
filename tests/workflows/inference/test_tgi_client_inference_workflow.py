"""`TGIClientInferenceWorkflow` against a scripted server, in one process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from ml.errors import (
    ConfigurationError,
    DeadlineExceeded,
    GenerationFailed,
    InvalidInput,
    Overloaded,
    ServiceError,
    TooManyRequests,
    UpstreamError,
    UpstreamRefused,
)
from ml.testing.tgi_server import Behaviour, TGIServer
from ml.workflows.inference.tgi_client_inference_workflow import TGIClientInferenceWorkflow
from tests.support.requests import eventually

QUICK = {"delay": 0.01, "jitter": 0}
ONCE = {"tries": 1}
TEXT = {"text": "Is the sky blue?"}
ANSWER = "You asked: Is the sky blue?"


@contextlib.asynccontextmanager
async def workflow_for(
    server: TGIServer, *arguments: Any, **options: Any
) -> AsyncIterator[TGIClientInferenceWorkflow]:
    async with server.serving() as url:
        options.setdefault("retry_params", QUICK)
        workflow = TGIClientInferenceWorkflow(url, *(arguments or (5,)), **options)
        await workflow.setup()
        try:
            yield workflow
        finally:
            await workflow.close()


@pytest.mark.parametrize("apis", [("tgi", "openai"), ("tgi",), ("openai",)])
async def test_a_text_is_answered_whole_and_in_pieces(apis: tuple[str, ...]) -> None:
    server = TGIServer(apis=apis)
    async with workflow_for(server) as workflow:
        assert workflow.server.api == apis[0]
        assert await workflow.inference(TEXT) == ANSWER
        assert await workflow.inference("Is the sky blue?") == ANSWER
        assert await workflow.inference({"output": "Is the sky blue?"}) == ANSWER
        pieces = [piece async for piece in workflow.stream(TEXT)]
        assert len(pieces) > 3
        assert "".join(pieces) == ANSWER
        assert workflow.supports_model("huggingface/test/model")
        assert workflow.compute_capability()["models"] == ["test/model"]


async def test_all_of_tgis_parameters_arrive_and_a_requests_own_come_first() -> None:
    given = {
        "best_of": 1,
        "do_sample": True,
        "frequency_penalty": 0.1,
        "grammar": {"type": "regex", "value": "a+"},
        "max_new_tokens": 30,
        "repetition_penalty": 1.1,
        "return_full_text": True,
        "seed": 3,
        "stop": ["\n"],
        "temperature": 0.01,
        "top_k": 5,
        "top_p": 0.9,
        "truncate": 100,
        "typical_p": 0.9,
        "watermark": True,
    }
    server = TGIServer()
    async with workflow_for(server, **given) as workflow:
        await workflow.inference(TEXT)
        await workflow.inference({**TEXT, "max_new_tokens": 2, "temperature": 0.5, "stop": ["x"]})
    first, second = (request.body["parameters"] for request in server.received)
    assert {name: first[name] for name in given} == given
    own = {"max_new_tokens": 2, "temperature": 0.5, "stop": ["x"]}
    assert {name: second[name] for name in given} == given | own


async def test_with_openais_api_parameters_have_its_names_and_others_go_along() -> None:
    server = TGIServer(apis=("openai",))
    async with workflow_for(server, max_new_tokens=4, top_k=5, seed=1) as workflow:
        await workflow.inference(TEXT)
    [request] = server.received
    assert request.path == "/v1/chat/completions"
    assert request.body["max_tokens"] == 4
    assert request.body["top_k"] == 5
    assert request.body["seed"] == 1
    assert request.body["model"] == "test/model"
    assert request.body["messages"] == [{"role": "user", "content": "Is the sky blue?"}]


async def test_token_headers_and_cookies_are_sent_and_no_other_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_this_machine")
    server = TGIServer()
    async with workflow_for(server, 5, {"X-One": "1"}, {"two": "2"}) as workflow:
        await workflow.inference(TEXT)
    async with workflow_for(server, token="ours") as workflow:
        await workflow.inference(TEXT)
    async with workflow_for(server, 5, {"Authorization": "Basic abc"}, token="ours") as workflow:
        await workflow.inference(TEXT)
    plain, ours, given = (request.headers for request in server.received)
    assert plain["x-one"] == "1"
    assert plain["cookie"] == "two=2"
    assert "authorization" not in plain
    assert ours["authorization"] == "Bearer ours"
    assert given["authorization"] == "Basic abc"


def test_hooks_of_an_image_builder_are_not_taken_for_quick() -> None:
    class Careful(TGIClientInferenceWorkflow):
        def do_preprocessing(self, input_data: Any) -> Any:
            return super().do_preprocessing(input_data)

    assert TGIClientInferenceWorkflow("http://127.0.0.1:9").has_quick_hooks
    assert not Careful("http://127.0.0.1:9").has_quick_hooks


async def test_a_request_may_not_ask_for_more_than_the_service_allows() -> None:
    async with workflow_for(TGIServer(), max_new_tokens=30) as workflow:
        with pytest.raises(InvalidInput, match=r"max_new_tokens: 31 is over the 30"):
            await workflow.inference({**TEXT, "max_new_tokens": 31})
        with pytest.raises(InvalidInput, match=r"data\.temperature"):
            await workflow.inference({**TEXT, "temperature": 0})


@pytest.mark.parametrize(
    ("behaviour", "kind", "message"),
    [
        (
            Behaviour(status=422, error="`inputs` too long", error_type="validation"),
            UpstreamRefused,
            "`inputs` too long (validation)",
        ),
        (
            Behaviour(status=424, error="no logits", error_type="generation"),
            GenerationFailed,
            "no logits (generation)",
        ),
        (
            Behaviour(status=424, error="cut", error_type="incomplete_generation"),
            GenerationFailed,
            "cut (incomplete_generation)",
        ),
        (Behaviour(status=429, retry_after="7"), TooManyRequests, "Model is overloaded"),
        (Behaviour(status=503), Overloaded, "Model is overloaded (overloaded)"),
        (Behaviour(status=504, plain_error="<html>"), DeadlineExceeded, "too long"),
        (Behaviour(status=502, plain_error="<html>secret</html>"), UpstreamError, "HTTP 502"),
        (Behaviour(status=500, plain_error="<html>"), UpstreamError, "HTTP 500"),
        (Behaviour(status=401, plain_error=""), UpstreamError, "token"),
        (Behaviour(drop_after=0), UpstreamError, "broke the connection off"),
    ],
    ids=lambda value: str(getattr(value, "status", "")),
)
@pytest.mark.parametrize("api", ["tgi", "openai"])
async def test_each_failure_of_the_server_is_one_of_ours(
    behaviour: Behaviour, kind: type[ServiceError], message: str, api: str
) -> None:
    server = TGIServer(behaviour=behaviour, apis=(api,))
    async with workflow_for(server, retry_params=ONCE) as workflow:
        with pytest.raises(kind) as raised:
            await workflow.inference(TEXT)
        assert type(raised.value) is kind
        assert message in raised.value.description
        assert "secret" not in raised.value.description
        if behaviour.retry_after:
            assert raised.value.retry_after_seconds == 7
        if behaviour.drop_after is None:
            with pytest.raises(kind):
                await anext(workflow.stream(TEXT))


@pytest.mark.parametrize(
    "failure", [Behaviour(status=503), Behaviour(drop_after=0)], ids=["503", "cut"]
)
async def test_a_failure_that_passes_is_not_seen_by_the_caller(failure: Behaviour) -> None:
    server = TGIServer()
    async with workflow_for(server) as workflow:
        server.upcoming.extend([failure, failure])
        assert await workflow.inference(TEXT) == ANSWER
        server.upcoming.extend([failure, failure])
        assert "".join([piece async for piece in workflow.stream(TEXT)]) == ANSWER
    assert len(server.received) == 6


@pytest.mark.parametrize(
    "failure", [Behaviour(drop_after=2), Behaviour(fail_after=2)], ids=["cut", "error"]
)
async def test_a_stream_that_breaks_off_is_a_failure_and_is_not_begun_again(
    failure: Behaviour,
) -> None:
    server = TGIServer(behaviour=failure)
    async with workflow_for(server) as workflow:
        stream = workflow.stream(TEXT)
        pieces = [await anext(stream), await anext(stream)]
        with pytest.raises(ServiceError):
            await anext(stream)
    assert "".join(pieces) == "You asked:"
    assert len(server.received) == 1


async def test_leaving_a_stream_closes_the_servers_request() -> None:
    server = TGIServer(behaviour=Behaviour(token_seconds=0.2))
    async with workflow_for(server) as workflow:
        pieces = workflow.stream(TEXT)
        await anext(pieces)
        await pieces.aclose()  # type: ignore[attr-defined]
        await eventually(lambda: server.left == 1)


async def test_connections_are_kept() -> None:
    server = TGIServer()
    async with workflow_for(server, api="tgi") as workflow:
        for _ in range(5):
            await workflow.inference(TEXT)
            assert [piece async for piece in workflow.stream(TEXT)]
    assert len(server.received) == 10
    assert len({request.client_port for request in server.received}) == 1


async def test_a_server_that_is_silent_took_too_long() -> None:
    async with workflow_for(TGIServer(behaviour=Behaviour(delay_seconds=30))) as workflow:
        workflow.server.connection.timeout = aiohttp.ClientTimeout(sock_read=0.1)
        with pytest.raises(DeadlineExceeded, match="too long"):
            await workflow.inference(TEXT)


async def test_the_constructor_asks_nobody_and_a_missing_server_is_a_readable_failure() -> None:
    workflow = TGIClientInferenceWorkflow("http://127.0.0.1:9", 0.5)
    with pytest.raises(UpstreamError, match="cannot be reached"):
        await workflow.setup()
    assert not workflow.is_setup


async def test_an_address_without_text_generation_is_the_operators_fault() -> None:
    async with TGIServer(apis=()).serving() as url:
        with pytest.raises(ConfigurationError, match="neither /info as TGI does nor /v1/models"):
            await TGIClientInferenceWorkflow(url).setup()


async def test_an_unhealthy_server_is_not_ready() -> None:
    server = TGIServer()
    async with workflow_for(server) as workflow:
        await workflow.check()
        server.is_healthy = False
        with pytest.raises(UpstreamError, match="not healthy"):
            await workflow.check()


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("ftp://x",), {}, "server_url"),
        ((5,), {}, "server_url"),
        (("http://x", 0), {}, "connection_timeout"),
        (("http://x", "30"), {}, "connection_timeout"),
        (("http://x", 30, ["a"]), {}, "headers"),
        (("http://x", 30, None, {"a": 1}), {}, "cookies"),
        (("http://x",), {"max_new_token": 3}, "did you mean 'max_new_tokens'"),
        (("http://x",), {"temperature": 0}, "temperature"),
        (("http://x",), {"api": "grpc"}, "api"),
        (("http://x",), {"retry_params": {"tries": 0}}, "retry_params.tries"),
        (("http://x",), {"retry_params": {"retries": 2}}, "retry_params.retries"),
        (("http://x",), {"retry_params": {"jitter": "x"}}, "retry_params.jitter"),
    ],
)
def test_wrong_arguments_are_refused_when_it_is_made(
    arguments: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TGIClientInferenceWorkflow(*arguments, **options)


@pytest.mark.parametrize("apis", [("tgi",), ("openai",)])
async def test_an_event_of_any_length_arrives(apis: tuple[str, ...]) -> None:
    token = "日" * 200_000
    async with workflow_for(TGIServer(behaviour=Behaviour(tokens=[token]), apis=apis)) as workflow:
        assert "".join([piece async for piece in workflow.stream(TEXT)]) == token
