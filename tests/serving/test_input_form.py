"""What a workflow takes, told for forms, and written as a contract sends it."""

from __future__ import annotations

from typing import Any

import pytest

from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow
from ml.workflows.inference.torch_inference_workflow import TorchInferenceWorkflow
from tests.conftest import MakeApp
from tests.serving.conftest import MakeLLM
from tests.support.workflows import Echo, Prover, Shout, Typed

IRIS = {"model_source": "BUILT_IN", "model_args": {"name": "iris"}}
ROW = {"dtype": "float", "values": [[5.1, 3.5, 1.4, 0.2]]}


class OwnCodec(BaseInferenceWorkflow):
    """Reads what contracts send in a way that only its author knows."""

    def decode_onchain(self, data: bytes) -> Any:
        return data.hex()

    def do_run_model(self, data: Any) -> Any:
        return data


async def told_by(app: Any) -> dict[str, Any]:
    response = await app.test_client().get("/service_output/form")
    assert response.status_code == 200
    return await response.get_json()  # type: ignore[no-any-return]


async def encoded_by(app: Any, data: Any) -> tuple[int, dict[str, Any]]:
    response = await app.test_client().post(
        "/service_output/encode", json={"source": 1, "data": data}
    )
    return response.status_code, await response.get_json()


async def test_the_form_of_a_custom_workflow_is_its_input_models(make_app: MakeApp) -> None:
    told = await told_by(await make_app(Typed))
    assert told["schema"] == Typed.input_model.model_json_schema()
    assert (told["example"], told["streams"], told["proves"]) == (None, False, False)
    assert not told["contracts"]  # who knows how a contract would say a point?


async def test_a_workflow_that_takes_anything_has_no_schema(make_app: MakeApp) -> None:
    told = await told_by(await make_app(Prover))
    assert (told["schema"], told["proves"], told["contracts"]) == (None, True, True)


async def test_a_loaded_model_tells_the_shape_and_dtype_that_it_takes(make_app: MakeApp) -> None:
    told = await told_by(await make_app(TorchInferenceWorkflow, workflow_kw_args=IRIS))
    properties = told["schema"]["properties"]
    assert properties["dtype"]["enum"] == ["float"]
    assert properties["values"]["items"]["minItems"] == 4
    assert told["example"] == {"dtype": "float", "values": [[0.0] * 4]}


@pytest.mark.parametrize(
    ("workflow", "arguments", "data"),
    [
        (Shout, {}, "a text"),
        (TorchInferenceWorkflow, IRIS, ROW),
    ],
)
async def test_a_contract_that_sends_the_encoded_message_is_answered(
    make_app: MakeApp, workflow: type, arguments: dict[str, Any], data: Any
) -> None:
    app = await make_app(workflow, workflow_kw_args=arguments)
    status, message = await encoded_by(app, data)
    assert status == 200
    answer = await app.test_client().post("/service_output", json=message)
    assert answer.status_code == 200
    assert (await answer.get_json())["raw_input"] == message["data"]


async def test_a_contract_sends_a_language_model_a_text_and_nothing_beside(
    make_llm: MakeLLM,
) -> None:
    app = await make_llm()
    status, message = await encoded_by(app, {"text": "hello"})
    assert status == 200
    assert bytes.fromhex(message["data"]).rstrip(b"\0").endswith(b"hello")
    status, refused = await encoded_by(app, {"text": "hello", "temperature": 1})
    assert status == 400
    assert "temperature" in refused["description"]


@pytest.mark.parametrize(
    ("workflow", "data", "said"),
    [
        (OwnCodec, "a text", "not known"),
        (Typed, {"x": 1, "y": 2}, "not known"),
        (Echo, {"no": "text"}, "a text"),
    ],
)
async def test_what_a_contract_cannot_ask_is_refused_with_the_reason(
    make_app: MakeApp, workflow: type, data: Any, said: str
) -> None:
    status, refused = await encoded_by(await make_app(workflow), data)
    assert status == 400
    assert said in refused["description"]


async def test_a_message_of_a_contract_is_not_encoded_again(make_app: MakeApp) -> None:
    client = (await make_app(Shout)).test_client()
    response = await client.post("/service_output/encode", json={"source": 0, "data": "00"})
    assert response.status_code == 400


async def test_both_addresses_ask_for_a_key_where_there_is_one(make_app: MakeApp) -> None:
    client = (await make_app(Shout, api_keys="made-up-key")).test_client()
    assert (await client.get("/service_output/form")).status_code == 401
    asked = await client.post("/service_output/encode", json={"source": 1, "data": "a"})
    assert asked.status_code == 401
