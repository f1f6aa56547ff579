"""Images as image-build.sh makes them, on Debian's Python, in chroot isolation.

The file system of Debian and the wheels stay in .images for the next run; the images do not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.images import CACHE, Workshop, missing


@pytest.fixture(scope="session")
def workshop() -> Iterator[Workshop]:
    if reason := missing():
        pytest.skip(reason)
    CACHE.mkdir(exist_ok=True)
    shop = Workshop(Path(tempfile.mkdtemp(prefix="tests-", dir=CACHE)))
    try:
        shop.run("docker/debian-base.sh")
        yield shop
    finally:
        shop.close()


@pytest.fixture(scope="session")
def tgi(workshop: Workshop) -> Workshop:
    """The workshop with the image of the TGI service."""
    workshop.fetch("tgi")
    workshop.build("tgi_client_inference_service")
    return workshop


@pytest.fixture(scope="session")
def classic(workshop: Workshop) -> Workshop:
    """The workshop with the image of the classic service."""
    workshop.fetch("classic")
    workshop.build("classic_ml_inference_service")
    return workshop
