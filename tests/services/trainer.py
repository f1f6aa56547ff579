"""The trainer service in this process, on a small model; its slot is taken, so nothing trains."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ml.finetuning.output import Output
from ml.jobs.job import JobState
from ml.workflows.training.unsloth_trainer_workflow import FINETUNING
from tests.support import step_job
from tests.support.finetuning import REQUEST, write_rows
from tests.support.jobs import job_in
from tests.support.processes import ROOT
from tests.support.requests import eventually


@dataclass
class Trainer:
    """An application and its folders."""

    app: Any
    root: Path

    @property
    def jobs(self) -> Any:
        return self.app.workflow.jobs

    async def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return await self.app.test_client().post(path, json=body, **options)

    async def finetune(self, **fields: Any) -> Any:
        return await self.post("/finetune", REQUEST | {"output_dir": "new"} | fields)

    async def begin(self, job_id: str, name: str, **request: Any) -> Output:
        """Begin a run in this process, without training; return where its model is to be."""
        await job_in(self.jobs, "counting", JobState.RUNNING)  # else the service runs this one
        await self.jobs.create(FINETUNING, {"output_dir": name, **request}, job_id)
        assert (await self.jobs.claim_next("test")).id == job_id
        return Output(self.root / "output", name, job_id)

    async def refusal(self, path: str = "/finetune", **fields: Any) -> str:
        """Return why a request is a 422; nothing was queued for it."""
        before = [job.id for job in await self.jobs.list()]
        reply = await self.post(path, REQUEST | {"output_dir": "new"} | fields)
        assert reply.status_code == 422, await reply.get_data()
        assert [job.id for job in await self.jobs.list()] == before
        return str((await reply.get_json())["description"])


@contextlib.asynccontextmanager
async def trainer(
    root: Path, models: Path, monkeypatch: pytest.MonkeyPatch, **settings: str
) -> AsyncIterator[Trainer]:
    """Run the service; a job that only counts has its one slot."""
    from unsloth_trainer_service import create_app

    for name in ("INPUT", "OUTPUT", "WORKING"):
        (root / name.lower()).mkdir(exist_ok=True)
        monkeypatch.setenv(f"{name}_PATH", str(root / name.lower()))
    pairs = [(f"Which colour has house {n}?", f"It is {n}.") for n in range(16)]
    write_rows(root / "input" / "rows.jsonl", pairs)
    variables = {"MODELS_PATH": str(models), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    for name, value in (variables | settings).items():
        monkeypatch.setenv(name, value)
    app = create_app()
    async with app.test_app():
        await eventually(lambda: app.health.state != "starting")
        counting = {"steps": 100_000, "pause_seconds": 0.1}
        await app.workflow.jobs.create(step_job.KIND, counting, "counting")
        yield Trainer(app, root)


async def upload(service: Trainer, content: bytes, *, status: int = 200) -> str:
    """Upload a file and return its id, or with another status why not."""
    body = (
        b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--x\r\n'
        b'Content-Disposition: form-data; name="file"; filename="rows.jsonl"\r\n\r\n'
        + content
        + b"\r\n--x--\r\n"
    )
    reply = await service.app.test_client().post(
        "/v1/files", data=body, headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    answer = json.loads(await reply.get_data())
    assert reply.status_code == status, answer
    return str(answer["id"] if status == 200 else answer["error"]["message"])
