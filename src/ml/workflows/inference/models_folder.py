"""A folder of which each file, or sub-folder, is a model by its name."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from pathlib import Path

from ml.errors import ConfigurationError
from ml.models.formats.engines import ENGINES, engine_of
from ml.models.torch_settings import TorchSettings
from ml.workflows.inference.model_arguments import TORCH_ENDINGS

__all__ = ["ModelsFolder"]

#: Letters of any script; nothing hidden, and nothing that leads elsewhere.
_NAME = re.compile(r"[^\W_][\w. -]{0,99}")
_ENDINGS = (*TORCH_ENDINGS, *(ending for engine in ENGINES.values() for ending in engine.endings))
#: How long a listing holds: a disk is not read for each request that names no model.
_LISTED_SECONDS = 1.0


class ModelsFolder:
    """Finds models by the names of what is in a folder now; links may not lead out of it.

    A file is known by its name, with or without its ending; by the whole one alone where another
    has the same without. Of a sub-folder, the model is `TORCH_MODEL_FILE_NAME` or the file called
    `model` with an ending that is known. Raises `ConfigurationError` if there is no such folder.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise ConfigurationError(f"models_folder: {root}: there is no such folder")
        self._root = root.resolve()
        self._listed = float("-inf")
        self._found: dict[str, Path] = {}
        self._file_name = TorchSettings.from_environment().torch_model_file_name

    def names(self) -> list[str]:
        """Return the names of all models, sorted."""
        return list(self._look())

    def name_of(self, model_id: str) -> str | None:
        """Return the name of the model that an id means, None where there is none."""
        if model_id in self._found:  # it may be gone: who loads it looks
            return model_id
        models = self._look()
        if model_id in models:
            return model_id
        return next((name for name, path in models.items() if path.name == model_id), None)

    def path_of(self, name: str) -> Path:
        """Return where a model is. Raises `ConfigurationError` where it is gone."""
        if (path := self._look().get(name)) is None:
            raise ConfigurationError("it is not in the folder any more")
        return path

    def path_to_load(self, name: str) -> Path:
        """Return where a model is, of which no file lies behind a link out of the folder.

        Reads what the file tells of those beside it. Raises `ConfigurationError` as `path_of` does,
        and for such a link.
        """
        path = self.path_of(name)
        engine = engine_of(path.name)
        for beside in ENGINES[engine].beside(path) if engine else ():
            # The library may follow a link to the file first, and look beside that.
            for folder in (path.parent, path.resolve().parent):
                if not self._holds(folder / beside):
                    raise ConfigurationError(f"{path.name}: {beside} beside it leads elsewhere")
        return path

    def _look(self) -> dict[str, Path]:
        if time.monotonic() - self._listed > _LISTED_SECONDS:
            self._found = self._list()
            self._listed = time.monotonic()
        return self._found

    def _list(self) -> dict[str, Path]:
        models: dict[str, Path] = {}
        for entry in _entries(self._root):
            if (path := self._model_in(entry)) is not None:
                models[entry.name] = path
        shared = Counter(map(_short, models))
        named = {
            name if shared[_short(name)] > 1 else _short(name): path
            for name, path in models.items()
        }
        return dict(sorted(named.items()))

    def _model_in(self, entry: os.DirEntry[str]) -> Path | None:
        if not self._is_inside(entry):
            return None
        if entry.is_file():
            return Path(entry.path) if _has_ending(entry.name) else None
        files = {
            one.name: one.path
            for one in _entries(entry.path)
            if self._is_inside(one) and one.is_file()
        }
        due = (self._file_name, *(f"model{ending}" for ending in _ENDINGS))
        return next((Path(files[name]) for name in due if name in files), None)

    def _is_inside(self, entry: os.DirEntry[str]) -> bool:
        return not entry.is_symlink() or self._holds(Path(entry.path), strict=True)

    def _holds(self, path: Path, *, strict: bool = False) -> bool:
        """Return whether a path ends inside; if `strict`, there has to be something."""
        try:
            return path.resolve(strict=strict).is_relative_to(self._root)
        except (OSError, RuntimeError):  # the latter for a loop of links, before Python 3.13
            return False


def _entries(folder: os.PathLike[str] | str) -> list[os.DirEntry[str]]:
    """Return what is in a folder, nothing where that cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if _NAME.fullmatch(entry.name)]
    except OSError:
        return []


def _has_ending(name: str) -> bool:
    return Path(name).suffix.lower() in _ENDINGS


def _short(name: str) -> str:
    return name.rpartition(".")[0] if _has_ending(name) else name
