"""A tuned model is handed to a real LLM service, which answers by its name."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ml.finetuning.output import Output
from tests.services.trainer import Trainer, trainer
from tests.support.processes import Server, clean_environment, free_port
from tests.support.tiny_llm import save_adapter, save_tiny_llm

KEY = "sesame"
FILES = ("adapter_config.json", "adapter_model.safetensors")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llm(tmp_path_factory.mktemp("llm") / "tiny")


@pytest.fixture(scope="module")
def made(tiny: Path) -> list[Path]:
    return [save_adapter(tiny, tiny.parent / f"made-{seed}", seed=seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def llm(tiny: Path) -> Iterator[Server]:
    """An LLM service with a key, which takes adapters of up to a megabyte."""
    adapters = tiny.parent / "adapters"
    adapters.mkdir()
    port = free_port()
    environment = clean_environment(
        OMP_NUM_THREADS="1",
        FLASK_LLM_WORKFLOW_POSITIONAL_ARGS=json.dumps([str(tiny)]),
        FLASK_LLM_WORKFLOW_KW_ARGS=json.dumps(
            {"adapters_path": str(adapters), "max_new_tokens": 8, "engine": "transformers"}
        ),
        FLASK_LLM_API_KEYS=KEY,
        FLASK_LLM_MAX_ADAPTER_BYTES=str(1 << 20),
    )
    command = ["serve", "llm_inference_service", f"--bind=127.0.0.1:{port}", "--workers=1"]
    with Server(command, port=port, environment=environment) as server:
        yield server.wait_ready()


@pytest.fixture
async def service(
    tmp_path: Path,
    models: Path,
    llm: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Trainer]:
    settings = {"TRAINER_SERVE_URL": llm.url, "TRAINER_SERVE_KEY": KEY}
    async with trainer(tmp_path, models, monkeypatch, **settings) as running:
        yield running


def tune(service: Trainer, name: str, adapter: Path) -> None:
    """Leave what a run leaves that made this adapter."""
    output = Output(service.root / "output", name, f"ft-{name}")
    output.claim([])
    for file in FILES:
        (output.folder / file).write_bytes((adapter / file).read_bytes())
    output.write_archive(list(FILES))


async def serve(service: Trainer, name: str, query: str = "") -> tuple[int, Any]:
    reply = await service.post(f"/v1/models/{name}/serve{query}")
    return reply.status_code, await reply.get_json()


def ask(llm: Server, model: str) -> Any:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "temperature": 0}
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=llm.url, headers=headers, timeout=60) as client:
        return client.post("/v1/chat/completions", json=body)


def put(llm: Server, name: str, body: bytes, query: str = "", **headers: str) -> Any:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/zip"} | headers
    with httpx.Client(base_url=llm.url, timeout=60) as client:
        return client.put(f"/v1/adapters/{name}{query}", content=body, headers=headers)


async def test_one_call_makes_the_llm_service_answer_by_the_adapters_name(
    service: Trainer, llm: Server, made: list[Path]
) -> None:
    tune(service, "houses", made[0])
    assert ask(llm, "houses").status_code == 404
    expected = (200, {"id": "houses", "object": "model", "served": True})
    for _ in range(2):  # again is allowed
        assert await serve(service, "houses") == expected
    first = ask(llm, "houses")
    assert first.status_code == 200, first.text
    assert first.json()["model"] == "houses"

    (service.root / "output" / "houses.zip").unlink()
    tune(service, "houses", made[1])
    status, document = await serve(service, "houses")
    assert (status, "replace=true" in document["error"]["message"]) == (409, True)
    assert ask(llm, "houses").json()["choices"] == first.json()["choices"]
    assert await serve(service, "houses", "?replace=true") == expected
    assert ask(llm, "houses").json()["choices"] != first.json()["choices"]


async def test_what_cannot_be_handed_over_is_told_and_leaves_nothing(
    service: Trainer, llm: Server, made: list[Path], tiny: Path
) -> None:
    tune(service, "broken", made[0])
    output = Output(service.root / "output", "broken", "ft-broken")
    (output.folder / FILES[1]).write_bytes(b"no weights")
    output.write_archive(list(FILES))
    status, document = await serve(service, "broken")
    assert status == 422
    assert "is damaged or incomplete" in document["error"]["message"]
    assert (await serve(service, "nobody"))[0] == 404
    output.archive.unlink()
    status, document = await serve(service, "broken")
    assert (status, "no archive" in document["error"]["message"]) == (422, True)
    assert not (tiny.parent / "adapters" / "broken").exists()


def zipped(*entries: tuple[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def test_nothing_but_an_adapter_that_fits_is_taken_and_nothing_else_is_written(
    llm: Server, made: list[Path], tiny: Path
) -> None:
    config, weights = ((FILES[n], (made[0] / FILES[n]).read_bytes()) for n in (0, 1))
    good = zipped(config, weights, ("../outside.txt", b"x"), ("tokenizer.json", b"{}"))
    folder = tiny.parent / "adapters"
    before = sorted(path.name for path in folder.iterdir())
    for name, body, query, status, told in (
        ("new", b"no zip", "", 400, "no zip"),
        ("new", b"", "", 400, "no zip"),
        ("new", zipped(config), "", 400, "has no adapter_model.safetensors"),
        ("new", zipped(config, (FILES[1], bytes(2 << 20))), "", 413, "at most 1048576"),
        ("new", bytes(2 << 20), "", 413, "FLASK_LLM_MAX_ADAPTER_BYTES raises this limit"),
        ("new", good, "?sha256=" + "0" * 64, 400, "send it again"),
        ("new", good, "?sha256=short", 400, "64 hexadecimal digits"),
        ("..new", good, "", 400, "letters, digits"),
    ):
        reply = put(llm, name, body, query)
        assert reply.status_code == status, (query, reply.text)
        assert told in reply.json()["error"]["message"]
        assert sorted(path.name for path in folder.iterdir()) == before
    assert put(llm, "new", good, Authorization="Bearer other").status_code == 401
    assert put(llm, "new", good, **{"Content-Type": "application/json"}).status_code == 415
    reply = put(llm, "new", good, f"?sha256={hashlib.sha256(good).hexdigest()}")
    assert reply.status_code == 200, reply.text
    assert sorted(path.name for path in folder.iterdir()) == sorted([*before, "new"])
    assert sorted(path.name for path in (folder / "new").iterdir()) == sorted(FILES)
    assert not (tiny.parent / "outside.txt").exists()


async def test_an_llm_service_that_is_away_or_refuses_the_key_is_a_502_without_its_address(
    tmp_path: Path,
    models: Path,
    llm: Server,
    made: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number, (url, told) in enumerate(
        (
            (f"http://user:pass@127.0.0.1:{free_port()}", "cannot be reached"),
            (llm.url, "refuses the key in TRAINER_SERVE_KEY"),
        )
    ):
        root = tmp_path / str(number)
        root.mkdir()
        settings = {"TRAINER_SERVE_URL": url, "TRAINER_SERVE_KEY": "another"}
        async with trainer(root, models, monkeypatch, **settings) as service:
            tune(service, "houses", made[0])
            status, document = await serve(service, "houses")
            assert status == 502
            assert told in document["error"]["message"]
            assert "127.0.0.1" not in document["error"]["message"]
            reply = await service.app.test_client().get("/config")
            assert not [
                secret for secret in ("another", "pass@") if secret in str(await reply.data)
            ]


async def test_without_an_llm_service_the_call_says_what_to_set(
    tmp_path: Path,
    models: Path,
    made: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with trainer(tmp_path, models, monkeypatch) as service:
        tune(service, "houses", made[0])
        status, document = await serve(service, "houses")
        assert (status, "TRAINER_SERVE_URL" in document["error"]["message"]) == (422, True)
