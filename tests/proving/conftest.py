"""A prover of the iris model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ml.proving.artifact import Artifact
from ml.proving.prover import Prover
from ml.proving.worker import Worker
from tests.support.circuits import iris_artifact


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as worker:
        yield worker


@pytest.fixture(scope="module")
def prover(worker: Worker) -> Prover:
    return Prover(Artifact(iris_artifact()), worker)
