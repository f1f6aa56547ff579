"""The same with a store that speaks S3: `make test-s3`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml.errors import ConfigurationError
from ml.finetuning.failures import OutputTaken
from ml.finetuning.shared_models import SharedModels, SharedOutput
from ml.jobs.local_copies import LocalCopies
from ml.jobs.remote_files import FilesAway, RemoteFiles
from tests.support.object_store import ObjectStore, object_store, there_is_an_object_store

pytestmark = pytest.mark.skipif(
    not there_is_an_object_store(), reason="s3fs and moto are not installed: make test-s3"
)


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with object_store() as running:
        yield running


@pytest.fixture
def files(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> RemoteFiles:
    for name, value in store.variables.items():
        monkeypatch.setenv(name, value)
    store.reset()
    store.make_bucket()
    return RemoteFiles(store.url)


def test_a_store_that_can_be_used_is_left_as_it_was(files: RemoteFiles) -> None:
    files.check()
    assert files.list("input") == {}


def test_files_are_read_as_they_were_written_and_known_by_what_is_in_them(
    files: RemoteFiles, tmp_path: Path
) -> None:
    (tmp_path / "one").write_bytes(b"x" * 1000)
    files.upload(tmp_path / "one", "input/deep/one")
    files.write("input/two", b"two")
    found = files.list("input")
    assert {name: one.size for name, one in found.items()} == {"deep/one": 1000, "two": 3}
    assert files.look("input/two") == found["two"]
    assert files.look("input/deep") is None
    assert files.look("input/three") is None
    files.download("input/deep/one", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"x" * 1000
    with pytest.raises(FileNotFoundError):
        files.download("input/three", tmp_path / "none")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "one"]
    files.write("input/two", b"TWO")
    assert files.look("input/two") != found["two"]
    files.delete_folder("input", first=["two"])
    assert files.list("input") == {}
    assert files.read("input/two") is None


def test_a_name_is_claimed_by_one_job_alone(files: RemoteFiles, tmp_path: Path) -> None:
    SharedOutput(files, tmp_path / "one", "tuned", "one").claim(["merged_16bit"])
    with pytest.raises(OutputTaken, match="belongs to job one"):
        SharedOutput(files, tmp_path / "two", "tuned", "two").claim([])
    copies = LocalCopies(files, "output", tmp_path / "copies", most_bytes=1000)
    assert SharedModels(files, copies).taken() == {"tuned", "tuned.zip", "tuned-merged"}


def test_a_bucket_that_is_not_there_is_told_at_the_start(files: RemoteFiles) -> None:
    with pytest.raises(ConfigurationError, match="files_url: there is no such bucket"):
        RemoteFiles("s3://another/folder").check()


def test_credentials_that_are_missing_are_told_at_the_start(
    files: RemoteFiles, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ConfigurationError, match="such as AWS_ACCESS_KEY_ID"):
        RemoteFiles(store.url).check()


def test_credentials_that_are_refused_are_told_at_the_start_and_not_repeated(
    files: RemoteFiles, store: ObjectStore
) -> None:
    store.require_valid_keys()
    with pytest.raises(ConfigurationError, match="such as AWS_ACCESS_KEY_ID") as raised:
        RemoteFiles(store.url).check()
    assert not [value for value in ("an-id", "a-secret") if value in str(raised.value)]
    with pytest.raises(FilesAway, match="the credentials are refused"):
        files.read("input/two")


def test_a_store_that_is_away_is_waited_for_and_then_told(
    files: RemoteFiles, store: ObjectStore
) -> None:
    store.stop()
    try:
        began = time.monotonic()
        with pytest.raises(FilesAway, match="cannot be reached: "):
            files.write("input/two", b"two")
        assert time.monotonic() - began < 60
    finally:
        store.start()
    files.write("input/two", b"two")
    assert files.read("input/two") == b"two"
