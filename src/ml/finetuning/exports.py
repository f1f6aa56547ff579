"""The wished forms of a tuned model beside its adapter, each checked against it."""

from __future__ import annotations

import gc
import math
import shutil
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml.errors import StorageFull, UnprocessableInput
from ml.finetuning.backends.backend import Backend
from ml.finetuning.base_files import is_quantized, weight_shapes
from ml.finetuning.failures import TrainingFailed
from ml.finetuning.gguf_tools import find_converter, gguf_type, make_gguf
from ml.finetuning.likeness import Observation, compare, most_divergence, observe
from ml.finetuning.manifest import files_of
from ml.finetuning.output import Output
from ml.finetuning.request import Export, TrainingParameters
from ml.models.gguf_weights import bits_of
from ml.models.local_models import folder_here, model_source

__all__ = ["Exporter", "check_tools", "number_of_steps", "require_room", "unmergeable"]


def check_tools(exports: Iterable[Export]) -> None:
    """Raise `UnprocessableInput` for an export whose tools are not installed."""
    if any(map(gguf_type, exports)):
        converter = find_converter()
        if isinstance(converter, str):
            raise UnprocessableInput(f"exports: gguf cannot be made here: {converter}")


def unmergeable(base: str) -> str:
    """Return why no export can be made of a model whose weights are quantised."""
    return (
        f"exports: {base} has quantised weights; name the model with 16-bit ones to merge an "
        "adapter into it"
    )


def require_room(folder: Path, base: str, exports: Iterable[Export]) -> None:
    """Raise `StorageFull` if the disk of a folder has less free than the exports are known to take.

    Of a base that is not on this machine nothing is known. Nothing is measured but the weights: for
    a GGUF those in 16 bits are there twice while it is made.
    """
    files = folder_here(base)
    if files is None:
        return
    packed = 2 if is_quantized(files) else 1  # two numbers of 4 bits in each
    weights = 2 * packed * sum(map(math.prod, weight_shapes(files).values()))
    kept = most = 0
    for export in exports:
        kind = gguf_type(export)
        most = max(most, kept + weights * (2 if kind else 1))
        kept += int(weights * bits_of(kind) / 16) if kind else weights
    free = shutil.disk_usage(folder).free
    if free < most:
        raise StorageFull(
            f"exports: they take {_gigabytes(most)} while they are made, and the disk has "
            f"{_gigabytes(free)} free; free space, or wish for fewer at once"
        )


def number_of_steps(exports: Collection[Export]) -> int:
    """Return how often an `Exporter` tells what it does, until it has made these."""
    kinds = map(gguf_type, exports)
    return 1 + sum(2 if kind is None else 3 if kind == "bf16" else 4 for kind in kinds)


@dataclass(frozen=True)
class Exporter:
    """Makes exports of a published adapter.

    One model at a time is in memory. Nothing is published that does not say what the adapter says.

    Attributes:
        base: the name of the model that the adapter is for.
        prompts: token ids, which the adapter and its exports are asked.
        tell: is told, in words for a person, what is done next; what it raises ends the work.
        heed: is called now and then; what it raises ends the work, too.
    """

    backend: Backend
    base: str
    adapter: Path
    output: Output
    tokenizer: Any
    prompts: list[list[int]]
    request: TrainingParameters
    tell: Callable[[str], object]
    heed: Callable[[], object]

    def observe_adapter(self) -> tuple[Observation, dict[str, Any]]:
        """Load the adapter as anybody would and return what it says, and how far from its base."""
        self.tell("Asking the adapter")
        model = self._load_adapter()
        adapter = observe(model, self.prompts)
        with model.disable_adapter():
            from_base = compare(adapter, model, texts=False)
        return adapter, {"compared_with_base": from_base}

    def export(self, export: Export, adapter: Observation) -> dict[str, Any]:
        """Make an export and return how it compares with the adapter.

        Raises `TrainingFailed` if it cannot be made, or is not the same model.
        """
        self.tell("Merging the adapter into its base")
        scratch = self.output.begin_export(export)
        try:
            made = self._make(export, scratch)
            _collect()
            self.tell(f"Asking the export {export}")
            compared = compare(adapter, made)
            most = most_divergence(gguf_type(export))
            if compared["divergence"] > most:
                raise TrainingFailed(
                    f"the export {export} does not say what the adapter says (divergence "
                    f"{compared['divergence']} nats, at most {most}); the adapter is saved in "
                    f"{self.output.name!r}"
                )
            self.heed()
            target = self.output.publish_export(export, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return {
            "name": target.name,
            "compared_with_adapter": compared,
            "files": files_of(target),
        }

    def _make(self, export: Export, scratch: Path) -> Any:
        """Write the export and return it, loaded from there."""
        kind = gguf_type(export)
        if kind is None:
            self._merge(scratch)
            return self.backend.load(str(scratch), self.request)
        self._merge(scratch / "merged")
        file = f"{self.output.name}.{kind}.gguf"
        make_gguf(scratch / "merged", scratch / file, kind, tell=self.tell, heed=self.heed)
        return _load_gguf(scratch, file)

    def _merge(self, folder: Path) -> None:
        model = self._load_adapter()
        quantized = getattr(model.config, "quantization_config", None) is not None
        if quantized and self.backend.name != "unsloth":
            raise UnprocessableInput(unmergeable(self.base))
        self.backend.save_merged(model, self.tokenizer, folder)
        del model
        _collect()

    def _load_adapter(self) -> Any:
        _collect()
        return self.backend.load_adapter(model_source(self.base), self.adapter, self.request)


def _load_gguf(folder: Path, file: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.bfloat16).eval()


def _gigabytes(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"


def _collect() -> None:
    """Free the memory of models that nobody holds any more."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
