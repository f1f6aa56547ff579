"""An adapter in a zip, as a trainer gives it away: the two files that are needed are taken out."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from pathlib import Path

from ml.errors import InvalidInput, PayloadTooLarge
from ml.generation.lora_file import CONFIG_FILE, WEIGHTS_FILE

__all__ = ["unpack_adapter"]

#: All that zips have in practice.
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


def unpack_adapter(archive: Path, target: Path, *, most_bytes: int) -> None:
    """Write the configuration and the weights of an adapter from a zip into a folder.

    They are looked for at its top; no other name in it becomes a path. Raises `InvalidInput` for
    what is no such zip, and `PayloadTooLarge` for files beyond `most_bytes`.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            for name in (CONFIG_FILE, WEIGHTS_FILE):
                _unpack(packed, name, target / name, most_bytes)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        # The latter two for versions that are not known, and for passwords.
        raise InvalidInput(f"the body is no zip that can be read: {error}") from None


def _unpack(packed: zipfile.ZipFile, name: str, target: Path, most_bytes: int) -> None:
    try:
        entry = packed.getinfo(name)
    except KeyError:
        raise InvalidInput(f"the zip has no {name} at its top") from None
    if entry.compress_type not in _METHODS:
        raise InvalidInput(f"{name}: the zip has to store or to deflate it")
    if entry.file_size > most_bytes:
        raise PayloadTooLarge(f"{name} has {entry.file_size} bytes; at most {most_bytes} are taken")
    # What is read of an entry ends where it says that it does.
    with packed.open(entry) as source, target.open("wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)
