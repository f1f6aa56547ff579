"""Where vLLM is asked for and is not: its own tests are in tests/vllm."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec

import pytest

from ml.errors import ConfigurationError
from ml.workflows.inference.llm_inference_workflow import LLMInferenceWorkflow


@pytest.mark.parametrize(
    "argument", [{"adapter": "a"}, {"device": "cpu"}, {"device": "cuda:1"}], ids=str
)
def test_what_vllm_does_not_take_is_told_with_the_engine_that_does(
    argument: dict[str, str],
) -> None:
    (name,) = argument
    with pytest.raises(ConfigurationError) as caught:
        LLMInferenceWorkflow(engine="vllm", **argument)
    assert str(caught.value) == f"engine: vllm does not take {name}; transformers does"


@pytest.mark.parametrize("engine", ["openvino", "transformers"])
@pytest.mark.parametrize("argument", [{"tensor_parallel": 2}, {"gpu_memory": 0.5}], ids=str)
def test_what_only_vllm_takes_is_told(engine: str, argument: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="only engine vllm takes it"):
        LLMInferenceWorkflow(engine=engine, **argument)


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_the_extra_that_brings_it_is_told() -> None:
    workflow = LLMInferenceWorkflow(engine="vllm")
    with pytest.raises(
        ConfigurationError, match=r"engine vllm \(engine is vllm\): .*vllm.* not installed"
    ):
        asyncio.run(workflow.setup())
