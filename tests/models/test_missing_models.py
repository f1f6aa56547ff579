"""A model that is not here is refused at once, with those that are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import clean_environment

SET_UP = """
import asyncio, sys
from concurrent.futures import ThreadPoolExecutor
from ml.errors import ConfigurationError
from ml.workflows.inference.llm_inference_workflow import LLMInferenceWorkflow

workflow = LLMInferenceWorkflow(sys.argv[1])
workflow.use(executor=ThreadPoolExecutor(1), batcher=None)
try:
    asyncio.run(workflow.setup())
except ConfigurationError as error:
    print(error)
assert "torch" not in sys.modules
"""


@pytest.mark.parametrize("name", ["nobody/nothing", "SmolLM2-135M-Instruct"])
def test_a_model_that_is_not_here_is_refused_before_torch_is_loaded(
    name: str, tmp_path: Path
) -> None:
    for model in ("another/model", "small"):
        (tmp_path / model).mkdir(parents=True)
        (tmp_path / model / "config.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-c", SET_UP, name],
        env=clean_environment(MODELS_PATH=str(tmp_path), HF_HUB_OFFLINE="1"),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *_, told = done.stdout.splitlines()  # before it, the log says which engine was chosen
    assert told.startswith(f"model '{name}' cannot be loaded: ")
    assert told.endswith("models on this machine: another/model, small")
