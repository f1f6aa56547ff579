"""A body with more faults than anybody reads is refused at once, and in few words."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.services.trainer import Trainer
from tests.support.finetuning import REQUEST

MANY = 20_000
UNKNOWN = {f"max_seq_lengt{number}": 1 for number in range(MANY)}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/finetune", {**REQUEST, **UNKNOWN}),
        ("/finetune", {**REQUEST, "target_modules": [1] * MANY}),
        ("/finetune", {**REQUEST, "column_map": dict.fromkeys(UNKNOWN, 1)}),
        ("/finetune", {**REQUEST, "k" * 1_000_000: 1}),
        ("/v1/fine_tuning/jobs", UNKNOWN),
        (
            "/v1/fine_tuning/jobs",
            {"model": "small", "training_file": "rows.jsonl", "hyperparameters": UNKNOWN},
        ),
        ("/v1/models/houses/export", {"exports": ["onnx"] * MANY}),
        ("/v1/models/houses/export", UNKNOWN),
        ("/datasets/validate", {**REQUEST, **UNKNOWN}),
        ("/train", UNKNOWN),
        ("/v1/models/houses/feedback", {"messages": [{"role": 1}] * MANY}),
        ("/v1/models/houses/feedback", UNKNOWN),
    ],
)
async def test_it_takes_little_time_and_little_room(service: Trainer, path: str, body: Any) -> None:
    content = json.dumps(body).encode()
    before = time.process_time()
    reply = await service.app.test_client().post(
        path, data=content, headers={"Content-Type": "application/json"}
    )
    assert time.process_time() - before < 1
    assert reply.status_code in (400, 422), await reply.get_data()
    assert len(await reply.get_data()) < 40_000
