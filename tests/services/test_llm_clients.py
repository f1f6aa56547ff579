"""The clients that people already have, unchanged, against the LLM service under hypercorn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import openai
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import ValidationError

from ml.workflows.inference.tgi_client_inference_workflow import TGIClientInferenceWorkflow
from tests.support.processes import Server, clean_environment, free_port

MODEL = "SmolLM2-135M-Instruct"
KEY = "a-key-for-tests"
QUESTION = "What is the capital of France?"
CONVERSATION = [{"role": "user", "content": QUESTION}]


@pytest.fixture(scope="module")
def service() -> Iterator[Server]:
    port = free_port()
    command = ["hypercorn", "llm_inference_service:create_app()", f"--bind=127.0.0.1:{port}"]
    environment = clean_environment(FLASK_LLM_API_KEYS=KEY)
    with Server(command, port=port, environment=environment) as server:
        yield server.wait_ready()


@pytest.fixture
def client(service: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def hub(service: Server) -> Iterator[InferenceClient]:
    with InferenceClient(service.url, token=KEY) as client:
        yield client


def native_answer(service: Server, text: str) -> str:
    reply = service.post({"text": text}, headers={"Authorization": f"Bearer {KEY}"})
    assert reply.status_code == 200, reply.text
    answer: str = reply.json()
    return answer


# --- openai ---------------------------------------------------------------------------------


def test_openai_chats(service: Server, client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=CONVERSATION)
    [choice] = completion.choices
    assert "Paris" in choice.message.content
    assert choice.message.content == native_answer(service, QUESTION)
    assert choice.finish_reason == "stop"
    assert completion.usage.total_tokens > completion.usage.completion_tokens > 3


def test_openai_streams_the_same_text(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=CONVERSATION)
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=CONVERSATION,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert len(pieces) > 3
    assert "".join(pieces) == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage == whole.usage


def test_openai_completes_and_stops(client: openai.OpenAI) -> None:
    prompt = "The capital of France is"
    cut = client.completions.create(model=MODEL, prompt=prompt, max_tokens=3)
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage.completion_tokens == 3
    stopped = client.completions.create(model=MODEL, prompt=prompt, stop=["."])
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.choices[0].text == " Paris"
    chunks = client.completions.create(model=MODEL, prompt=prompt, max_tokens=3, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == cut.choices[0].text


def test_openai_completes_several_prompts_and_token_ids(client: openai.OpenAI) -> None:
    prompts = ["The capital of France is", "The capital of Italy is"]
    whole = client.completions.create(model=MODEL, prompt=prompts, max_tokens=4)
    assert [choice.index for choice in whole.choices] == [0, 1]
    assert "Paris" in whole.choices[0].text
    assert "Rome" in whole.choices[1].text
    streamed = ["", ""]
    for chunk in client.completions.create(model=MODEL, prompt=prompts, max_tokens=4, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == [choice.text for choice in whole.choices]
    assert client.completions.create(model=MODEL, prompt=[504, 3575], max_tokens=2).choices[0].text


def test_openai_lists_the_model(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


def test_openai_raises_its_own_errors(service: Server, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="gpt-4"):
        client.chat.completions.create(model="gpt-4", messages=CONVERSATION)
    with pytest.raises(openai.BadRequestError, match="n: "):
        client.chat.completions.create(model=MODEL, messages=CONVERSATION, n=65)
    with pytest.raises(openai.BadRequestError, match="tokens") as raised:
        client.completions.create(model=MODEL, prompt="word " * 3000, stream=True)
    assert (raised.value.code, raised.value.param) == ("context_length_exceeded", "prompt")
    with (
        openai.OpenAI(base_url=f"{service.url}/v1", api_key="wrong") as stranger,
        pytest.raises(openai.AuthenticationError, match="valid key"),
    ):
        stranger.chat.completions.create(model=MODEL, messages=CONVERSATION)


async def test_openais_async_client_has_several_streams_at_once(service: Server) -> None:
    # Its answer hangs on no close choice, which falls differently with who shares a step.
    asked = [{"role": "user", "content": "How many legs has a dog?"}]
    async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key=KEY) as client:

        async def stream(number: int) -> tuple[str, str | None]:
            chunks = await client.chat.completions.create(
                model=MODEL, messages=asked, max_tokens=2 + number, stream=True
            )
            text, reason = "", None
            async for chunk in chunks:
                text += chunk.choices[0].delta.content or ""
                reason = chunk.choices[0].finish_reason
            return text, reason

        results = await asyncio.gather(*(stream(number) for number in range(8)))
    assert all("4" in text for text, _ in results[4:])
    assert [reason for _, reason in results[:4]] == ["length"] * 4


# --- huggingface_hub ------------------------------------------------------------------------


def test_the_hubs_client_generates(hub: InferenceClient) -> None:
    text = hub.text_generation("The capital of France is", max_new_tokens=4)
    assert text.startswith(" Paris")
    detailed = hub.text_generation("The capital of France is", max_new_tokens=4, details=True)
    assert detailed.generated_text == text
    assert detailed.details is not None
    assert detailed.details.finish_reason == "length"
    assert "".join(token.text for token in detailed.details.tokens) == text


def test_the_hubs_client_streams(hub: InferenceClient) -> None:
    prompt = "The capital of France is"
    text = hub.text_generation(prompt, max_new_tokens=4)
    assert "".join(hub.text_generation(prompt, max_new_tokens=4, stream=True)) == text
    *_, last = hub.text_generation(prompt, max_new_tokens=4, stream=True, details=True)
    assert last.generated_text == text
    assert last.details is not None
    assert last.details.generated_tokens == 4


def test_the_hubs_client_raises_its_own_errors(hub: InferenceClient) -> None:
    with pytest.raises(ValidationError, match="best_of"):
        hub.text_generation("x", best_of=65)
    with pytest.raises(ValidationError, match="tokens"):
        list(hub.text_generation("word " * 3000, stream=True))


def test_the_hubs_client_chats_without_naming_a_model(hub: InferenceClient) -> None:
    answer = hub.chat_completion(CONVERSATION, max_tokens=20)
    assert "Paris" in str(answer.choices[0].message.content)
    chunks = list(hub.chat_completion(CONVERSATION, max_tokens=20, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == answer.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_the_hubs_client_reads_info_and_health(service: Server) -> None:
    with InferenceClient(service.url, provider="hf-inference", token=KEY) as client:
        assert client.get_endpoint_info()["model_id"] == MODEL
        assert client.health_check()


async def test_the_hubs_async_client_has_several_streams_at_once(service: Server) -> None:
    async with AsyncInferenceClient(service.url, token=KEY) as client:

        async def stream(number: int) -> str:
            pieces = await client.text_generation(
                "The capital of France is", max_new_tokens=4 + number, stream=True
            )
            return "".join([piece async for piece in pieces])

        texts = await asyncio.gather(*(stream(number) for number in range(6)))
    assert all(text.startswith(" Paris") for text in texts)
    assert len(set(map(len, texts))) > 1


# --- our own client of TGI ------------------------------------------------------------------


async def test_our_tgi_client_converses_with_it_also_as_a_neighbour_in_a_chain(
    service: Server,
) -> None:
    question = "Is the sky blue during a clear day?"
    workflow = TGIClientInferenceWorkflow(service.url, 30, token=KEY, max_new_tokens=30)
    await workflow.setup()
    try:
        answer = await workflow.inference({"text": question})
        assert "sky" in answer.lower()
        assert "".join([piece async for piece in workflow.stream({"text": question})]) == answer
        for_chain = {"text": answer, "max_new_tokens": 10}
        first = service.post(for_chain, headers={"Authorization": f"Bearer {KEY}"}).json()
        assert first
        assert await workflow.inference({"output": first})
    finally:
        await workflow.close()
