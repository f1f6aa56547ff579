"""What is wrong with the data of a job is counted, and files that jobs need stay."""

from __future__ import annotations

import os

import pytest

from ml.jobs.job import JobState
from tests.services.trainer import Trainer, upload


async def test_the_rows_that_are_dropped_are_counted_in_the_reply(service: Trainer) -> None:
    rows = (service.root / "input" / "rows.jsonl").read_text()
    (service.root / "input" / "rows.jsonl").write_text(rows + '{"instruction": "half"}\n{\n')
    reply = await service.finetune()
    assert reply.status_code == 200, await reply.get_data()
    assert (await reply.get_json())["data"] == {
        "rows": 18,
        "whole": True,
        "usable": 16,
        "dropped": 2,
        "reasons": {"missing": 1, "syntax": 1},
        "columns_ignored": {},
    }


async def test_a_file_that_a_waiting_job_needs_is_not_deleted(service: Trainer) -> None:
    rows = (service.root / "input" / "rows.jsonl").read_bytes()
    file_id = await upload(service, rows)
    client = service.app.test_client()
    job = (await (await service.finetune(dataset_name=file_id)).get_json())["job_id"]
    refused = await client.delete(f"/v1/files/{file_id}")
    assert refused.status_code == 409
    assert f"job {job}, which is queued, needs" in (await refused.get_json())["error"]["message"]
    assert (await client.get(f"/v1/files/{file_id}/content")).status_code == 200
    await client.delete(f"/jobs/{job}")
    assert (await service.jobs.get(job)).state is JobState.CANCELLED
    assert (await client.delete(f"/v1/files/{file_id}")).status_code == 200


@pytest.mark.parametrize("path", ["/jobs/counting/resume"])
async def test_a_body_on_resume_is_refused(service: Trainer, path: str) -> None:
    reply = await service.post(path, {"max_steps": 100})
    assert reply.status_code == 400
    assert "send none" in (await reply.get_json())["description"]
    assert (await service.post(path, {})).status_code == 409  # it runs


async def test_resources_are_refused_where_all_jobs_share_a_host(service: Trainer) -> None:
    reply = await service.finetune(resources={"gpus": 1})
    assert reply.status_code == 422
    assert "resources: the jobs of this service" in (await reply.get_json())["description"]
    reply = await service.finetune(resources={"gpu": 1})
    assert "resources.gpu: " in (await reply.get_json())["description"]


async def test_more_workers_than_this_host_has_places_for_are_refused(service: Trainer) -> None:
    processors = len(os.sched_getaffinity(0))
    if processors < 8:
        refusal = await service.refusal(num_workers=8)
        assert (
            f"num_workers: each needs a processor of its own, and this host has {processors}"
            in (refusal)
        )
    assert "num_workers: " in await service.refusal(num_workers=9)
    assert "num_workers: " in await service.refusal(num_workers=0)
    training = {"model_name": "small", "output_dir": "new", "training_params": {"num_workers": 9}}
    reply = await service.post("/train", training | {"query_id": "some"})
    assert "training_params.num_workers: " in (await reply.get_json())["description"]
