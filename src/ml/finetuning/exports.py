"""The wished forms of a tuned model beside its adapter, each checked against it."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ml.errors import UnprocessableInput
from ml.finetuning.backends.backend import Backend
from ml.finetuning.failures import TrainingFailed
from ml.finetuning.gguf_tools import convert_to_gguf, find_converter
from ml.finetuning.likeness import MOST_DIVERGENCE, Observation, compare, observe
from ml.finetuning.manifest import files_of
from ml.finetuning.output import Output
from ml.finetuning.request import Export, TrainingParameters

__all__ = ["Exporter", "check_tools"]


def check_tools(exports: Iterable[Export]) -> None:
    """Raise `UnprocessableInput` for an export whose tools are not installed."""
    if "gguf" in exports:
        converter = find_converter()
        if isinstance(converter, str):
            raise UnprocessableInput(f"exports: gguf cannot be made here: {converter}")


class Exporter:
    """Makes exports of a job's published adapter.

    One model at a time is in memory. Nothing is published that does not say what the adapter says.
    """

    def __init__(
        self,
        backend: Backend,
        source: str,
        output: Output,
        tokenizer: Any,
        prompts: list[list[int]],
        request: TrainingParameters,
    ) -> None:
        self._backend = backend
        self._source = source
        self._output = output
        self._tokenizer = tokenizer
        self._prompts = prompts
        self._request = request

    def observe_adapter(self) -> tuple[Observation, dict[str, Any]]:
        """Load the adapter as anybody would and return what it says, and how far from its base."""
        model = self._load_adapter()
        adapter = observe(model, self._prompts)
        with model.disable_adapter():
            from_base = compare(adapter, model, texts=False)
        return adapter, {"compared_with_base": from_base}

    def export(self, export: Export, adapter: Observation) -> dict[str, Any]:
        """Make an export and return how it compares with the adapter.

        Raises `TrainingFailed` if it cannot be made, or is not the same model.
        """
        scratch = self._output.begin_export(export)
        try:
            made = self._make(export, scratch)
            _collect()
            compared = compare(adapter, made)
            if compared["divergence"] > MOST_DIVERGENCE:
                raise TrainingFailed(
                    f"the export {export} does not say what the adapter says (divergence "
                    f"{compared['divergence']} nats, at most {MOST_DIVERGENCE}); the adapter is "
                    f"saved in {self._output.name!r}"
                )
            target = self._output.publish_export(export, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return {
            "name": target.name,
            "compared_with_adapter": compared,
            "files": files_of(target),
        }

    def _make(self, export: Export, scratch: Path) -> Any:
        """Write the export and return it, loaded from there."""
        if export == "merged_16bit":
            self._merge(scratch)
            return self._backend.load(str(scratch), self._request)
        merged = scratch / "merged"
        self._merge(merged)
        converter, file = find_converter(), f"{self._output.name}.bf16.gguf"
        if isinstance(converter, str):  # it was there before the training
            raise TrainingFailed(f"the export gguf cannot be made: {converter}")
        convert_to_gguf(converter, merged, scratch / file)
        shutil.rmtree(merged)
        return _load_gguf(scratch, file)

    def _merge(self, folder: Path) -> None:
        self._backend.save_merged(self._load_adapter(), self._tokenizer, folder)
        _collect()

    def _load_adapter(self) -> Any:
        _collect()
        return self._backend.load_adapter(self._source, self._output.folder, self._request)


def _load_gguf(folder: Path, file: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.bfloat16).eval()


def _collect() -> None:
    """Free the memory of models that nobody holds any more."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
