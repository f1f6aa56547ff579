"""Arguments of workflows that cannot work are told at the start, all at once."""

from __future__ import annotations

from typing import Any

import pytest

from ml.errors import ConfigurationError
from ml.workflows.loading import load_workflow

EZKL = "ml.workflows.proof.ezkl_proof_workflow.EZKLProofWorkflow"
TGI = "ml.workflows.inference.tgi_client_inference_workflow.TGIClientInferenceWorkflow"
TORCH = "ml.workflows.inference.torch_inference_workflow.TorchInferenceWorkflow"
TRAINER = "ml.workflows.training.unsloth_trainer_workflow.UnslothTrainerWorkflow"

WRONG: list[tuple[str, list[Any], dict[str, Any], list[str]]] = [
    (
        EZKL,
        ["a", ""],
        {"proof_second": 1, "proof_seconds": True, "memory_limit_bytes": 0.5, "job_slots": "2"},
        [
            "artifacts.1: ",
            "'proof_second'; did you mean 'proof_seconds'?",
            "proof_seconds: ",
            "memory_limit_bytes: ",
            "job_slots: ",
        ],
    ),
    (EZKL, [], {"grace_seconds": -1}, ["artifacts: give the paths of one", "grace_seconds: "]),
    (
        TGI,
        ["http://x", "soon", [], {"a": 1}],
        {"api": "x", "retry_params": {"tries": 0, "try": 1}, "temperature": 0, "tokens": "x"},
        [
            "connection_timeout: ",
            "headers: ",
            "cookies.a: ",
            "api: ",
            "retry_params.tries: ",
            "retry_params.try: ",
            "temperature: ",
            "no such argument: 'tokens'; did you mean 'token'?",
        ],
    ),
    (
        TORCH,
        [7],
        {
            "repo_id": "a/b/c",
            "filename": "../x",
            "model_source": "LOCAL",
            "model_args": {"pth": 1},
            "device": 7,
            "proof_seconds": 0,
            "proof_tolerance": 0.1,
            "proof_artefact": "x",
        },
        [
            "model: give a text",
            "repo_id: 'a/b/c' is not of the form owner/name",
            "filename: '../x' is not a file",
            "given model and repo_id and model_source",
            "filename and revision belong into model_args",
            "model_args: no such argument: 'pth'; did you mean 'path'?",
            "model_args.path: Field required",
            "device: ",
            "proof_seconds: ",
            "proof_tolerance: needs proof_artifact",
            "'proof_artefact'; did you mean 'proof_artifact'?",
        ],
    ),
    (TRAINER, [], {"dtype": "x"}, ["dtype: Input should be 'auto', 'bfloat16' or 'float32'"]),
    (TRAINER, [], {"max_new_token": 4}, ["'max_new_token'; did you mean 'max_new_tokens'?"]),
    (
        TRAINER,
        [],
        {"executor": "locl", "job_slots": True, "lost_seconds": "60", "job_gpus": 1},
        ["did you mean 'local'?", "job_slots: ", "lost_seconds: write it without quotes"],
    ),
    (TRAINER, [], {"job_gpus": 1}, ["job_gpus: executor 'local' reserves nothing"]),
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
