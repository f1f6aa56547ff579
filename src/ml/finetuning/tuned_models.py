"""The tuned models of a service: which there are, what each is, and its files."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_args

from ml.errors import NotFound
from ml.finetuning.names import is_output_name
from ml.finetuning.output import ADAPTER_CONFIG, Output, delete_model
from ml.finetuning.request import Export
from ml.finetuning.run_files import RunFile, RunFiles
from ml.finetuning.settings import TrainerSettings
from ml.jobs.engine import JobEngine
from ml.jobs.stored_file import FileHashes, StoredFile

if TYPE_CHECKING:
    from ml.finetuning.shared_files import SharedFiles

__all__ = ["ModelPage", "TunedModel", "TunedModels"]


@dataclass(frozen=True, slots=True)
class TunedModel:
    """A tuned model.

    Attributes:
        base_model: what it was tuned from; None where its configuration cannot be read.
        job_id: the run that made it, None for one that was put there by hand.
        made_at: seconds since 1970.
        size: bytes of its adapter, archive and exports.
    """

    name: str
    base_model: str | None
    job_id: str | None
    made_at: float | None
    size: int


@dataclass(frozen=True, slots=True)
class ModelPage:
    """Some of the models that were looked for, of `total`, and whether there are more."""

    models: list[TunedModel]
    total: int
    has_more: bool


class TunedModels:
    """What lies under `OUTPUT_PATH`, or with `shared` where hosts share their files."""

    def __init__(
        self, settings: TrainerSettings, engine: JobEngine, shared: SharedFiles | None
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._shared = shared
        #: The SHA-256 of files that are downloaded.
        self.hashes = FileHashes()
        #: By the version of each one's file.
        self._bases: dict[StoredFile, str | None] = {}

    @cached_property
    def run_files(self) -> RunFiles:
        """The files of jobs and tuned models."""
        settings, jobs = self._settings, self._engine.jobs_folder
        return RunFiles.of(settings.models_path, jobs, self._shared, self.hashes)

    async def files(self, name: str) -> list[RunFile]:
        """Return the files of a tuned model and of its run; raises `NotFound` without one."""
        owner = await asyncio.to_thread(self.run_files.run_of, name)
        job = None
        if owner is not None:
            with contextlib.suppress(NotFound):  # the records of jobs were left behind
                job = await self._engine.store.get(owner)
        return await asyncio.to_thread(self.run_files.of_model, name, job)

    def page(self, words: str, after: str | None, limit: int) -> ModelPage:
        """Return the models whose name, base or run has all of the words, newest first.

        It begins behind the model `after`. Takes its time. Raises `NotFound` if that is none.
        """
        configs, sizes = self._look()
        names = sorted(configs, key=lambda name: (configs[name].changed_at or 0, name))[::-1]
        wanted = words.casefold().split()
        if wanted:
            names = [name for name in names if self._has(name, configs[name], wanted)]
        begin = 0
        if after is not None:
            if after not in names:
                raise NotFound(f"There is no tuned model {after[:100]!r} here.")
            begin = names.index(after) + 1
        page = [
            TunedModel(
                name,
                self._base(configs[name]),
                owner := self.run_files.owner_of(name),
                configs[name].changed_at,
                self._size(name, owner, sizes),
            )
            for name in names[begin : begin + limit]
        ]
        return ModelPage(page, len(names), len(names) > begin + limit)

    def taken(self) -> list[str]:
        """Return the names that no further model can have. Takes its time."""
        if self._shared is not None:
            return sorted(self._shared.models.taken())
        return [path.name for path in self._settings.output_path.iterdir()]

    def delete(self, name: str) -> None:
        """Remove a model's files; raises `NotFound` for a name that has none. Takes its time."""
        if self._shared is not None:
            self._shared.models.delete(name)
        else:
            delete_model(self._settings.output_path, name)

    def _look(self) -> tuple[dict[str, StoredFile], Counter[str]]:
        """Return the configuration of each model, and the bytes under each name."""
        configs: dict[str, StoredFile] = {}
        sizes: Counter[str] = Counter()
        for file in self.run_files.models.below(""):
            name, _, inside = file.name.partition("/")
            sizes[name] += file.size
            if inside == ADAPTER_CONFIG and is_output_name(name):
                configs[name] = file
        return configs, sizes

    def _size(self, name: str, owner: str | None, sizes: Counter[str]) -> int:
        output = Output(self._settings.models_path, name, owner or "")
        exports = [output.export_name(export) for export in get_args(Export)]
        mine = [
            one for one in exports if owner and sizes[one] and self.run_files.is_export(one, owner)
        ]
        return sum(sizes[one] for one in (name, output.archive.name, *mine))

    def _has(self, name: str, config: StoredFile, wanted: list[str]) -> bool:
        texts = (name, self._base(config) or "", self.run_files.owner_of(name) or "")
        return all(word in " ".join(texts).casefold() for word in wanted)

    def _base(self, config: StoredFile) -> str | None:
        if config not in self._bases:
            self._bases[config] = _base_in(config)
        return self._bases[config]


def _base_in(config: StoredFile) -> str | None:
    try:
        with config.open() as file:
            content: Any = json.loads(file.read())
    except (OSError, ValueError, NotFound):
        return None
    base = content.get("base_model_name_or_path") if isinstance(content, dict) else None
    return base if isinstance(base, str) and base else None
