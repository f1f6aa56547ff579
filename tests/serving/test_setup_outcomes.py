"""What becomes of a service whose workflow cannot be set up, by what keeps it from that."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from ml.errors import (
    ConfigurationError,
    DeadlineExceeded,
    InvalidInput,
    NotReady,
    OutOfMemory,
    Overloaded,
    StorageUnavailable,
    TooManyRequests,
    UpstreamError,
    setup_exit_code,
)
from tests.conftest import MakeApp, StartServer
from tests.support.processes import free_port, until

TORCH = "ml.workflows.inference.torch_inference_workflow.TorchInferenceWorkflow"
LLM = "ml.workflows.inference.llm_inference_workflow.LLMInferenceWorkflow"
TRAINER = "ml.workflows.training.unsloth_trainer_workflow.UnslothTrainerWorkflow"
PROOFS = "ml.workflows.proof.ezkl_proof_workflow.EZKLProofWorkflow"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("no folder"), 2),
        (ModuleNotFoundError("No module named 'x'", name="x"), 2),
        (InvalidInput("no"), 2),
        (UpstreamError(), None),
        (DeadlineExceeded(), None),
        (Overloaded(), None),
        (TooManyRequests(), None),
        (NotReady(), None),
        (StorageUnavailable(), None),
        (ConnectionRefusedError(), None),
        (TimeoutError(), None),
        (OutOfMemory(), 1),
        (KeyError("bug"), 1),
        (SystemExit(3), 1),
    ],
)
def test_a_failure_is_final_or_may_pass(error: BaseException, code: int | None) -> None:
    assert setup_exit_code(error) == code


@pytest.mark.parametrize(
    ("workflow", "positional", "keywords", "told"),
    [
        (TORCH, ["{folder}/none.torch"], {}, "there is no such model file"),
        (TORCH, ["{folder}/broken.torch"], {}, "broken.torch: "),
        (LLM, ["{folder}"], {}, "its folder holds no config.json"),
        (TRAINER, [], {"input_path": "{folder}/none", "working_path": "{folder}/w"}, "INPUT_PATH"),
        (PROOFS, ["{folder}/none"], {}, "{folder}/none"),
    ],
)
async def test_what_is_not_there_or_broken_ends_a_service_with_2(
    make_app: MakeApp,
    tmp_path: Path,
    workflow: str,
    positional: list[str],
    keywords: dict[str, str],
    told: str,
) -> None:
    (tmp_path / "broken.torch").write_bytes(b"no model")
    if workflow == TRAINER:
        keywords = keywords | {"output_path": "{folder}/out"}

    def filled(value: Any) -> Any:
        return json.loads(json.dumps(value).replace("{folder}", str(tmp_path)))

    app = await make_app(
        workflow,
        workflow_positional_args=filled(positional),
        workflow_kw_args=filled(keywords),
    )
    assert (app.health.state, app.exit_code) == ("failed", 2)
    assert filled(told) in app.health.message


@pytest.mark.parametrize("workflow", [TORCH, LLM])
def test_a_hub_that_is_away_is_waited_for(
    start_server: StartServer, tmp_path: Path, workflow: str
) -> None:
    away = {"HF_ENDPOINT": f"http://127.0.0.1:{free_port()}", "HF_HOME": str(tmp_path)}
    server = start_server(workflow, workflow_positional_args=["owner/nothing"], environment=away)

    def waits() -> bool:
        return bool(server.get("/health/ready").json()["reason"] == "upstream_unavailable")

    until(waits, "it waits")
    assert "owner/nothing" in server.get("/health/ready").json()["description"]
    assert server.process.poll() is None


def test_a_download_that_is_broken_off_may_be_tried_again(tmp_path: Path) -> None:
    code = "from ml.models.causal_lm import load_causal_lm\n"
    code += "try: load_causal_lm('owner/nothing')\n"
    code += "except Exception as error: print(type(error).__name__)\n"
    with _hub_that_breaks_off() as url:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"HF_ENDPOINT": url, "HF_HOME": str(tmp_path), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
    assert done.stdout == "UpstreamError\n"


@contextlib.contextmanager
def _hub_that_breaks_off() -> Iterator[str]:
    """Serve a hub that knows each model and closes the connection when asked for a file."""

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith("/api/models/owner/nothing"):
                return
            body = json.dumps({"id": "owner/nothing", "siblings": []}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_HEAD(self) -> None:
            pass

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name there)
            pass

    server = HTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
