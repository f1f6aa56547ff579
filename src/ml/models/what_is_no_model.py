"""Files that are saved in place of a model: pointers, web pages, nothing at all."""

from __future__ import annotations

from pathlib import Path

from ml.errors import ConfigurationError

__all__ = ["require_model_file"]

#: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
_POINTER = b"version https://git-lfs.github.com/spec/"
_PAGES = (b"<!doctype html", b"<html", b"<head")
_FIRST_BYTES = 512


def require_model_file(path: Path) -> Path:
    """Return a file's path. Raises `ConfigurationError` for what is known to hold no model."""
    if fault := _fault(path):
        raise ConfigurationError(f"{path.name}: {fault}")
    return path


def _fault(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(_FIRST_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not start:
        return "the file is empty; was its download cut off?"
    if start.startswith(_POINTER):
        return (
            "this is a pointer of Git LFS, not the model; run `git lfs pull` where it was cloned, "
            "or download the file itself"
        )
    if start.startswith(_PAGES):
        return (
            "this is a web page, not a model; download the file itself (on the hub, from "
            "/resolve/ in place of /blob/)"
        )
    return None
