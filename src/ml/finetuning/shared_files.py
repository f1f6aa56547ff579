"""The trainer's files where its hosts share no folder: their places, and this host's copies."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from ml.errors import PayloadTooLarge
from ml.finetuning.data.input_files import InputFile, can_be_data
from ml.finetuning.data.source import file_names
from ml.finetuning.queries.embedded import DATABASE_ENDINGS
from ml.finetuning.settings import TrainerSettings
from ml.finetuning.shared_models import SharedModels
from ml.finetuning.shared_uploads import SharedUploads
from ml.finetuning.uploads import is_file_id
from ml.jobs.local_copies import LocalCopies
from ml.jobs.remote_files import RemoteFiles

__all__ = ["SharedFiles"]

_INPUT, _UPLOADS, _QUERIES, _OUTPUT = "input", "files", "queries", "output"


class SharedFiles:
    """What lies under `TRAINER_FILES_URL`.

        input/<name>                training data, placed there by whoever has it
        files/<id>.entry, <id>.*    uploaded files, see `Uploads`
        queries/<id>.db             results of queries
        jobs/<id>/…                 what a job goes on from, see `SharedCheckpoints`
        claims/<name>, models/<name>.json, output/<name>/…    see `SharedModels`

    Whoever reads calls a `fetch_…` first, and then finds a copy where the settings' paths say.
    """

    def __init__(self, settings: TrainerSettings, files: RemoteFiles) -> None:
        self.files = files
        self._settings = settings
        #: The tuned models.
        self.models = SharedModels(files, self._copies(_OUTPUT, settings.models_path))
        #: The files that are known by an id.
        self.uploads = SharedUploads(files, self._copies(_UPLOADS, settings.uploads_path))
        self._input = self._copies(_INPUT, settings.data_path)
        self._queries = self._copies(_QUERIES, settings.queries_path)

    @classmethod
    def of(cls, settings: TrainerSettings) -> Self | None:
        """Return those of the settings, None where the hosts share folders."""
        files = RemoteFiles.of(settings.files_url)
        return None if files is None else cls(settings, files)

    def _copies(self, place: str, folder: Path) -> LocalCopies:
        return LocalCopies(self.files, place, folder, most_bytes=self._settings.copies_bytes)

    def input_files(self) -> list[InputFile]:
        """Return the files that may be training data."""
        there = self.files.list(_INPUT).items()
        return [InputFile(name, file.size) for name, file in there if can_be_data(name)]

    def fetch_dataset(self, name: str) -> None:
        """Have the copy of a data set's file that `find_file` finds; none where there is no file.

        Raises `InvalidInput` as `find_file` does, and `PayloadTooLarge`.
        """
        uploaded = is_file_id(name)
        place, copies = (_UPLOADS, self.uploads.copies) if uploaded else (_INPUT, self._input)
        for candidate in file_names(name):
            found = self.files.look(f"{place}/{candidate}")
            if found is None:
                copies.forget(candidate)
                continue
            most = self._settings.copies_bytes
            if found.size > most:
                raise PayloadTooLarge(
                    f"dataset_name: {name!r} has {found.size} bytes; TRAINER_COPIES_BYTES is {most}"
                )
            copies.file(candidate, found)
            return

    def fetch_databases(self) -> None:
        """Have copies of the databases that the embedded query engine asks, and of no others."""
        found = {
            name: file
            for name, file in self.files.list(_INPUT).items()
            if "/" not in name and name.endswith(DATABASE_ENDINGS)
        }
        for path in self._settings.data_path.glob("*"):
            if path.name.endswith(DATABASE_ENDINGS) and path.name not in found:
                self._input.forget(path.name)
        for name, file in found.items():
            self._input.file(name, file)

    def fetch_results(self, query_id: str) -> None:
        """Have the copy of a query's results, which an operator may have placed with the data."""
        name = f"{query_id}.db"
        for place, copies in ((_QUERIES, self._queries), (_INPUT, self._input)):
            if found := self.files.look(f"{place}/{name}"):
                copies.file(name, found)
                return

    def keep_results(self, query_id: str) -> None:
        """Share the results of a query that was run here, if it was."""
        name = f"{query_id}.db"
        if (self._settings.queries_path / name).exists():
            self.files.upload(self._settings.queries_path / name, f"{_QUERIES}/{name}")
