"""What people think of a tuned model's answers: kept with the run that made it, within bounds."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from ml.finetuning.feedback import FEEDBACK_FILE
from tests.services.trainer import Trainer, trainer

PATH = "/v1/models/houses/feedback"
FEEDBACK: dict[str, Any] = {
    "id": "chatcmpl-1",
    "rating": "up",
    "messages": [{"role": "user", "content": "a private question"}],
    "answer": "an answer",
}


@pytest.fixture
async def service(
    tmp_path: Path,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Trainer]:
    async with trainer(tmp_path, models, monkeypatch) as running:
        await running.jobs.create("ml.finetuning.job", {"output_dir": "houses"}, "ft-1")
        for name in ("houses", "copied"):
            (tmp_path / "output" / name).mkdir()
            (tmp_path / "output" / name / "adapter_config.json").write_text("{}")
        (tmp_path / "output" / "houses" / ".job").write_text("ft-1")
        yield running


async def counts(service: Trainer) -> Any:
    reply = await service.app.test_client().get("/jobs/ft-1/feedback")
    return await reply.get_json()


async def test_the_newest_rating_of_each_answer_counts(
    service: Trainer, log_lines: Callable[[], list[dict[str, Any]]]
) -> None:
    assert await counts(service) == {"up": 0, "down": 0}
    for number, (answer, rating) in enumerate(
        [("a", "up"), ("b", "down"), ("a", "down"), ("c", "up"), ("b", None)], start=1
    ):
        reply = await service.post(PATH, FEEDBACK | {"id": answer, "rating": rating})
        assert reply.status_code == 200
        file = service.root / "working/jobs/ft-1" / FEEDBACK_FILE
        assert len(file.read_text().splitlines()) == number
    assert await reply.get_json() == await counts(service) == {"up": 1, "down": 1}
    reply = await service.app.test_client().get(f"/jobs/ft-1/files/{FEEDBACK_FILE}")
    first, *_ = (await reply.get_data()).splitlines()
    assert json.loads(first).items() >= (FEEDBACK | {"id": "a"}).items()
    assert "private" not in json.dumps(log_lines())


@pytest.mark.parametrize(
    ("name", "body", "status", "words"),
    [
        ("houses", {}, 400, "id: "),
        ("houses", FEEDBACK | {"rating": "fine"}, 400, "rating: "),
        ("houses", FEEDBACK | {"messages": []}, 400, "messages: "),
        ("houses", FEEDBACK | {"stars": 5}, 400, "stars: "),
        ("houses", FEEDBACK | {"answer": "x" * (1 << 18)}, 413, "262144 bytes"),
        ("small", FEEDBACK, 404, "There is no tuned model 'small' here"),
        ("nobody", FEEDBACK, 404, "There is no tuned model"),
        ("copied", FEEDBACK, 422, "made by no run"),
        ("../working", FEEDBACK, 404, "There is no tuned model"),
        ("%2e%2e%2fworking", FEEDBACK, 404, "There is no tuned model"),
    ],
)
async def test_what_cannot_be_kept_is_refused_in_the_words_of_openais_clients(
    service: Trainer, name: str, body: Any, status: int, words: str
) -> None:
    for file in (".job", "adapter_config.json"):
        (service.root / "working" / file).write_text("ft-1")
    reply = await service.post(f"/v1/models/{name}/feedback", body)
    assert reply.status_code == status
    assert words in (await reply.get_json())["error"]["message"]
    assert await counts(service) == {"up": 0, "down": 0}


async def test_a_run_keeps_no_more_than_a_bounded_file(service: Trainer) -> None:
    folder = service.root / "working/jobs/ft-1"
    folder.mkdir(parents=True)
    line = json.dumps(FEEDBACK | {"answer": "x" * 100_000}) + "\n"
    (folder / FEEDBACK_FILE).write_text(line * ((1 << 24) // len(line)))
    size = (folder / FEEDBACK_FILE).stat().st_size
    reply = await service.post(PATH, FEEDBACK | {"answer": "y" * 200_000})
    assert reply.status_code == 413
    assert (folder / FEEDBACK_FILE).stat().st_size == size
    assert await counts(service) == {"up": 1, "down": 0}


async def test_where_hosts_share_files_each_sees_what_was_thought_at_the_others(
    tmp_path: Path,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    url = {"TRAINER_FILES_URL": f"file://{there}"}
    (tmp_path / "first").mkdir()
    async with trainer(tmp_path / "first", models, monkeypatch, **url) as first:
        await share_a_model(first, there)
        await first.post(PATH, FEEDBACK | {"id": "a"})
        await first.post(PATH, FEEDBACK | {"id": "b"})
        assert await counts(first) == {"up": 2, "down": 0}
    (tmp_path / "second").mkdir()
    async with trainer(tmp_path / "second", models, monkeypatch, **url) as second:
        await second.jobs.create("ml.finetuning.job", {"output_dir": "houses"}, "ft-1")
        assert await counts(second) == {"up": 2, "down": 0}
        await second.post(PATH, FEEDBACK | {"id": "b", "rating": "down"})
        await second.post(PATH, FEEDBACK | {"id": "c"})
        assert await counts(second) == {"up": 2, "down": 1}
        files = await (await second.app.test_client().get("/jobs/ft-1/files")).get_json()
        rated = [file for file in files["files"] if file["kind"] == "feedback"]
        assert len(rated) == 2
        for file in rated:
            lines = (
                await (await second.app.test_client().get(file["url"])).get_data()
            ).splitlines()
            assert len(lines) == 2


async def test_what_cannot_be_shared_is_not_kept_here_alone(
    tmp_path: Path,
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    url = f"file://{there}"
    async with trainer(tmp_path, models, monkeypatch, TRAINER_FILES_URL=url) as running:
        await share_a_model(running, there)
        (there / "jobs").mkdir()
        (there / "jobs" / "ft-1").write_text("in the way")
        reply = await running.post(PATH, FEEDBACK)
        assert reply.status_code == 503, await reply.get_data()
        [own] = (tmp_path / "working" / "jobs" / "ft-1" / "feedback").iterdir()
        assert own.read_bytes() == b""


async def share_a_model(service: Trainer, there: Path) -> None:
    """Leave a model of a run where hosts share their files."""
    await service.jobs.create("ml.finetuning.job", {"output_dir": "houses"}, "ft-1")
    (there / "models").mkdir()
    (there / "models" / "houses.json").write_text(json.dumps({"job": "ft-1", "files": {}}))
