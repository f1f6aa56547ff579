"""What keeps a service from starting is told at once and in words, by all of the services."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ml.errors import ConfigurationError
from ml.extras import missing_of_extra, why_not_imported
from ml.workflows.loading import load_workflow
from tests.support.processes import ROOT, clean_environment
from tests.support.services import EXTRAS, PREFIXES, SERVICES

#: A package of each extra without which its service cannot work.
PACKAGES = {
    "classic": "torch",
    "llm": "transformers",
    "tgi": "aiohttp",
    "trainer": "sqlalchemy",
    "ezkl": "ezkl",
}
#: Python runs this before anything else; a package that it hides is as good as not installed.
HIDE = """
import os, sys

class Hiding:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == os.environ["HIDDEN_PACKAGE"]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hiding)
"""
WORKFLOWS = "ml.workflows.inference"
#: A workflow class, arguments at fault, and what is told of each.
ARGUMENTS: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        f"{WORKFLOWS}.torch_inference_workflow.TorchInferenceWorkflow",
        {"model_source": "BUILT", "use_jit": "x", "safe_classes": 3, "proof_seconds": -1, "no": 1},
        [
            "model_source: ",
            "use_jit: ",
            "safe_classes: ",
            "proof_seconds: ",
            "no such argument: 'no'",
        ],
    ),
    (
        f"{WORKFLOWS}.llm_inference_workflow.LLMInferenceWorkflow",
        {"dtype": "x", "slots": 0, "max_adapters": 0, "temperature": -1, "max_lenght": 9},
        ["dtype: ", "slots: ", "max_adapters: ", "temperature: ", "did you mean 'max_length'?"],
    ),
    (
        f"{WORKFLOWS}.tgi_client_inference_workflow.TGIClientInferenceWorkflow",
        {"server_url": "x", "headers": 1, "api": "z", "colour": 2, "retry_params": {"tries": 0}},
        ["server_url: ", "headers: ", "api: ", "no such argument: 'colour'", "retry_params.tries"],
    ),
    (
        "ml.workflows.proof.ezkl_proof_workflow.EZKLProofWorkflow",
        {"proof_seconds": -1, "memory_limit_bytes": "z", "colour": 2},
        ["artifacts: ", "proof_seconds: ", "memory_limit_bytes: ", "no such argument: 'colour'"],
    ),
    (
        "ml.workflows.training.unsloth_trainer_workflow.UnslothTrainerWorkflow",
        {"model": "m", "slots": 0, "max_length": 1, "dtype": "float16", "quantization": "int4"},
        [
            "dtype: ",
            "no such argument: 'quantization': say weights",
            "slots: ",
            "max_length: ",
        ],
    ),
]


def run(service: str, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / "serve", service, "--bind=127.0.0.1:0", *options],
        env=clean_environment(**variables),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("options", [[], ["--check"]], ids=["serve", "check"])
@pytest.mark.parametrize("service", SERVICES)
def test_a_package_that_is_not_installed_is_one_line_with_its_extra(
    service: str, options: list[str], tmp_path: Path
) -> None:
    prefix, extra = PREFIXES[service], EXTRAS[service]
    package = PACKAGES[extra]
    (tmp_path / "sitecustomize.py").write_text(HIDE)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = run(service, *options, HIDDEN_PACKAGE=package, PYTHONPATH=path)
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if "not installed" in line]
    assert line.strip().startswith(f"{prefix}WORKFLOW_CLASS: ")
    assert line.endswith(f"{package} is not installed: pip install 'infernet-ml-services[{extra}]'")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_faults_of_settings_and_of_arguments_are_told_together() -> None:
    arguments = {"model_source": "BUILT", "use_jit": "x", "colour": 1}
    done = run(
        "classic_ml_inference_service",
        CLASSIC_INF_MAX_IN_FLIGHT="0",
        CLASSIC_INF_WORKFLOW_KW_ARGS=json.dumps(arguments),
    )
    assert done.returncode == 2
    for fault in ("MAX_IN_FLIGHT: ", "model_source: ", "use_jit: ", "no such argument: 'colour'"):
        assert done.stderr.count(fault) == 1


@pytest.mark.parametrize(("path", "arguments", "faults"), ARGUMENTS)
def test_each_workflow_tells_all_faults_of_its_arguments(
    path: str, arguments: dict[str, Any], faults: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_workflow(path, [], arguments)
    lines = str(caught.value).splitlines()
    assert len(lines) == len(faults)
    for fault in faults:
        assert len([line for line in lines if fault in line]) == 1


def test_what_is_installed_is_not_missing_and_what_no_extra_brings_is_named() -> None:
    assert all(missing_of_extra(extra) is None for extra in EXTRAS.values())
    unknown = ModuleNotFoundError("No module named 'colour.red'", name="colour.red")
    assert why_not_imported(unknown) == "colour.red is not installed"
    known = ModuleNotFoundError("No module named 'eth_account.x'", name="eth_account.x")
    assert why_not_imported(known).endswith("pip install 'infernet-ml-services[trainer]'")
