"""What holds of all services, as a node asks them: proofs, failed hops of a chain, resources."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from eth_abi.abi import encode

from ml.infernet.tensor_request import TensorRequest
from ml.infernet.vector import Arithmetic, DataType, Vector
from ml.testing.tgi_server import TGIServer
from tests.support.circuits import SETOSA, built_in_iris_artifact, iris_artifact
from tests.support.processes import clean_environment
from tests.support.requests import (
    OFFCHAIN,
    ONCHAIN,
    STREAM,
    abi_text,
    eventually,
    is_error,
    post,
)
from tests.support.tiny_llm import save_tiny_llm

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLASSIC, EZKL = "classic_ml_inference_service", "ezkl_proof_service"
LLM, TGI = "llm_inference_service", "tgi_client_inference_service"
TRAINER = "unsloth_trainer_service"
PROVING_CLASSIC = f"{CLASSIC} with an artifact"
NAMES = (CLASSIC, PROVING_CLASSIC, LLM, TGI, TRAINER, EZKL)

IRIS = {"model_source": "BUILT_IN", "model_args": {"name": "iris"}}
FLOWER = {"dtype": "float", "values": [SETOSA]}
#: The same from a contract, with 18 decimals.
ASKED = TensorRequest(Vector(np.array([SETOSA]), DataType.FLOAT64, Arithmetic.FIXED_POINT))
QUESTION = {"text": "Is the sky blue?"}
NO_SUCH_TRAINING = encode(["string"] * 3, ["tuned/model", "none.jsonl", "{}"]).hex()


@dataclass(frozen=True)
class Service:
    """A service, and what it answers."""

    name: str
    app: Any
    offchain: Any
    onchain: str

    @property
    def proves(self) -> bool:
        return self.name in (PROVING_CLASSIC, EZKL)

    async def ask(self, source: int, **fields: Any) -> Any:
        data = self.onchain if source == ONCHAIN else self.offchain
        given = {name: value for name, value in fields.items() if value is not None}
        return await post(self.app, data, source=source, **given)

    async def resources(self, **query: str) -> Any:
        reply = await self.app.test_client().get("/service-resources", query_string=query)
        assert reply.status_code == 200
        return json.loads(await reply.get_data())


def environment(name: str, folder: Path, tgi_url: str) -> dict[str, str]:
    return {
        CLASSIC: lambda: clean_environment(workflow_kw_args=IRIS),
        PROVING_CLASSIC: lambda: clean_environment(
            workflow_kw_args={**IRIS, "proof_artifact": str(built_in_iris_artifact())}
        ),
        LLM: lambda: clean_environment(
            FLASK_LLM_WORKFLOW_POSITIONAL_ARGS=[str(save_tiny_llm(folder / "tiny"))],
            FLASK_LLM_WORKFLOW_KW_ARGS={"max_new_tokens": 4},
        ),
        TGI: lambda: clean_environment(TGI_INF_WORKFLOW_POSITIONAL_ARGS=[tgi_url, 5]),
        TRAINER: lambda: clean_environment(
            INPUT_PATH=str(folder),
            OUTPUT_PATH=str(folder / "output"),
            WORKING_PATH=str(folder / "working"),
            TRAINER_ALLOWED_MODELS="tuned/model",
        ),
        EZKL: lambda: clean_environment(
            EZKL_WORKFLOW_POSITIONAL_ARGS=[str(iris_artifact())], WORKING_PATH=str(folder)
        ),
    }[name]()


async def data_of(name: str, app: Any) -> tuple[Any, str]:
    """Return what the service is asked off-chain, and by contracts."""
    if name in (LLM, TGI):
        return QUESTION, abi_text(QUESTION["text"])
    if name == TRAINER:  # a job whose work is no module ends at once
        job = await app.workflow.jobs.create("no.such.module", {}, "train-1")
        return {"job_id": job.id}, NO_SUCH_TRAINING
    return FLOWER, ASKED.encode().hex()


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=NAMES)
async def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    name: str = request.param
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(TGIServer().serving()) if name == TGI else ""
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in environment(name, tmp_path_factory.mktemp("it"), url).items():
                patch.setenv(variable, value)
            app = import_module(name.split()[0]).create_app()
            await stack.enter_async_context(app.test_app())
        await eventually(lambda: app.health.state != "starting", 60)
        yield Service(name, app, *await data_of(name, app))


@pytest.mark.parametrize(
    ("source", "destination"), list(product((ONCHAIN, OFFCHAIN), (None, ONCHAIN, OFFCHAIN, STREAM)))
)
async def test_a_proof_is_made_where_it_is_asked_for_and_read_and_refused_where_it_is_missed(
    service: Service, source: int, destination: int | None
) -> None:
    goes_to = source if destination is None else destination
    plain = await service.ask(source, destination=destination, requires_proof=False)
    reply = await service.ask(source, destination=destination, requires_proof=True)
    assert "X-Proof" not in plain.headers
    text = (await reply.get_data()).decode()
    if goes_to != OFFCHAIN and not service.proves:
        assert "requires_proof: this workflow makes no proofs" in await is_error(reply, 400)
        return
    if service.name == TRAINER and source == ONCHAIN:  # which has no such data
        assert "requires_proof" not in await is_error(reply, plain.status_code)
        return
    assert (plain.status_code, reply.status_code) == (200, 200), text
    is_proved = service.proves and not (source == ONCHAIN and goes_to == OFFCHAIN)
    assert reply.headers.get("X-Proof") == (None if is_proved else "none")
    assert (('"proof":"' in text and '"proof":""' not in text) or '"proof":{' in text) == is_proved
    if goes_to == ONCHAIN:
        assert json.loads(await plain.get_data())["proof"] == ""


async def test_what_a_contracts_first_hop_answers_is_an_input_of_the_same_kind(
    service: Service,
) -> None:
    if service.name == TRAINER:
        return
    first = await service.ask(ONCHAIN, destination=OFFCHAIN, requires_proof=True)
    data = json.loads(await first.get_data())
    second = await post(service.app, data or "nothing", destination=OFFCHAIN)
    if service.name in (LLM, TGI):
        assert second.status_code == 200
    else:  # three numbers, where the model takes four
        assert "[1, 3]" in await is_error(second, 400)


@pytest.mark.parametrize("destination", [ONCHAIN, OFFCHAIN, STREAM])
@pytest.mark.parametrize("proof", [True, False])
async def test_the_refusal_of_the_container_before_is_passed_on(
    service: Service, destination: int, proof: bool
) -> None:
    refused = {"code": "404", "name": "Not Found", "description": "there is no artifact 'x'"}
    told = "the container before this one refused: there is no artifact 'x' (404 Not Found)"
    reply = await post(service.app, refused, destination=destination, requires_proof=proof or None)
    assert await is_error(reply, 400) == told
    again = {"code": "400", "name": "Bad Request", "description": told}
    reply = await post(service.app, again, destination=destination)
    assert await is_error(reply, 400) == told


async def test_the_resources_say_what_is_done_with_which_models(service: Service) -> None:
    [entry] = (await service.resources())["compute_capability"]
    assert entry["id"] == "ml"
    assert entry["type"]
    assert ("proof" in entry["task"]) == service.proves
    assert set(entry["task"]) & {"tensor_inference", "text_generation", "fine_tuning", "proof"}
    assert entry["models"]
    for model_id in entry["models"]:
        assert await service.resources(model_id=model_id) == {"supported": True}
    assert await service.resources(model_id="other/model") == {"supported": False}
