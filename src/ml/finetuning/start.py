"""What a training starts from: a base model alone, or one with a tuned model's adapter on it."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from ml.errors import UnprocessableInput, fault_lines
from ml.finetuning.output import ADAPTER_CONFIG, ADAPTER_WEIGHTS, sha256_of
from ml.finetuning.request import FinetuningRequest
from ml.models.local_models import model_source, why_missing

__all__ = ["Start", "tuned_models"]

#: The parameters that an adapter has once and for all, by their names in its configuration.
_OF_THE_ADAPTER = {
    "lora_r": "r",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "target_modules": "target_modules",
}


@dataclass(frozen=True, slots=True)
class Start:
    """A base model by its name, and the folder of the adapter that is trained on, if any.

    A tuned model is trained on as it is: the same LoRA layers on the same base. What comes of it
    is an adapter for that base again, which is served beside all others; were the first one merged
    into the base, nobody here could serve the second.
    """

    base: str
    adapter: Path | None = None

    @classmethod
    def of(cls, name: str, output: Path) -> Self:
        """Return what a request's `model_name` means, where tuned models are under `output`.

        A model's name in `MODELS_PATH` comes first. Raises `UnprocessableInput` for a tuned model
        that is none of LoRA.
        """
        folder = output / name
        if model_source(name) != name or not (folder / ADAPTER_WEIGHTS).is_file():
            return cls(name)
        config = _config(folder, name)
        if config.get("peft_type") != "LORA" or not config.get("base_model_name_or_path"):
            raise UnprocessableInput(f"model_name: {name!r} is no LoRA adapter of a named base")
        return cls(str(config["base_model_name_or_path"]), folder)

    @property
    def source(self) -> str:
        """What the base is loaded from."""
        return model_source(self.base)

    @property
    def sha256(self) -> str:
        """The digest of the adapter's weights, "" without one."""
        return sha256_of(self.adapter / ADAPTER_WEIGHTS) if self.adapter else ""

    def require(self) -> None:
        """Raise `UnprocessableInput` if the base can be loaded neither from here nor the hub."""
        if reason := why_missing(self.base):
            of = f" (the base of {self.adapter.name!r})" if self.adapter else ""
            raise UnprocessableInput(f"model_name: {self.base!r}{of} cannot be loaded: {reason}")

    def fitted(self, request: FinetuningRequest) -> FinetuningRequest:
        """Return the request with what the adapter decides.

        Raises `UnprocessableInput` for a parameter that was given and is another there.
        """
        if self.adapter is None:
            return request
        config = _config(self.adapter, self.adapter.name)
        fixed = {name: config[key] for name, key in _OF_THE_ADAPTER.items() if key in config}
        if isinstance(fixed.get("target_modules"), str):
            del fixed["target_modules"]  # a pattern, which a request has no word for
        for name in sorted(fixed.keys() & request.model_fields_set):
            wished = getattr(request, name)
            if _plain(wished) not in (_plain(fixed[name]), "all-linear"):
                raise UnprocessableInput(
                    f"{name}: the tuned model {self.adapter.name!r} is trained on with its own, "
                    f"{fixed[name]}; leave it out, or start from {self.base!r}"
                )
        given = request.model_dump(exclude_unset=True)
        try:
            return FinetuningRequest.model_validate({**given, **fixed})
        except ValidationError as error:
            reason = "; ".join(fault_lines(error))
            raise UnprocessableInput(f"model_name: {self.adapter.name!r}: {reason}") from None


def tuned_models(output: Path) -> dict[str, Start]:
    """Return the tuned models under `output` that a training can start from, by their names."""
    found = {}
    for weights in sorted(output.glob(f"*/{ADAPTER_WEIGHTS}")):
        with contextlib.suppress(UnprocessableInput):  # an adapter of another kind, or a broken one
            start = Start.of(weights.parent.name, output)
            if start.adapter is not None:
                found[start.adapter.name] = start
    return found


def _config(folder: Path, name: str) -> dict[str, Any]:
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise UnprocessableInput(f"model_name: the adapter {name!r} cannot be read") from error
    return config if isinstance(config, dict) else {}


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) else value
