"""The services' workflows, as they are before they are loaded and when they cannot be."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ml.caller import seconds_left
from ml.errors import ConfigurationError
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow
from ml.workflows.inference.llm_inference_workflow import LLMInferenceWorkflow
from ml.workflows.inference.tgi_client_inference_workflow import TGIClientInferenceWorkflow
from ml.workflows.inference.torch_inference_workflow import TorchInferenceWorkflow
from ml.workflows.proof.ezkl_proof_workflow import EZKLProofWorkflow
from ml.workflows.training.unsloth_trainer_workflow import UnslothTrainerWorkflow

REASON = "there is no model; set its path"


class Loading(BaseInferenceWorkflow):
    """Loads for ever."""

    async def do_setup(self) -> None:
        await asyncio.Event().wait()


class Failed(BaseInferenceWorkflow):
    """Cannot be loaded."""

    async def do_setup(self) -> None:
        raise ConfigurationError(REASON)


class Gated(BaseInferenceWorkflow):
    """Is loaded, or fails to, once a test opens its gate; answers with the time that is left."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.reason = ""

    async def do_setup(self) -> None:
        await self.gate.wait()
        if self.reason:
            raise ConfigurationError(self.reason)

    def do_run_model(self, data: object) -> float:
        return seconds_left()


class Echo(BaseInferenceWorkflow):
    """Answers with what it is asked."""

    def do_run_model(self, data: object) -> object:
        return data


class Refused(Failed, Echo):
    """Cannot be loaded as it is configured."""


class Unforeseen(Echo):
    """Breaks while it is loaded."""

    def do_setup(self) -> None:
        raise ZeroDivisionError


class FailsBehind(Echo):
    """Cannot be loaded, once there is a file; with "once" in it, the first time it can."""

    def __init__(self, gate: str) -> None:
        super().__init__(gate)
        self.gate = Path(gate)

    async def do_setup(self) -> None:
        while not self.gate.exists():  # noqa: ASYNC110 (another process makes it)
            await asyncio.sleep(0.01)
        if not self.gate.read_text():
            raise ConfigurationError(REASON)
        self.gate.write_text("")


class LoadingTorch(Loading, TorchInferenceWorkflow): ...


class FailedTorch(Failed, TorchInferenceWorkflow): ...


class LoadingLLM(Loading, LLMInferenceWorkflow): ...


class FailedLLM(Failed, LLMInferenceWorkflow): ...


class LoadingTGI(Loading, TGIClientInferenceWorkflow): ...


class FailedTGI(Failed, TGIClientInferenceWorkflow): ...


class LoadingTrainer(Loading, UnslothTrainerWorkflow): ...


class FailedTrainer(Failed, UnslothTrainerWorkflow): ...


class LoadingProofs(Loading, EZKLProofWorkflow): ...


class FailedProofs(Failed, EZKLProofWorkflow): ...
