"""The files beside an ONNX file that hold its weights, as large models have them."""

from __future__ import annotations

import mmap
import re
from pathlib import Path, PurePosixPath

from ml.errors import ConfigurationError

__all__ = ["weight_files"]

#: `StringStringEntryProto` with the key `location`, and the length of its value, in one byte or two
#: https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
_LOCATION = re.compile(rb"\n\x08location\x12([\x80-\xff]?)([\0-\x7f])", re.DOTALL)


def weight_files(path: Path) -> list[str]:
    """Return their names, relative to the folder of the ONNX file; none where it has all in it.

    Raises `ConfigurationError` for one outside of that folder.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = {_value(content, match) for match in _LOCATION.finditer(content)}
    for name in found:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ConfigurationError(
                f"{path.name}: its weights are in {name[:100]!r}, outside of its folder"
            )
    return sorted(found)


def _value(content: mmap.mmap, match: re.Match[bytes]) -> str:
    low, high = match.groups()
    length = (low[0] & 0x7F) + (high[0] << 7) if low else high[0]
    return content[match.end() : match.end() + length].decode(errors="replace")
