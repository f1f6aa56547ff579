"""What a run has left that made an adapter and a GGUF, and its files as clients read them."""

from __future__ import annotations

import os
from typing import Any

from ml.finetuning.manifest import files_of, write_manifest
from ml.jobs.job import JobState
from tests.services.trainer import Trainer

__all__ = ["WEIGHTS", "get", "leave_run", "listed"]

#: Larger than what is read at once.
WEIGHTS = os.urandom((1 << 20) + 4321)


async def leave_run(service: Trainer, job_id: str, name: str) -> None:
    """Leave what a run leaves, without training."""
    output = await service.begin(job_id, name)
    output.claim(["gguf"])
    (output.folder / "adapter_model.safetensors").write_bytes(WEIGHTS)
    (output.folder / "adapter_config.json").write_text("{}")
    (output.folder / "metrics.csv").write_text("step,loss\n1,2.0\n")
    scratch = output.begin_export("gguf")
    (scratch / f"{name}.bf16.gguf").write_bytes(b"GGUF")
    exported = files_of(output.publish_export("gguf", scratch))
    files = files_of(output.folder)
    write_manifest(output.folder, {"files": files})
    archive = {"name": f"{name}.zip", "sha256": output.write_archive([*files, "manifest.json"])}
    folder = service.root / "working" / "jobs" / job_id
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("step,loss\n1,2.0\n")
    (folder / "log.txt").write_text("it ran\n")
    result = {"model": name, "archive": archive, "exports": {"gguf": {"files": exported}}}
    await service.jobs.transition(job_id, JobState.SUCCEEDED, result=result)


async def get(service: Trainer, path: str, **headers: str) -> Any:
    return await service.app.test_client().get(path, headers=headers)


async def listed(service: Trainer, job_id: str = "ft-1") -> dict[str, dict[str, Any]]:
    reply = await get(service, f"/jobs/{job_id}/files")
    assert reply.status_code == 200, await reply.get_data()
    return {file["name"]: file for file in (await reply.get_json())["files"]}
