"""Every address of every service while its workflow loads, after it failed to, and in a drain."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import validate

from ml.jobs.process import Process
from ml.jobs.scheduler import lease_name
from ml.jobs.store import JobStore
from ml.testing.tgi_server import TGIServer
from tests.support.circuits import iris_artifact
from tests.support.processes import service_variables
from tests.support.requests import JSON, eventually
from tests.support.services import PREFIXES, SERVICES
from tests.support.tiny_llm import save_tiny_llm
from tests.support.unloaded import REASON

#: How the class of each service's workflow ends in `tests.support.unloaded`.
KINDS = {
    "classic_ml_inference_service": "Torch",
    "llm_inference_service": "LLM",
    "tgi_client_inference_service": "TGI",
    "unsloth_trainer_service": "Trainer",
    "ezkl_proof_service": "Proofs",
}
UNLOADED = {
    "loading": "The workflow is loading.",
    "failed": REASON,
    "draining": "The service is shutting down.",
}
#: What answers whatever the workflow does, with what it answers.
WITHOUT_WORKFLOW = {
    ("GET", "/"): 200,
    ("GET", "/health"): 503,
    ("GET", "/health/live"): 200,
    ("GET", "/health/ready"): 503,
    ("GET", "/service-resources"): 200,
    ("GET", "/openapi.json"): 200,
    ("GET", "/docs"): 200,
    ("GET", "/redoc"): 200,
    ("GET", "/assets/docs/swagger-ui-bundle.js"): 200,
    ("GET", "/assets/docs/swagger-ui.css"): 200,
    ("GET", "/assets/docs/redoc.standalone.js"): 200,
    ("GET", "/assets/pages/x"): 404,
    ("GET", "/favicon.ico"): 204,
    ("GET", "/config"): 200,
    ("GET", "/metrics"): 200,
    ("GET", "/dashboard"): 200,
    ("GET", "/dashboard/x"): 404,
    ("GET", "/datasets/formats"): 200,
    ("GET", "/service_output/form"): 200,
    ("GET", "/new"): 200,
    ("GET", "/chat"): 200,
}
#: Addresses whose example names what the services of these tests have not.
NOT_HERE = {
    "/v1/embeddings": "an embedding model",
    "/v1/adapters": "a folder of adapters",
    "/verify": "a whole proof",
    "/inference": "the tuned model of its name",
    "/finetune": "a data set",
    "/datasets/validate": "a data set",
    "/v1/fine_tuning/jobs": "an uploaded file",
    "/v1/models/{name}/export": "a tuned model",
    "/v1/models/{name}/feedback": "a tuned model",
}
TRAINER_NOT_HERE = {**NOT_HERE, "/service_output": "a data set"}
#: Where failures have the form of TGI's clients.
TGI_PATHS = ("/info", "/generate", "/generate_stream")
OPENAI_PATHS = ("/v1/", "/inference/chat/completions", "/tokenize", "/detokenize")

MakeService = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("states")
    save_tiny_llm(root / "tiny")
    for name in ("input", "output", "working"):
        (root / name).mkdir()
    return root


@pytest.fixture
async def make_service(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[MakeService]:
    """Start one of the services in this process, with its own workflow or one in a state."""
    async with contextlib.AsyncExitStack() as stack:

        async def arguments(name: str) -> list[str]:
            match name:
                case "llm_inference_service" | "unsloth_trainer_service":
                    return [str(folders / "tiny")]
                case "tgi_client_inference_service":
                    return [stack.enter_context(TGIServer().serving_in_thread())]
                case "ezkl_proof_service":
                    return [str(iris_artifact())]
            return []

        async def make(name: str, state: str = "") -> Any:
            prefix = PREFIXES[name]
            variables = {
                f"{prefix}WORKFLOW_POSITIONAL_ARGS": json.dumps(await arguments(name)),
                "INPUT_PATH": str(folders / "input"),
                "OUTPUT_PATH": str(folders / "output"),
                "WORKING_PATH": str(folders / "working"),
            }
            if name == "classic_ml_inference_service":
                built_in = {"model_source": "BUILT_IN", "model_args": {"name": "iris"}}
                variables[f"{prefix}WORKFLOW_KW_ARGS"] = json.dumps(built_in)
            if state:
                path = f"tests.support.unloaded.{state.capitalize()}{KINDS[name]}"
                variables[f"{prefix}WORKFLOW_CLASS"] = path
                variables[f"{prefix}REQUEST_TIMEOUT_SECONDS"] = "0.1"
            for variable, value in service_variables(**variables).items():
                monkeypatch.setenv(variable, value)
            if name == "unsloth_trainer_service":
                await stack.enter_async_context(held(folders / "working" / "jobs.sqlite"))
            app = importlib.import_module(name).create_app()
            await stack.enter_async_context(app.test_app())
            return app

        yield make


@contextlib.asynccontextmanager
async def held(file: Path) -> AsyncIterator[None]:
    """Let no job of a store begin: an example of the API may queue one."""
    async with JobStore(f"sqlite:///{file}") as store:
        process = Process.numbered(os.getpid())
        name = f"{process}/test"
        assert await store.acquire_lease(lease_name(process.host), name, 600) == name
        yield


def requests_of(app: Any) -> set[tuple[str, str]]:
    """Return a method and an address for each thing that an application answers."""
    found = {("POST", path) for path in app.endpoints}
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<[^>]*>", "x", rule.rule)
        found |= {(method, path) for method in rule.methods - {"HEAD", "OPTIONS"}}
    return found


async def ask(app: Any, method: str, path: str) -> tuple[int, Any, Any]:
    body = b"{}" if method in ("POST", "PUT", "PATCH") else None
    response = await app.test_client().open(path, method=method, data=body, headers=JSON)
    text = await response.get_data()
    is_json = response.content_type == "application/json"
    return response.status_code, response.headers, json.loads(text) if is_json else text


def told(method: str, path: str, document: Any) -> str:
    """Return a refusal's sentence, read in the form that is due at an address."""
    if path.startswith(OPENAI_PATHS):
        assert document["error"]["type"] == "server_error"
        return str(document["error"]["message"])
    if path in TGI_PATHS or (method, path) == ("POST", "/"):
        assert document["error_type"] == "unhealthy"
        return str(document["error"])
    assert document["code"] == "503"
    return str(document["description"])


@pytest.mark.parametrize("state", UNLOADED)
@pytest.mark.parametrize("name", SERVICES)
async def test_without_its_workflow_each_address_answers_or_says_why_not(
    make_service: MakeService, name: str, state: str
) -> None:
    app = await make_service(name, "failed" if state == "failed" else "loading")
    if state == "failed":
        await eventually(lambda: app.health.state == "failed")
    if state == "draining":
        app.begin_drain()
    addresses = requests_of(app)
    assert ("POST", "/service_output") in addresses
    for method, path in sorted(addresses):
        status, headers, document = await ask(app, method, path)
        due = WITHOUT_WORKFLOW.get((method, path), 503)
        assert status == due, (method, path, document)
        if (method, path) not in WITHOUT_WORKFLOW:
            assert UNLOADED[state] in told(method, path, document), (method, path)
            assert headers.get("Retry-After") == ("1" if state == "loading" else None), path


@pytest.mark.parametrize("name", SERVICES)
async def test_with_its_workflow_no_address_breaks_also_not_in_a_drain(
    make_service: MakeService, name: str
) -> None:
    app = await make_service(name)
    await eventually(lambda: app.health.state == "ready")
    for drains in (False, True):
        if drains:
            app.begin_drain()
        for method, path in sorted(requests_of(app)):
            status, _, document = await ask(app, method, path)
            probe = drains and path in ("/health", "/health/ready")
            assert status < 500 or probe, (method, path, document)


async def test_a_tuned_model_is_not_missing_while_the_service_loads(
    make_service: MakeService,
) -> None:
    app = await make_service("unsloth_trainer_service", "loading")
    status, headers, document = await ask(app, "GET", "/v1/models/mine")
    assert (status, headers["Retry-After"]) == (503, "1")
    assert document["error"]["message"] == UNLOADED["loading"]


@pytest.mark.parametrize("name", SERVICES)
async def test_each_example_of_the_api_is_answered_as_its_document_says(
    make_service: MakeService, name: str
) -> None:
    app = await make_service(name)
    await eventually(lambda: app.health.state == "ready")
    client = app.test_client()
    document = await (await client.get("/openapi.json")).get_json()
    not_here = TRAINER_NOT_HERE if name == "unsloth_trainer_service" else NOT_HERE
    tried = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            for example in body.get("examples", {}).values():
                given = await client.open(path, method=method.upper(), json=example["value"])
                assert str(given.status_code) in operation["responses"], (path, given.status_code)
                assert (given.status_code < 400) == (path not in not_here), (path, example)
                described = operation["responses"][str(given.status_code)].get("content", {})
                if given.mimetype == "application/json" and "application/json" in described:
                    schema = described["application/json"]["schema"]
                    whole = {**schema, "components": document["components"]}
                    validate(await given.get_json(), whole)
                tried.append(path)
    assert tried
    if app.workflow.has_form:
        assert tried.count("/service_output") >= 2
        assert "/service_output/encode" in tried


def is_described(answer: Any) -> bool:
    """Return whether all forms of an answer say what stands in them."""
    return bool(answer.get("content")) and all(
        content["schema"] not in ({}, {"type": "object"}) for content in answer["content"].values()
    )


@pytest.mark.parametrize("name", SERVICES)
async def test_each_operation_has_a_group_a_summary_and_described_bodies_and_answers(
    make_service: MakeService, name: str
) -> None:
    client = (await make_service(name, "loading")).test_client()
    document = await (await client.get("/openapi.json")).get_json()
    groups = {tag["name"] for tag in document["tags"]}
    ids = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            ids.append(operation["operationId"])
            assert set(operation["tags"]) <= groups, path
            assert operation["summary"], path
            assert all(one["description"] for one in operation["responses"].values()), path
            assert all(map(is_described, operation["responses"].values())), path
            assert min(operation["responses"]) < "300", path
            assert method == "get" or max(operation["responses"]) >= "400", path
            without = ("/cancel", "/resume", "/pause", "/serve")
            takes_body = method == "post" and not path.endswith(without)
            assert ("requestBody" in operation) == takes_body, path
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", SERVICES)
async def test_each_body_has_an_example_and_each_model_a_name_of_its_own(
    make_service: MakeService, name: str
) -> None:
    app = await make_service(name)
    await eventually(lambda: app.health.state == "ready")
    document = await (await app.test_client().get("/openapi.json")).get_json()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                is_binary = content["schema"].get("format") == "binary"
                is_known = app.workflow.has_form or not path.startswith("/service_output")
                assert content.get("examples") or is_binary or not is_known, path
    async with app.app_context():
        provider = app.extensions["QUART_SCHEMA"].openapi_provider
        named: dict[str, Any] = {}
        for rule in provider.generate_rules():
            for model, schema in provider.build_paths(rule)[1].items():
                assert named.setdefault(model, schema) == schema, (model, rule.rule)
