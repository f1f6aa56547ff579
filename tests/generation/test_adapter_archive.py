"""What an adapter's zip may be."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml.errors import InvalidInput, PayloadTooLarge
from ml.generation.adapter_archive import unpack_adapter
from ml.generation.lora_file import CONFIG_FILE, WEIGHTS_FILE

METHODS = {
    "stored": zipfile.ZIP_STORED,
    "deflated": zipfile.ZIP_DEFLATED,
    "bzip2": zipfile.ZIP_BZIP2,
    "lzma": zipfile.ZIP_LZMA,
}


def zipped(method: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(CONFIG_FILE, "{}" * 50)
        archive.writestr(WEIGHTS_FILE, bytes(range(256)) * 4)
    return file.getvalue()


@pytest.mark.parametrize("method", METHODS)
@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.lists(st.tuples(st.integers(0, 9999), st.integers(0, 255)), min_size=1, max_size=5),
    kept=st.floats(0.5, 1),
)
def test_a_damaged_zip_is_refused(
    method: str, changes: list[tuple[int, int]], kept: float, tmp_path: Path
) -> None:
    body = bytearray(zipped(METHODS[method]))
    for place, byte in changes:
        body[place % len(body)] = byte
    archive = tmp_path / "a.zip"
    archive.write_bytes(body[: int(kept * len(body))])
    try:
        unpack_adapter(archive, tmp_path, most_bytes=10_000)
    except (InvalidInput, PayloadTooLarge):
        return
    assert (tmp_path / WEIGHTS_FILE).stat().st_size <= 10_000
