"""One classic service with several models, which requests name by `model_id`."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.infernet.tensor_request import TensorRequest
from ml.infernet.vector import DataType, Vector, decode_vector
from tests.conftest import MakeApp
from tests.support.model_files import MODELS, ROWS, Saved, two_inputs_onnx, with_weights_beside
from tests.support.requests import eventually, is_error, post
from tests.support.several_models import SEVERAL, Proves, Seen, listed

ROW = {"dtype": "double", "values": [[10.0, 20.0]]}


@pytest.fixture(autouse=True)
def _nothing_seen() -> Iterator[None]:
    Seen.forget()
    yield
    Seen.forget()


async def ask(app: Any, number: int) -> Any:
    """Return the status, and the first value of the answer or what the refusal says."""
    reply = await post(app, {"model_id": f"m{number}", **ROW})
    told = await reply.get_json()
    return reply.status_code, told["values"][0][0] if "values" in told else told["description"]


def vector(array: Any, dtype: DataType = DataType.FLOAT64) -> Vector:
    return Vector(np.asarray(array), dtype)


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


async def until(ask_again: Callable[[], Awaitable[Any]], due: Any) -> None:
    """Ask again and again until this is the answer; fails if it never is."""
    async with asyncio.timeout(60):
        while await ask_again() != due:  # noqa: ASYNC110 (what changes is on a disk)
            await asyncio.sleep(0.2)


async def models_of(app: Any) -> Any:
    """Return what readiness tells of the models."""
    return (await (await app.test_client().get("/health/ready")).get_json())["models"]


async def metric(app: Any, name: str) -> float:
    text = (await (await app.test_client().get("/metrics")).get_data()).decode()
    [line] = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.rpartition(" ")[2])


# --- what a model may be, and how it is named ---------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Saved]]:
    """A folder with a model file of each library, under the library's name."""
    folder, saved = tmp_path_factory.mktemp("models"), {}
    for name, save in MODELS.items():
        (folder / name).mkdir()
        saved[name] = save(folder / name)
        if name == "lightgbm":  # a file of its own instead of a folder
            shutil.move(saved[name].path, folder / "lightgbm.txt")
            (folder / name).rmdir()
    return folder, saved


@pytest.mark.parametrize("max_loaded_models", [None, 1])
async def test_models_of_all_libraries_are_asked_in_all_ways(
    make_app: MakeApp, files: tuple[Path, dict[str, Saved]], max_loaded_models: int | None
) -> None:
    folder, saved = files
    iris = {"model_source": "BUILT_IN", "model_args": {"name": "iris"}}
    arguments = {
        "models": {"iris": iris, "file": str(saved["onnxruntime"].path)},
        "models_folder": str(folder),
        "max_loaded_models": max_loaded_models,
    }
    app = await make_app(SEVERAL, workflow_kw_args=arguments)
    client = app.test_client()
    [entry] = (await (await client.get("/service-resources")).get_json())["compute_capability"]
    assert entry["models"] == ["iris", "file", *sorted(saved)]
    for name, one in {**saved, "file": saved["onnxruntime"]}.items():
        array = ROWS.astype(np.float32 if one.dtype == "float" else np.float64)
        reply = await post(app, {"model_id": name, "dtype": one.dtype, "values": ROWS.tolist()})
        offchain = (await reply.get_json())["values"]
        np.testing.assert_allclose(offchain, one.due, rtol=1e-5, atol=1e-6)

        kind = DataType.FLOAT32 if one.dtype == "float" else DataType.FLOAT64
        data = TensorRequest(vector(array, kind), name).encode().hex()
        contract = await client.post("/service_output", json={"source": 0, "data": data})
        answer = decode_vector(bytes.fromhex((await contract.get_json())["raw_output"]))
        np.testing.assert_allclose(answer.values, one.due, rtol=1e-5, atol=1e-6)

        headers = {"Content-Type": "application/x-npy", "X-Model-Id": name}
        reply = await client.post("/service_output", data=npy(array), headers=headers)
        answered = np.load(io.BytesIO(await reply.get_data()))
        np.testing.assert_allclose(answered, one.due, rtol=1e-5, atol=1e-6)

        told = await client.get("/service-resources", query_string={"model_id": name})
        assert await told.get_json() == {"supported": True}
    count = len(saved) + 1 if max_loaded_models is None else 1
    assert len((await models_of(app))["loaded"]) == count


async def test_a_file_is_known_with_its_ending_and_a_source_by_its_own_ids(
    make_app: MakeApp, files: tuple[Path, dict[str, Saved]]
) -> None:
    hub = {"repo_id": "owner/name", "filename": "m.onnx"}
    arguments = {"models": {"hub": hub}, "models_folder": str(files[0])}
    client = (await make_app(SEVERAL, workflow_kw_args=arguments)).test_client()
    for model_id, due in {
        "lightgbm": True,
        "lightgbm.txt": True,
        "hub": True,
        "huggingface/owner/name:m.onnx": True,
        "owner/name": True,
        "owner/name:other.onnx": False,
        "lightgbm.onnx": False,
    }.items():
        told = await client.get("/service-resources", query_string={"model_id": model_id})
        assert await told.get_json() == {"supported": due}, model_id


async def test_a_request_that_names_no_model_is_for_the_default_one(make_app: MakeApp) -> None:
    arguments = {"models": listed(2), "default_model": "m2"}
    app = await make_app(SEVERAL, workflow_kw_args=arguments)
    assert Seen.loads == {2: 1}  # before the service says that it is ready
    for data in (ROW, {**ROW, "model_id": ""}, {**ROW, "model_id": None}):
        assert (await (await post(app, data)).get_json())["values"][0][0] == 12
    contract = TensorRequest(vector(ROW["values"])).encode().hex()
    reply = await (await post(app, contract, source=0)).get_json()
    assert decode_vector(bytes.fromhex(reply["raw_output"])).values[0][0] == 12


async def test_a_stream_and_a_delegated_subscription_get_the_model_that_they_name(
    make_app: MakeApp,
) -> None:
    arguments = {"models": listed(2), "default_model": "m1", "max_loaded_models": 1}
    app = await make_app(SEVERAL, workflow_kw_args=arguments)
    data = {"model_id": "m2", **ROW}
    streamed = await post(app, data, destination=2)
    assert json.loads(await streamed.get_data())["values"][0][0] == 12
    assert (await (await post(app, ROW)).get_json())["values"][0][0] == 11
    delegated = await (await post(app, data, destination=0)).get_json()
    assert decode_vector(bytes.fromhex(delegated["raw_output"])).values[0][0] == 12
    assert json.loads(bytes.fromhex(delegated["raw_input"])) == data


async def test_without_a_default_a_request_is_told_to_name_one(make_app: MakeApp) -> None:
    app = await make_app(SEVERAL, workflow_kw_args={"models": listed(2)})
    contract = TensorRequest(vector(ROW["values"])).encode().hex()
    for data, source in ((ROW, 1), (contract, 0)):
        refused = await is_error(await post(app, data, source=source), 400)
        assert refused == "model_id: name one of the models here, such as m1, m2"
    form = await (await app.test_client().get("/service_output/form")).get_json()
    assert form["schema"]["required"] == ["model_id", "dtype", "values"]
    assert not Seen.loads


IDS = [
    "m", "M1", "m1 ", " m1", "m1/", "../m1", "..", "/etc/passwd", "m1\0", "\0", "m" * 100_000,
    "ｍ1", "model‮", "%6d1", "m1,m2", "[]", "null", "😀",
]  # fmt: skip


@pytest.mark.parametrize("model_id", IDS)
async def test_an_id_that_no_model_has_is_refused_with_those_that_there_are(
    make_app: MakeApp, tmp_path: Path, model_id: str
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "m1.onnx").write_bytes(b"outside")
    arguments = {"models": listed(30), "models_folder": str(tmp_path / "in")}
    app = await make_app(SEVERAL, workflow_kw_args=arguments)
    client = app.test_client()
    refused = [await post(app, {"model_id": model_id, **ROW})]
    if "\0" not in model_id:
        data = TensorRequest(vector(ROW["values"]), model_id).encode().hex()
        refused.append(await post(app, data, source=0))
    if model_id.isascii() and model_id.isprintable() and model_id.strip() == model_id:
        headers = {"Content-Type": "application/x-npy", "X-Model-Id": model_id}
        refused.append(await client.post("/service_output", data=npy([[1.0]]), headers=headers))
    for reply in refused:
        said = await is_error(reply, 404)
        assert "m19, m20 and 10 more" in said
        assert len(said) < 600
    told = await client.get("/service-resources", query_string={"model_id": model_id})
    assert await told.get_json() == {"supported": False}
    assert not Seen.loads


@pytest.mark.parametrize("model_id", [1, 0, 1.5, True, False, [], ["m1"], {}, {"m1": 1}])
async def test_an_id_that_is_no_text_is_told(make_app: MakeApp, model_id: Any) -> None:
    arguments = {"models": listed(1), "default_model": "m1"}
    app = await make_app(SEVERAL, workflow_kw_args=arguments)
    said = await is_error(await post(app, {"model_id": model_id, **ROW}), 400)
    assert said == "data.model_id: give the name of a model, as a text"


async def test_a_message_is_encoded_as_a_contract_that_asks_the_same_model(
    make_app: MakeApp,
) -> None:
    arguments = {"models": listed(2), "default_model": "m1"}
    app = await make_app(SEVERAL, workflow_kw_args=arguments)
    client = app.test_client()
    for data, due in ((ROW, 11), ({**ROW, "model_id": "m2"}, 12)):
        message = {"source": 1, "data": data}
        encoded = await (await client.post("/service_output/encode", json=message)).get_json()
        reply = await (await client.post("/service_output", json=encoded)).get_json()
        assert decode_vector(bytes.fromhex(reply["raw_output"])).values[0][0] == due


async def test_the_model_that_is_named_proves_its_answers_and_the_other_does_not(
    make_app: MakeApp,
) -> None:
    proves = {"workflow_class": f"{Proves.__module__}.{Proves.__qualname__}", "number": 2.0}
    app = await make_app(SEVERAL, workflow_kw_args={"models": {**listed(1), "m2": proves}})
    resources = await (await app.test_client().get("/service-resources")).get_json()
    assert "proof" in resources["compute_capability"][0]["task"]
    reply = await post(app, {"model_id": "m2", **ROW}, requires_proof=True)
    answer = await reply.get_json()
    assert bytes.fromhex(answer["proof"].removeprefix("0x")) == b"[[12.0, 22.0]]"
    reply = await post(app, {"model_id": "m1", **ROW}, requires_proof=True)
    assert reply.headers["X-Proof"] == "none"
    await is_error(
        await post(app, {"model_id": "m1", **ROW}, destination=0, requires_proof=True), 400
    )


async def test_the_form_and_the_api_document_offer_the_models(
    make_app: MakeApp, tmp_path: Path
) -> None:
    path = two_inputs_onnx(tmp_path)
    arguments = {"models": {**listed(1), "pairs": str(path)}, "default_model": "m1"}
    app = await make_app(SEVERAL, workflow_kw_args=arguments)
    client = app.test_client()
    form = await (await client.get("/service_output/form")).get_json()
    choice = form["schema"]["properties"]["model_id"]
    assert (choice["enum"], choice["default"]) == (["m1", "pairs"], "m1")
    of_pairs = await (await client.get("/service_output/form?model_id=pairs")).get_json()
    assert of_pairs["example"] is None  # before it is loaded
    tensors = {"x": {"dtype": "float", "values": [[1, 2, 3]]}}
    tensors["count:0"] = {"dtype": "long", "values": [4]}
    assert (await post(app, {"model_id": "pairs", "inputs": tensors})).status_code == 200
    of_pairs = await (await client.get("/service_output/form?model_id=pairs")).get_json()
    assert of_pairs["schema"]["properties"]["model_id"]["default"] == "pairs"
    assert (await post(app, of_pairs["example"])).status_code == 200
    await is_error(await client.get("/service_output/form?model_id=x"), 404)
    document = await (await client.get("/openapi.json")).get_json()
    operation = document["paths"]["/service_output"]["post"]
    assert "x-model-id" in [one["name"].lower() for one in operation["parameters"]]
    assert '"model_id"' in json.dumps(operation["requestBody"])


# --- loading and leaving ------------------------------------------------------------------------


async def test_requests_at_once_for_a_model_load_it_once_while_others_answer(
    make_app: MakeApp,
) -> None:
    app = await make_app(SEVERAL, workflow_kw_args={"models": listed(2)})
    gate = Seen.loading[1]
    waiting = [asyncio.create_task(ask(app, 1)) for _ in range(20)]
    await eventually(lambda: Seen.loads[1])
    assert [await ask(app, 2) for _ in range(3)] == [(200, 12)] * 3
    assert await models_of(app) == {"loaded": ["m2"], "loading": ["m1"], "bytes": 2}
    gate.set()
    assert await asyncio.gather(*waiting) == [(200, 11)] * 20
    assert Seen.loads == {1: 1, 2: 1}


async def test_those_who_wait_for_a_model_leave_places_to_others(make_app: MakeApp) -> None:
    app = await make_app(SEVERAL, workflow_kw_args={"models": listed(2)}, max_in_flight=8)
    assert await ask(app, 2) == (200, 12)
    gate = Seen.loading[1]
    waiting = [asyncio.create_task(ask(app, 1)) for _ in range(6)]
    await eventually(lambda: app.admission.in_flight == 6)
    refused = await post(app, {"model_id": "m1", **ROW})
    assert "'m1' is not loaded yet" in await is_error(refused, 503)
    assert refused.headers["Retry-After"] == "5"
    assert await ask(app, 2) == (200, 12)
    gate.set()
    assert await asyncio.gather(*waiting) == [(200, 11)] * 6
    assert await ask(app, 1) == (200, 11)


async def test_the_one_whose_last_use_is_longest_ago_makes_room(make_app: MakeApp) -> None:
    arguments = {"models": listed(4), "max_loaded_models": 2}
    app = await make_app(SEVERAL, workflow_kw_args=arguments)
    for number in (1, 2, 1, 3, 1, 4):
        assert await ask(app, number) == (200, 10 + number)
    assert Seen.closed == [2, 3]
    assert (await models_of(app))["loaded"] == ["m1", "m4"]
    assert await metric(app, "model_evictions_total") == 2
    assert await metric(app, "model_load_seconds_count") == 4
    assert await metric(app, "models_loaded") == 2


async def test_as_many_leave_as_the_bytes_of_a_model_need(make_app: MakeApp) -> None:
    models = listed(5, size=10)
    models["m4"]["size"] = 25
    models["m5"]["size"] = 31
    arguments = {"models": models, "max_memory_bytes": 30}
    app = await make_app(SEVERAL, workflow_kw_args=arguments)
    for number in (1, 2, 3):
        assert await ask(app, number) == (200, 10 + number)
    assert await metric(app, "models_loaded_bytes") == 30
    assert await ask(app, 4) == (200, 14)
    assert Seen.closed == [1, 2, 3]
    assert await ask(app, 5) == (
        503,
        "model_id: 'm5' cannot be loaded: it has 31 bytes, and all models together may have 30",
    )
    assert (await models_of(app)) == {"loaded": ["m4"], "loading": [], "bytes": 25}


async def test_a_model_in_use_leaves_behind_its_requests_and_who_waits_is_served(
    make_app: MakeApp,
) -> None:
    arguments = {"models": listed(2), "max_loaded_models": 1}
    app = await make_app(SEVERAL, workflow_kw_args=arguments)
    running = Seen.running[1]
    first = asyncio.create_task(ask(app, 1))
    await eventually(lambda: Seen.loads[1])
    second = asyncio.create_task(ask(app, 2))
    await eventually(lambda: app.admission.in_flight == 2)
    again = asyncio.create_task(ask(app, 1))  # behind the one that waits for the room
    await eventually(lambda: app.admission.in_flight == 3)
    assert (Seen.closed, Seen.loads[2]) == ([], 0)
    running.set()
    assert await asyncio.gather(first, second, again) == [(200, 11), (200, 12), (200, 11)]


async def test_who_leaves_while_a_model_waits_for_room_takes_none(make_app: MakeApp) -> None:
    arguments = {"models": listed(3), "max_loaded_models": 1}
    app = await make_app(SEVERAL, workflow_kw_args=arguments, request_timeout_seconds=60)
    running = Seen.running[1]
    first = asyncio.create_task(ask(app, 1))
    await eventually(lambda: Seen.loads[1])
    client = app.test_client()
    async with client.request("/service_output", method="POST") as gone:
        await gone.send(json.dumps({"source": 1, "data": {"model_id": "m2", **ROW}}).encode())
        await gone.send_complete()
        await eventually(lambda: app.admission.in_flight == 2)
        await gone.disconnect()
    await eventually(lambda: app.admission.in_flight == 1)
    running.set()
    assert await first == (200, 11)
    assert await ask(app, 3) == (200, 13)
    assert Seen.loads[2] == 0


@pytest.mark.parametrize("limit", [{"max_loaded_models": 1}, {"max_memory_bytes": 2}])
async def test_many_requests_that_alternate_at_the_limit_are_all_answered(
    make_app: MakeApp, limit: dict[str, int]
) -> None:
    arguments = {"models": listed(5), **limit}
    app = await make_app(SEVERAL, workflow_kw_args=arguments, max_in_flight=80)
    places = asyncio.Semaphore(60)

    async def one(number: int) -> None:
        async with places:
            assert await ask(app, number) == (200, 10 + number)

    await asyncio.gather(*(one(1 + step % 5) for step in range(1000)))
    assert max(Seen.batches) > 1
    assert len(Seen.closed) == sum(Seen.loads.values()) - len((await models_of(app))["loaded"])


async def test_a_load_that_fails_says_why_and_is_tried_again(
    make_app: MakeApp, tmp_path: Path
) -> None:
    models = listed(2)
    weights = tmp_path / "weights"
    models["m1"]["needs"] = str(weights)
    app = await make_app(SEVERAL, workflow_kw_args={"models": models, "max_loaded_models": 2})
    assert await ask(app, 2) == (200, 12)
    due = f"model_id: 'm1' cannot be loaded: {weights.name}: there is no such file"
    refused = await post(app, {"model_id": "m1", **ROW})
    assert await is_error(refused, 503) == due
    assert int(refused.headers["Retry-After"]) > 0
    assert [await ask(app, 1) for _ in range(20)] == [(503, due)] * 20
    assert Seen.loads[1] == 1  # for callers that ask many times a second
    assert await ask(app, 2) == (200, 12)
    assert await metric(app, "model_load_failures_total") == 1
    weights.touch()
    await until(lambda: ask(app, 1), (200, 11))


async def test_a_default_model_that_cannot_be_loaded_keeps_the_service_from_getting_ready(
    make_app: MakeApp, tmp_path: Path
) -> None:
    models = listed(1, needs=str(tmp_path / "weights"))
    arguments = {"models": models, "default_model": "m1"}
    app = await make_app(SEVERAL, workflow_kw_args=arguments)
    assert app.exit_code == 2
    assert "weights: there is no such file" in app.health.message


# --- the folder ---------------------------------------------------------------------------------


@pytest.fixture
async def served(make_app: MakeApp, tmp_path: Path) -> tuple[Any, Path]:
    """A service of an empty folder."""
    folder = tmp_path / "models"
    folder.mkdir()
    return await make_app(SEVERAL, workflow_kw_args={"models_folder": str(folder)}), folder


async def test_what_comes_into_the_folder_is_served_and_what_goes_is_not(
    served: tuple[Any, Path], tmp_path: Path
) -> None:
    app, folder = served
    saved = MODELS["onnxruntime"](tmp_path)
    data = {"dtype": "float", "values": ROWS.tolist()}
    shutil.copy(saved.path, folder / "häuser.onnx")

    async def status(model_id: str) -> int:
        status: int = (await post(app, {"model_id": model_id, **data})).status_code
        return status

    await until(lambda: status("häuser"), 200)
    (folder / "häuser.onnx").unlink()
    shutil.copy(saved.path, folder / "other.onnx")
    await until(lambda: status("other"), 200)
    await until(lambda: status("häuser"), 404)


async def test_links_out_of_the_folder_hidden_files_and_others_are_no_models(
    make_app: MakeApp, tmp_path: Path
) -> None:
    folder, outside = tmp_path / "models", MODELS["onnxruntime"](tmp_path).path
    (folder / "sub").mkdir(parents=True)
    (folder / "empty").mkdir()
    for name in ("a.onnx", "b.onnx", "b.torch", ".hidden.onnx", "notes.md", "sub/model.onnx"):
        shutil.copy(outside, folder / name)
    (folder / "link.onnx").symlink_to(outside)
    (folder / "way").symlink_to(tmp_path)
    (folder / "same.onnx").symlink_to("a.onnx")
    (folder / "circle.onnx").symlink_to("circle.onnx")
    app = await make_app(SEVERAL, workflow_kw_args={"models_folder": str(folder)})
    config = await (await app.test_client().get("/config")).get_json()
    assert config["models"]["offered"] == ["a", "b.onnx", "b.torch", "same", "sub"]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
async def test_weights_beside_a_file_may_not_lead_out_of_the_folder(
    engine: str, make_app: MakeApp, tmp_path: Path
) -> None:
    folder, outside = tmp_path / "models", tmp_path / "outside"
    for name in ("plain", "linked"):
        (folder / name).mkdir(parents=True)
        path = with_weights_beside(engine, folder / name).path
        assert path.with_suffix(".bin").stat().st_size
    (folder / "linked" / "model.bin").rename(outside)
    (folder / "linked" / "model.bin").symlink_to(outside)
    app = await make_app(SEVERAL, workflow_kw_args={"models_folder": str(folder)})
    data = {"dtype": "float", "values": ROWS.tolist()}
    assert (await post(app, {"model_id": "plain", **data})).status_code == 200
    refused = await post(app, {"model_id": "linked", **data})
    assert "model.bin beside it leads elsewhere" in await is_error(refused, 503)
