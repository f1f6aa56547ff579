"""A service around a tiny language model, in this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ml.workflows.inference.llm_inference_workflow import LLMInferenceWorkflow
from tests.conftest import MakeApp
from tests.support.tiny_llm import save_tiny_llm

MakeLLM = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="session")
def tiny_llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model whose name for clients is "tiny"."""
    return save_tiny_llm(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def make_llm(make_app: MakeApp, tiny_llm: Path) -> MakeLLM:
    """Start a service around it, with a workflow class, its arguments and settings."""

    async def make(
        workflow_class: type = LLMInferenceWorkflow,
        *,
        arguments: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Any:
        return await make_app(
            workflow_class,
            workflow_positional_args=[str(tiny_llm)],
            workflow_kw_args={"max_new_tokens": 8, **(arguments or {})},
            **settings,
        )

    return make
