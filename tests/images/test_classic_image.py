"""The image of the classic service: torch for CPUs, and what the document asks of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from tests.services.conftest import curls_of_readme
from tests.support.images import Workshop
from tests.support.processes import ROOT

SERVICE = "classic_ml_inference_service"

pytestmark = pytest.mark.timeout(900)  # the first of them builds the image


def test_a_container_answers_the_documents_curl_and_ends_with_ctrl_c(classic: Workshop) -> None:
    curl, *_ = curls_of_readme(ROOT / "services" / SERVICE / "README.md", "http://localhost")
    with classic.running(SERVICE, "--workers=2") as server:
        server.wait_ready(workers=2)
        command = curl.replace("http://localhost", server.url)
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        answer = json.loads(done.stdout)
        assert (answer["dtype"], answer["shape"]) == ("double", [1, 2])
        os.killpg(server.process.pid, signal.SIGINT)
        assert server.wait() == 0


def test_its_torch_is_the_one_for_cpus_and_stays_so_in_images_made_of_it(
    classic: Workshop,
) -> None:
    code = "import torch; print(torch.__version__, torch.version.cuda)"
    version, cuda = classic.ask(SERVICE, "python", "-c", code).split()
    assert version.endswith("+cpu")
    assert cuda == "None"
    pins = classic.ask(SERVICE, "sh", "-c", "cat $PIP_CONSTRAINT")
    assert f"torch=={version}" in pins.splitlines()
