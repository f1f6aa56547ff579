"""The services in this process, each on a small model, with right requests to begin from."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml.testing.tgi_server import TGIServer
from tests.support import step_job
from tests.support.circuits import SETOSA, iris_artifact
from tests.support.finetuning import save_small_llm, write_rows
from tests.support.processes import clean_environment
from tests.support.requests import abi_text, eventually
from tests.support.services import PREFIXES
from tests.support.tiny_embedder import save_tiny_embedder

__all__ = ["Target", "running"]

_TENSOR = {"dtype": "float", "values": [SETOSA]}
_CHAT = {"model": "tgi", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
_SCHEMA = {"type": "object", "properties": {"a": {"enum": ["b"]}}, "required": ["a"]}
_FUNCTION = {"name": "look", "description": "Looks", "parameters": _SCHEMA}
_CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"a": "b"}'}}
_CALLED = [
    {"role": "user", "content": [{"type": "text", "text": "hello"}]},
    {"role": "assistant", "tool_calls": [_CALL]},
    {"role": "tool", "tool_call_id": "1", "content": "b"},
]
_TOOLS = {"tools": [{"type": "function", "function": _FUNCTION}], "tool_choice": "required"}
_FORM = {"type": "json_schema", "json_schema": {"name": "a", "schema": _SCHEMA, "strict": True}}
_ITEMS = [
    {"role": "user", "content": [{"type": "input_text", "text": "hello"}]},
    {"type": "function_call", "call_id": "1", "name": "look", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "1", "output": "b"},
]
_RESPONSE = {"input": "hello", "max_output_tokens": 4}
_ODDS = {
    "n": 2,
    "logit_bias": {"5": 1.5},
    "min_p": 0.1,
    "frequency_penalty": 1,
    "presence_penalty": 1,
    "repetition_penalty": 1.2,
    "ignore_eos": True,
}
_TGI = {"max_new_tokens": 4, "details": True, "top_n_tokens": 2, "decoder_input_details": True}
_LANGUAGE: dict[str, list[Any]] = {
    "/v1/chat/completions": [
        _CHAT,
        {**_CHAT, "stream": True, "temperature": 0.7, "seed": 1},
        {**_CHAT, **_TOOLS, "messages": _CALLED, "parallel_tool_calls": False},
        {**_CHAT, **_TOOLS, "stream": True},
        {**_CHAT, **_ODDS, "response_format": _FORM, "logprobs": True, "top_logprobs": 2},
        {**_CHAT, "structured_outputs": {"json": _SCHEMA}},
    ],
    "/v1/completions": [
        {"model": "tgi", "prompt": "hello", "max_tokens": 4},
        {"prompt": [[1, 2], "b"], **_ODDS, "best_of": 3, "logprobs": 2, "echo": True}
        | {"max_tokens": 2},
        {"prompt": "hello", "guided_regex": "a|b", "max_tokens": 4, "stream": True},
    ],
    "/v1/responses": [
        _RESPONSE,
        {**_RESPONSE, "stream": True, "top_logprobs": 2},
        {**_RESPONSE, "input": _ITEMS, "tools": [{"type": "function", **_FUNCTION}]},
        {**_RESPONSE, "text": {"format": {"type": "json_schema", "name": "a", "schema": _SCHEMA}}},
    ],
    "/v1/embeddings": [{"input": "hello"}, {"input": [[1, 2], "b"], "encoding_format": "base64"}],
    "/tokenize": [{"prompt": "hello"}, {"messages": _CALLED, **_TOOLS}, {"inputs": "hello"}],
    "/detokenize": [{"tokens": [1, 2, 3]}],
    "/generate": [
        {"inputs": "hello", "parameters": {"max_new_tokens": 4, "stop": ["x"]}},
        {
            "inputs": "hello",
            "parameters": {**_TGI, "best_of": 2, "grammar": {"type": "regex", "value": "a|b"}},
        },
        {"inputs": "hello", "parameters": {"grammar": {"type": "json", "value": _SCHEMA}}},
    ],
    "/generate_stream": [
        {"inputs": "hello", "parameters": {"max_new_tokens": 4, "top_n_tokens": 2}}
    ],
}
_TUNING = {
    "model_name": "small",
    "dataset_name": "rows",
    "max_steps": 2,
    "max_seq_length": 64,
    "lora_r": 4,
    "learning_rate": 1e-3,
}
_SQL = {"query": "SELECT * FROM rows", "params": []}


@dataclass
class Target:
    """An application that runs, bodies that it takes by path, and ids that it knows."""

    app: Any
    bodies: dict[str, list[Any]]
    ids: list[str] = field(default_factory=list)


@contextlib.asynccontextmanager
async def running(name: str, folder: Path) -> AsyncIterator[Target]:
    """Run a service with a folder of its own for its files; the environment is put back."""
    before = dict(os.environ)
    with contextlib.ExitStack() as stack:
        settings = _settings(name, folder, stack)
        try:
            os.environ.clear()
            os.environ.update(clean_environment() | settings)
            app = importlib.import_module(name).create_app()
            async with app.test_app():
                await eventually(lambda: app.health.state != "starting", 60)
                assert app.health.state == "ready", app.health.message
                yield Target(app, _bodies(name), await _ids(name, app))
        finally:
            os.environ.clear()
            os.environ.update(before)


def _settings(name: str, folder: Path, stack: contextlib.ExitStack) -> dict[str, str]:
    own: dict[str, Any] = {"LOG_REQUESTS": False}
    folder.mkdir(parents=True)
    others = {"HF_HUB_OFFLINE": "1"}  # odd names are looked for on this machine alone
    if name == "classic_ml_inference_service":
        own["WORKFLOW_KW_ARGS"] = {"model_source": "BUILT_IN", "model_args": {"name": "iris"}}
    elif name == "llm_inference_service":
        own["WORKFLOW_POSITIONAL_ARGS"] = [str(save_small_llm(folder / "model"))]
        embedder = str(save_tiny_embedder(folder / "embedder"))
        own["WORKFLOW_KW_ARGS"] = {"max_new_tokens": 4, "embedding_model": embedder}
    elif name == "tgi_client_inference_service":
        url = stack.enter_context(TGIServer().serving_in_thread())
        own["WORKFLOW_POSITIONAL_ARGS"] = [url, 5]
        own["WORKFLOW_KW_ARGS"] = {"retry_params": {"tries": 1}, "max_new_tokens": 4}
    elif name == "unsloth_trainer_service":
        own["WORKFLOW_KW_ARGS"] = {"max_new_tokens": 4}
        own["WORKFLOW_POSITIONAL_ARGS"] = [str(save_small_llm(folder / "models" / "small"))]
        for place in ("INPUT_PATH", "OUTPUT_PATH", "WORKING_PATH"):
            (folder / place).mkdir()
            others[place] = str(folder / place)
        others["MODELS_PATH"] = str(folder / "models")
        write_rows(folder / "INPUT_PATH" / "rows.jsonl", [("a?", "b"), ("c?", "d")] * 4)
    else:
        artifact = shutil.copytree(iris_artifact(), folder / "artifacts" / "iris")
        own["WORKFLOW_POSITIONAL_ARGS"] = [str(artifact)]
        others["WORKING_PATH"] = str(folder / "working")
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in own.items()}
    return {PREFIXES[name] + key: text for key, text in texts.items()} | others


async def _ids(name: str, app: Any) -> list[str]:
    """Return ids that addresses may be asked for; a job that works on keeps others in the queue."""
    if name not in ("unsloth_trainer_service", "ezkl_proof_service"):
        return ["iris", "tgi"]
    store = app.workflow.jobs if name == "unsloth_trainer_service" else app.workflow.jobs.store
    working = {"steps": 10**6, "pause_seconds": 0.5}
    jobs = [await store.create(step_job.KIND, working, f"job-{number}") for number in range(4)]
    return [*(job.id for job in jobs), "iris", "small"]


def _bodies(name: str) -> dict[str, list[Any]]:
    data: list[Any] = [_TENSOR, {**_TENSOR, "values": [SETOSA] * 3}]
    bodies: dict[str, list[Any]] = {}
    on_chain = abi_text("hello")
    if name == "llm_inference_service":
        data = ["hello", {"text": "hello", "history": [{"player": "a"}]}]
        data += [{"text": "hello", **_TOOLS}, {"text": "hello", "response_format": _FORM}]
        bodies = dict(_LANGUAGE)
    elif name == "tgi_client_inference_service":
        data = ["hello", {"text": "hello", "max_new_tokens": 2}]
    elif name == "unsloth_trainer_service":
        data = [{"job_id": "job-1"}, _TUNING]
        train = {"model_name": "small", "query_params": _SQL, "training_params": {"max_steps": 2}}
        bodies = _LANGUAGE | {
            "/finetune": [_TUNING, {**_TUNING, "chat_template": "{{ messages[0].content }}"}],
            "/train": [train, {**train, "query_id": 1}],
            "/datasets/validate": [_TUNING],
            "/inference": [{"model_path": "small", "prompt": "hello", "max_new_tokens": 2}],
            "/inference/chat/completions": [_CHAT],
            "/v1/fine_tuning/jobs": [
                {"model": "small", "training_file": "rows", "hyperparameters": {"n_epochs": 1}}
            ],
        }
    elif name == "ezkl_proof_service":
        bodies = {"/proofs": [_TENSOR], "/verify": [{"calldata": "0x" + "00" * 68}]}
    messages = [{"source": 1, "destination": to, "data": d} for d in data for to in (1, 0, 2)]
    messages += [{**messages[0], "requires_proof": True}]
    chain = {"source": 0, "destination": 0, "data": on_chain}
    return bodies | {"/service_output": [*messages, chain, {**chain, "requires_proof": True}]}
