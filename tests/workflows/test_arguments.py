"""Arguments of workflows that cannot work are told at the start, all at once."""

from __future__ import annotations

from typing import Any

import pytest

from ml.errors import ConfigurationError
from ml.workflows.loading import load_workflow

TRAINER = "ml.workflows.training.unsloth_trainer_workflow.UnslothTrainerWorkflow"

WRONG: list[tuple[str, list[Any], dict[str, Any], list[str]]] = [
    (TRAINER, [], {"dtype": "x"}, ["dtype: Input should be 'auto', 'bfloat16' or 'float32'"]),
    (TRAINER, [], {"max_new_token": 4}, ["'max_new_token'; did you mean 'max_new_tokens'?"]),
    (TRAINER, [], {"job_slot": 4}, ["'job_slot'; did you mean 'job_slots'?"]),
    (TRAINER, [], {"adapters_path": "x"}, ["adapters_path: tuned models are found in output_path"]),
    (TRAINER, ["m"], {"engine": "openvino"}, ["engine: openvino does not take adapters_path"]),
    (
        TRAINER,
        [],
        {
            "job_slots": 0,
            "grace_seconds": "long",
            "query_signers": ["0x1"],
            "resume_interrupted": "perhaps",
            "temperature": -1,
            "colour": "red",
            "input_path": 7,
        },
        [
            "job_slots: ",
            "grace_seconds: ",
            "query_signers.0: ",
            "resume_interrupted: ",
            "temperature: ",
            "no such argument: 'colour'",
            "input_path: ",
        ],
    ),
]


@pytest.mark.parametrize(("path", "args", "kwargs", "told"), WRONG)
def test_all_that_is_wrong_with_arguments_is_told_at_once(
    path: str, args: list[Any], kwargs: dict[str, Any], told: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_workflow(path, args, kwargs)
    text = str(refused.value)
    assert [line for line in told if line not in text] == []
    assert text.count("\n") == len(told) - 1
