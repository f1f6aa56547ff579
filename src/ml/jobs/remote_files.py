"""Files that jobs on several hosts share: those under an address of fsspec, as `s3://bucket/folder`.

What a job works with is on its host; what must outlive the host, or be seen on others, is copied
here. Credentials come from the environment, as each of fsspec's file systems has them.
"""

from __future__ import annotations

import errno
import posixpath
import re
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self, TypeVar

from ml.errors import ConfigurationError, StorageUnavailable

__all__ = ["FilesAway", "RemoteFile", "RemoteFiles", "files_address_fault"]

_FORM = "give an address such as s3://bucket/folder or file:///mnt/shared"
_ADDRESS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<place>[^?#\s]+)\Z")
#: In which a file appears at once, whole, under its own name.
_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})
#: Of which no two processes see the same.
_OF_ONE_PROCESS = frozenset({"memory", "data"})
#: Those of this host, in which only a path from the root is the same for all processes.
_OF_PATHS = frozenset({"file", "local"})
#: In which nothing can be written.
_READ_ONLY = frozenset({"http", "https", "github", "zip", "tar", "reference"})
_PARTIAL = ".partial"
_TRIES, _PAUSE_SECONDS = 4, 1.0
_RETRY_AFTER_SECONDS = 5
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: What is passed to a file system beside what its own environment variables say.
_OPTIONS: dict[str, dict[str, Any]] = {
    **{scheme: {"auto_mkdir": True} for scheme in _OF_PATHS},
    "s3": {
        "config_kwargs": {
            "connect_timeout": 5,
            "read_timeout": 60,
            "retries": {"max_attempts": 2, "mode": "standard"},
        }
    },
}

T = TypeVar("T")


class FilesAway(StorageUnavailable):
    """The files cannot be reached, or not with the credentials that are there."""

    default_description = "The files that jobs share cannot be reached."


class RemoteFile(NamedTuple):
    """What is known of a file: its bytes, a text that changes with its content, and when
    it did, in seconds since 1970."""

    size: int
    version: str
    changed_at: int | None = None


def files_address_fault(url: str) -> str | None:
    """Return why this is no address for shared files, without repeating it; None if it is one."""
    match = _ADDRESS.fullmatch(url)
    if match is None or "::" in url:
        return _FORM
    place = match["place"]
    if ".." in place.split("/"):
        return f"may not hold '..'; {_FORM}"
    if ":" in place.split("/")[0].rpartition("@")[0]:
        return f"leave the password out: credentials come from the environment; {_FORM}"
    if match["scheme"] in _OF_ONE_PROCESS:
        return f"{match['scheme']}:// is of one process alone; {_FORM}"
    if match["scheme"] in _READ_ONLY:
        return f"nothing can be written to {match['scheme']}://; {_FORM}"
    if match["scheme"] in _OF_PATHS and not place.rstrip("/").startswith("/"):
        return f"{match['scheme']}:// needs a folder's whole path, as file:///mnt/shared has it"
    return _why_missing(match["scheme"])


def _why_missing(scheme: str) -> str | None:
    try:
        from fsspec import get_filesystem_class  # type: ignore[import-untyped]

        get_filesystem_class(scheme)
    except ImportError as error:
        return f"{scheme}:// needs a package: {error}"
    except ValueError:
        return f"there is no file system {scheme}://; {_FORM}"
    return None


class RemoteFiles:
    """The files under an address, by names relative to it, in which `/` parts folders.

    Every method takes its time: call it in a thread. Every method raises `FilesAway` after some
    tries where the files cannot be reached. The address is one without a `files_address_fault`;
    raises `ConfigurationError` for one of a file system that needs more than that, and `FilesAway`.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        scheme = url.partition("://")[0]
        options = _OPTIONS.get(scheme, {})
        try:
            self._system, self._root = fsspec.core.url_to_fs(
                url, use_listings_cache=False, skip_instance_cache=True, **options
            )
        except (OSError, EOFError) as error:  # some connect at once
            raise _away(error) from error
        except Exception as error:
            raise ConfigurationError(
                f"files_url: {scheme}:// needs more than an address; {_FORM}"
            ) from error
        self._is_store = scheme in _STORES

    @classmethod
    def of(cls, url: str | None) -> Self | None:
        """Return the files under an address, None without one."""
        return None if url is None else cls(url)

    def check(self) -> None:
        """Write, read and delete a file.

        Raises `ConfigurationError` saying what to change, and `FilesAway` where it may be there a
        little later.
        """
        name = f".{uuid.uuid4().hex}{_PARTIAL}"
        try:
            self._system.pipe_file(self._path(name), b"probe")
            read = self._system.cat_file(self._path(name))
            self._system.rm_file(self._path(name))
        except Exception as error:
            if isinstance(error, FileNotFoundError):
                reason = "there is no such bucket or folder; make it, or correct the address"
            elif isinstance(error, FileExistsError | NotADirectoryError):
                reason = "a file is where a folder has to be; remove it, or correct the address"
            elif _is_refused(error):
                reason = (
                    "the credentials in the environment (such as AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY) are missing, or may not read, write and delete there"
                )
            elif isinstance(error, NotImplementedError):
                reason = "this file system cannot be written"
            else:
                raise _away(error) from error
            raise ConfigurationError(f"files_url: {reason}") from error
        if read != b"probe":
            raise ConfigurationError("files_url: it does not give back what is written there")

    # --- reading ------------------------------------------------------------------------------

    def look(self, name: str) -> RemoteFile | None:
        """Return what is known of a file, None if there is none."""
        with suppress(FileNotFoundError):
            info = self._ask(lambda: self._system.info(self._path(name)))
            if info["type"] == "file":
                return _file(info)
        return None

    def list(self, folder: str) -> dict[str, RemoteFile]:
        """Return the files in a folder and those below it, by their names in it."""
        path = self._path(folder)
        with suppress(FileNotFoundError):
            found = self._ask(lambda: self._system.find(path, detail=True))
            return {
                posixpath.relpath(at, path): _file(info)
                for at, info in found.items()
                if at != path and not at.endswith(_PARTIAL)
            }
        return {}

    def read(self, name: str) -> bytes | None:
        """Return what is in a file, None if there is none."""
        with suppress(FileNotFoundError):
            content: bytes = self._ask(lambda: self._system.cat_file(self._path(name)))
            return content
        return None

    def open(self, name: str) -> BinaryIO:
        """Open a file that is read where it is needed; raises `FileNotFoundError`.

        Unlike the methods here, its own are not asked again.
        """
        file: BinaryIO = self._ask(lambda: self._system.open(self._path(name), "rb"))
        return file

    def download(self, name: str, target: Path) -> None:
        """Copy a file to this host, whole or not at all; raises `FileNotFoundError`."""
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f".{uuid.uuid4().hex}{_PARTIAL}")
        try:
            self._ask(lambda: self._system.get_file(self._path(name), str(scratch)))
            scratch.replace(target)
        finally:
            scratch.unlink(missing_ok=True)

    # --- writing ------------------------------------------------------------------------------

    def upload(self, source: Path, name: str) -> None:
        """Copy a file from this host in place of what is there: nobody sees half of it."""
        self._put(name, lambda path: self._system.put_file(str(source), path))

    def write(self, name: str, content: bytes) -> None:
        """Write a small file in place of what is there."""
        self._put(name, lambda path: self._system.pipe_file(path, content))

    def write_new(self, name: str, content: bytes) -> bool:
        """Write a small file unless there is one; return whether it was written."""
        path = self._path(name)

        def create() -> None:
            if self._is_store:
                self._system.pipe_file(path, content, mode="create")
                return
            self._system.makedirs(posixpath.dirname(path), exist_ok=True)
            with self._system.open(path, "xb") as file:
                file.write(content)

        try:
            self._ask(create, FileExistsError)
        except FileExistsError:
            return self.read(name) == content  # an answer may have been lost before
        return True

    def delete(self, names: Iterable[str]) -> None:
        """Delete files, in this order; what is not there is no fault."""
        for name in names:
            with suppress(FileNotFoundError):
                self._ask(lambda name=name: self._system.rm_file(self._path(name)))  # type: ignore[misc]

    def delete_folder(self, folder: str, *, first: Iterable[str] = ()) -> None:
        """Delete the files of a folder, those that make it known `first`."""
        names = [*first, *sorted(self.list(folder))]
        self.delete(f"{folder}/{name}" for name in names)
        if not self._is_store:  # where a folder is something
            with suppress(FileNotFoundError):
                self._ask(lambda: self._system.rm(self._path(folder), recursive=True))

    def _put(self, name: str, put: Callable[[str], Any]) -> None:
        path = self._path(name)
        if self._is_store:
            self._ask(lambda: put(path), None)
            return
        folder = posixpath.dirname(path)
        scratch = f"{folder}/.{uuid.uuid4().hex}{_PARTIAL}"

        def place() -> None:
            self._system.makedirs(folder, exist_ok=True)
            put(scratch)
            self._system.mv(scratch, path)

        self._ask(place, None)

    def _path(self, name: str) -> str:
        if not name or ".." in name.split("/") or name.startswith("/") or "\0" in name:
            raise ValueError(f"{name!r} is no name of a file below another")
        return f"{self._root}/{name}"

    def _ask(self, work: Callable[[], T], answer: type[OSError] | None = FileNotFoundError) -> T:
        """Return what a file system answers, asked again where it may be away for a moment.

        An error that is an `answer` is raised as it is.
        """
        import tenacity

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(_TRIES),
            wait=tenacity.wait_exponential(_PAUSE_SECONDS, max=10),
            retry=tenacity.retry_if_exception(lambda error: not _is_answer(error)),
            reraise=True,
        )
        try:
            return retrying(work)
        except Exception as error:
            if (answer and isinstance(error, answer)) or _disk_is_full(error):
                raise
            raise _away(error) from error


def _file(info: dict[str, Any]) -> RemoteFile:
    tag = info.get("ETag") or info.get("etag")
    changed = info.get("mtime") or info.get("LastModified") or info.get("updated")
    changed_at = changed.timestamp() if isinstance(changed, datetime) else changed
    return RemoteFile(
        int(info["size"]),
        str(tag or f"{changed}/{info.get('ino')}"),
        int(changed_at) if isinstance(changed_at, float | int) else None,
    )


def _is_answer(error: BaseException) -> bool:
    """Return whether it will be the same when it is asked again."""
    if not isinstance(error, Exception) or _is_refused(error):
        return True
    if isinstance(error, FileNotFoundError | FileExistsError | NotImplementedError):
        return True
    return _disk_is_full(error)


def _disk_is_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in _FULL


def _is_refused(error: BaseException) -> bool:
    # botocore's errors are named, not imported: they are no OSError, and it may not be there.
    return isinstance(error, PermissionError) or "Credential" in type(error).__name__


def _away(error: BaseException) -> FilesAway:
    """Return the fault without its text, in which an address may have a signature."""
    reason = "the credentials are refused" if _is_refused(error) else type(error).__name__
    return FilesAway(
        f"The files that jobs share cannot be reached: {reason}.",
        retry_after_seconds=_RETRY_AFTER_SECONDS,
    )
