"""`batch_size` of OpenAI's API and of /train is the rows of a step."""

from __future__ import annotations

from typing import Any

import pytest

from ml.finetuning.train_request import TrainRequest
from unsloth_trainer_service.openai_jobs import JobRequest


def by_openai(**wished: Any) -> Any:
    body = {"model": "m", "training_file": "rows", "hyperparameters": wished}
    return JobRequest.model_validate(body).finetuning_request("out")


def by_train(**wished: Any) -> Any:
    body = {"model_name": "m", "output_dir": "out", "query_id": "q", "training_params": wished}
    return TrainRequest.model_validate(body).finetuning_request()


@pytest.mark.parametrize("ask", [by_openai, by_train])
@pytest.mark.parametrize(
    ("wished", "batch", "accumulated"),
    [
        ({"batch_size": 1}, 1, 1),
        ({"batch_size": 8}, 8, 1),
        ({"batch_size": 4, "gradient_accumulation_steps": 2}, 4, 2),
        ({}, 2, 4),
    ],
)
def test_a_batch_is_what_it_says(
    ask: Any, wished: dict[str, Any], batch: int, accumulated: int
) -> None:
    request = ask(**wished)
    assert request.per_device_train_batch_size == batch
    assert request.gradient_accumulation_steps == accumulated
