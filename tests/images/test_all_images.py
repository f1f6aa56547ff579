"""All images, and images built twice: `make test-images`, about 10 minutes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ml.models.embedded_llm import embedded_llm_path
from tests.support.images import Workshop

EXTRAS = {"ezkl_proof_service": "ezkl", "unsloth_trainer_service": "trainer"}
TWICE = ("tgi_client_inference_service", "classic_ml_inference_service")

pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        "ALL_IMAGES" not in os.environ, reason="make test-images takes about 10 minutes"
    ),
]


@pytest.mark.parametrize("service", TWICE)
def test_the_same_sources_give_the_same_archive(
    tgi: Workshop, classic: Workshop, service: str
) -> None:
    archive, first = tgi.export(service)
    archive.unlink()
    tgi.run("buildah", "rmi", service, "infernet-ml-base")
    for path in (tgi.root / "src").rglob("*.py"):
        os.utime(path, (1, 1))  # as another checkout of the same commit has them
    tgi.build(service)
    archive, second = tgi.export(service)
    archive.unlink()
    assert first == second


@pytest.mark.parametrize("service", EXTRAS)
def test_the_image_is_built_and_its_service_takes_its_example_settings(
    workshop: Workshop, service: str
) -> None:
    workshop.fetch(EXTRAS[service])
    workshop.build(service)
    with workshop.running(service, "--check") as server:
        assert server.wait() == 0, server.stderr
    assert '"workflow_class"' in server.stdout


def test_the_language_model_in_the_working_folder_answers(
    workshop: Workshop, tmp_path: Path
) -> None:
    service = "llm_inference_service"
    workshop.fetch("llm")
    workshop.build(service)
    working = tmp_path / "working"
    shutil.copytree(embedded_llm_path(), working / "models" / embedded_llm_path().name)
    for path in (working, *working.rglob("*")):
        os.chown(path, 10001, 10001)
    with workshop.running(service, WORKING=str(working)) as server:
        answer = server.wait_ready().post({"text": "Is the sky blue?"})
    assert answer.status_code == 200
    assert answer.json()
