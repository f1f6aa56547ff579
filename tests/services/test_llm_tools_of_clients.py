"""Clients unchanged, with tools, forms, responses and embeddings, on the real model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from huggingface_hub import InferenceClient
from pydantic import BaseModel

from tests.support.processes import ROOT, Server, clean_environment, free_port
from tests.support.tiny_embedder import save_tiny_embedder

MODEL = "SmolLM2-135M-Instruct"
KEY = "a-key-for-tests"
QUESTION = "What is the weather like in Paris? Call the tool."
CONVERSATION = [{"role": "user", "content": QUESTION}]


class Weather(BaseModel):
    """Tells the weather of a city."""

    city: Literal["Paris", "Rome"]
    tomorrow: bool


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    embedder = save_tiny_embedder(tmp_path_factory.mktemp("embedder") / "tiny-embedder")
    arguments = json.dumps({"embedding_model": str(embedder), "weights": "fp16"})
    port = free_port()
    command = ["serve", "llm_inference_service", f"--bind=127.0.0.1:{port}"]
    environment = clean_environment(FLASK_LLM_API_KEYS=KEY, FLASK_LLM_WORKFLOW_KW_ARGS=arguments)
    with Server(command, port=port, environment=environment) as server:
        yield server.wait_ready()


@pytest.fixture
def client(service: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


# --- openai -----------------------------------------------------------------------------------


def test_openai_parses_an_answer_into_a_model(client: openai.OpenAI) -> None:
    completion = client.chat.completions.parse(
        model=MODEL, messages=CONVERSATION, response_format=Weather
    )
    assert isinstance(completion.choices[0].message.parsed, Weather)


def test_openai_parses_the_arguments_of_a_tool(client: openai.OpenAI) -> None:
    completion = client.chat.completions.parse(
        model=MODEL,
        messages=CONVERSATION,
        tools=[openai.pydantic_function_tool(Weather)],
        tool_choice="required",
        parallel_tool_calls=False,
    )
    [choice] = completion.choices
    assert choice.finish_reason == "tool_calls"
    [call] = choice.message.tool_calls
    assert isinstance(call.function.parsed_arguments, Weather)
    result = {"role": "tool", "tool_call_id": call.id, "content": "It is sunny in Paris."}
    answer = client.chat.completions.create(
        model=MODEL, messages=[*CONVERSATION, choice.message, result], max_tokens=30
    )
    assert answer.choices[0].message.content


def test_openais_stream_of_a_tool_ends_in_the_same_call(client: openai.OpenAI) -> None:
    wish: dict[str, Any] = {
        "model": MODEL,
        "messages": CONVERSATION,
        "tools": [openai.pydantic_function_tool(Weather)],
        "tool_choice": {"type": "function", "function": {"name": "Weather"}},
    }
    whole = client.chat.completions.parse(**wish).choices[0].message.tool_calls[0].function
    with client.chat.completions.stream(**wish) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert kinds.count("tool_calls.function.arguments.delta") > 3
    [call] = final.choices[0].message.tool_calls
    assert call.function.arguments == whole.arguments
    assert call.function.parsed_arguments == whole.parsed_arguments


def test_openai_reads_probabilities_and_several_answers(client: openai.OpenAI) -> None:
    completion = client.chat.completions.create(
        model=MODEL,
        messages=CONVERSATION,
        n=2,
        temperature=1,
        seed=1,
        logprobs=True,
        max_tokens=5,
    )
    assert [choice.index for choice in completion.choices] == [0, 1]
    for choice in completion.choices:
        tokens = choice.logprobs.content
        assert "".join(token.token for token in tokens) == choice.message.content
        assert all(token.logprob <= 0 for token in tokens)


def test_what_the_engine_does_not_tell_is_refused_with_one_that_does(
    client: openai.OpenAI,
) -> None:
    with pytest.raises(openai.BadRequestError, match="engine transformers can") as raised:
        client.chat.completions.create(
            model=MODEL, messages=CONVERSATION, logprobs=True, top_logprobs=2
        )
    assert raised.value.param == "top_logprobs"


def test_openais_responses_have_text_forms_and_tools(client: openai.OpenAI) -> None:
    question = "What is the capital of France?"
    response = client.responses.create(model=MODEL, input=question)
    assert "Paris" in response.output_text
    assert response.status == "completed"
    with client.responses.stream(model=MODEL, input=question) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert len(deltas) > 3
    assert "".join(deltas) == final.output_text == response.output_text
    parsed = client.responses.parse(model=MODEL, input=QUESTION, text_format=Weather)
    assert isinstance(parsed.output_parsed, Weather)
    tool = openai.pydantic_function_tool(Weather)["function"]
    called = client.responses.create(
        model=MODEL,
        input=QUESTION,
        tools=[{"type": "function", **tool}],
        tool_choice="required",
        parallel_tool_calls=False,
    )
    [item] = called.output
    assert Weather.model_validate_json(item.arguments)
    result = {"type": "function_call_output", "call_id": item.call_id, "output": "Sunny"}
    turns = [*CONVERSATION, item, result]
    again = client.responses.create(model=MODEL, input=turns, max_output_tokens=20)
    assert again.output_text


def test_openais_embeddings_are_those_that_it_asks_for_in_base64(client: openai.OpenAI) -> None:
    texts = ["Paris", "Rome"]
    packed = client.embeddings.create(model="tiny-embedder", input=texts)
    plain = client.embeddings.create(model="tiny-embedder", input=texts, encoding_format="float")
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding)
        assert len(one.embedding) == 16


# --- langchain --------------------------------------------------------------------------------


def langchain_chat(service: Server, **arguments: Any) -> Any:
    from langchain_openai import ChatOpenAI

    url = f"{service.url}/v1"
    return ChatOpenAI(model=MODEL, base_url=url, api_key=KEY, temperature=0, **arguments)


def test_langchain_answers_in_batches_and_streams(service: Server) -> None:
    chat = langchain_chat(service)
    answers = chat.batch([f"What is the capital of {land}?" for land in ("France", "Italy")])
    assert "Paris" in answers[0].content
    assert answers[1].content
    assert answers[0].usage_metadata["output_tokens"] > 3
    pieces = list(chat.stream("What is the capital of France?"))
    assert len(pieces) > 3
    assert "Paris" in "".join(piece.content for piece in pieces)


@pytest.mark.parametrize("use_responses_api", [False, True])
def test_langchain_binds_tools(service: Server, use_responses_api: bool) -> None:
    from langchain_core.messages import HumanMessage, ToolMessage

    chat = langchain_chat(service, use_responses_api=use_responses_api)
    bound = chat.bind_tools([Weather], tool_choice="any", parallel_tool_calls=False)
    asked = HumanMessage(QUESTION)
    called = bound.invoke([asked])
    [call] = called.tool_calls
    assert call["name"] == "Weather"
    assert Weather.model_validate(call["args"])
    result = ToolMessage("It is sunny.", tool_call_id=call["id"])
    assert chat.invoke([asked, called, result], max_tokens=20).content
    streamed = None
    for piece in bound.stream([asked]):
        streamed = piece if streamed is None else streamed + piece
    assert streamed.tool_calls[0]["args"] == call["args"]


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain_structures_its_output(service: Server, method: str) -> None:
    structured = langchain_chat(service).with_structured_output(Weather, method=method)
    assert isinstance(structured.invoke(QUESTION), Weather)


def test_langchain_embeds(service: Server) -> None:
    from langchain_openai import OpenAIEmbeddings

    embeddings = OpenAIEmbeddings(
        model="tiny-embedder",
        base_url=f"{service.url}/v1",
        api_key=KEY,
        check_embedding_ctx_length=False,  # it would fetch OpenAI's tokenizer
    )
    assert len(embeddings.embed_documents(["Paris", "Rome"])) == 2


# --- litellm ----------------------------------------------------------------------------------


def test_litellm_answers_calls_tools_and_falls_back_where_the_context_is_too_short(
    service: Server,
) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.support.litellm_client",
        f"{service.url}/v1",
        KEY,
        MODEL,
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=clean_environment(LITELLM_LOCAL_MODEL_COST_MAP="True"),  # without it, it asks the web
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert "Paris" in told["answer"]
    assert told["streamed"] == told["answer"]
    assert isinstance(json.loads(told["arguments"]), dict)
    assert told["refusal"] == "ContextWindowExceededError"
    assert told["fallback"] == "from the large one"


# --- huggingface_hub --------------------------------------------------------------------------


@pytest.fixture
def hub(service: Server) -> Iterator[InferenceClient]:
    with InferenceClient(service.url, token=KEY) as client:
        yield client


def test_the_hubs_client_learns_details(hub: InferenceClient) -> None:
    told = hub.text_generation(
        "The capital of France is",
        max_new_tokens=4,
        details=True,
        decoder_input_details=True,
        best_of=2,
        do_sample=True,
        seed=1,
        repetition_penalty=1.1,
        frequency_penalty=0.5,
    )
    assert told.details is not None
    assert "".join(token.text for token in told.details.prefill) == "The capital of France is"
    [other] = told.details.best_of_sequences
    assert other.generated_text


def test_the_hubs_client_gets_the_form_it_asks_for(hub: InferenceClient) -> None:
    grammar = {"type": "json", "value": Weather.model_json_schema()}
    text = hub.text_generation(QUESTION, grammar=grammar, max_new_tokens=60)
    assert Weather.model_validate_json(text)
    schema = {"name": "weather", "schema": Weather.model_json_schema(), "strict": True}
    chat = hub.chat_completion(
        CONVERSATION, response_format={"type": "json_schema", "json_schema": schema}, max_tokens=60
    )
    assert Weather.model_validate_json(chat.choices[0].message.content)


def test_the_hubs_client_calls_tools(hub: InferenceClient) -> None:
    tool = openai.pydantic_function_tool(Weather)
    wish: dict[str, Any] = {"tools": [tool], "tool_choice": "required", "max_tokens": 100}
    message = hub.chat_completion(CONVERSATION, **wish).choices[0].message
    assert Weather.model_validate_json(message.tool_calls[0].function.arguments)
    deltas = [
        chunk.choices[0].delta for chunk in hub.chat_completion(CONVERSATION, stream=True, **wish)
    ]
    first = [part for delta in deltas for part in delta.tool_calls or () if part.index == 0]
    arguments = "".join(part.function.arguments for part in first)
    assert Weather.model_validate_json(arguments)
