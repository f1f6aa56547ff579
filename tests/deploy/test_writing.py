"""The services run where they can write to nothing but what the chart lets them write to."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from ml.models.embedded_llm import embedded_llm_path
from ml.testing.tgi_server import TGIServer
from tests.support.chart import documents
from tests.support.chart_releases import RELEASES
from tests.support.circuits import SETOSA, iris_artifact
from tests.support.finetuning import REQUEST, write_rows
from tests.support.processes import Server, clean_environment, free_port, until
from tests.support.tiny_llm import save_tiny_llm

USER = 10001
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make folders read-only")


class Pod:
    """A root folder in which a service's mounts are, as the chart makes them."""

    def __init__(self, root: Path, service: str) -> None:
        self.root, self.service = root, service
        [container] = [
            document["spec"]["template"]["spec"]["containers"][0]
            for document in documents(RELEASES["all services"])
            if document["kind"] == "Deployment"
            and document["metadata"]["labels"]["app.kubernetes.io/component"] == service
        ]
        self.writable = [
            mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")
        ]
        for path in self.writable:
            self.path(path).mkdir(parents=True)
            shutil.chown(self.path(path), USER, USER)

    def path(self, path: str) -> Path:
        return self.root / path.removeprefix("/")

    def start(self, **settings: str) -> Server:
        """Start the service as the image does, with its folders in this root."""
        port = free_port()
        places = {
            "HOME": "/home/infernet",
            "TMPDIR": "/tmp",  # noqa: S108
            "HF_HOME": "/mnt/working/huggingface",
            "INPUT_PATH": "/mnt/input",
            "MODELS_PATH": "/mnt/working/models",
            "OUTPUT_PATH": "/mnt/output",
            "WORKING_PATH": "/mnt/working",
        }
        moved = {name: str(self.path(path)) for name, path in places.items()}
        without = {"PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"}
        return Server(
            ["serve", self.service, f"--bind=127.0.0.1:{port}", "--workers=2"],
            port=port,
            environment=clean_environment(**(moved | settings)) | without,
            within=self._walls(),
        )

    def _walls(self) -> list[str]:
        """Return what runs a command as the pod's user, with all but its folders read-only.

        That it may read all files is for the sake of Python, which may be in somebody's home.
        """
        folders = [str(self.path(path)) for path in self.writable]
        binds = "".join(f"mount --bind {folder} {folder} && " for folder in folders)
        become = f"--reuid={USER} --regid={USER} --clear-groups --no-new-privs"
        reads = "--inh-caps=+dac_read_search --ambient-caps=+dac_read_search"
        script = (
            f"mount --make-rprivate / && {binds} mount -o remount,bind,ro / && "
            f'exec setpriv {become} {reads} "$@"'
        )
        return ["unshare", "--mount", "sh", "-c", script, "sh"]


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that another user can reach: pytest's own are for their user alone."""
    with tempfile.TemporaryDirectory(prefix="pod-") as folder:
        yield Path(folder)


def _classic(pod: Pod, stack: ExitStack) -> dict[str, str]:
    arguments = {"model_source": "BUILT_IN", "model_args": {"name": "iris"}}
    return {"CLASSIC_INF_WORKFLOW_KW_ARGS": json.dumps(arguments)}


def _tgi(pod: Pod, stack: ExitStack) -> dict[str, str]:
    url = stack.enter_context(TGIServer().serving_in_thread())
    return {"TGI_INF_WORKFLOW_POSITIONAL_ARGS": json.dumps([url, 5])}


def _llm(pod: Pod, stack: ExitStack) -> dict[str, str]:
    given, model = embedded_llm_path(), pod.root / "model"
    shutil.copytree(given / "openvino-int8", model)
    for path in (*given.glob("*.json"), *given.glob("*.jinja")):
        shutil.copy(path, model)
    return {"FLASK_LLM_WORKFLOW_POSITIONAL_ARGS": json.dumps([str(model)])}


def _trainer(pod: Pod, stack: ExitStack) -> dict[str, str]:
    rows = pod.path("/mnt/input")
    rows.mkdir(parents=True)
    write_rows(rows / "rows.jsonl", [(f"Which colour is {n}?", f"It is {n}.") for n in range(16)])
    save_tiny_llm(pod.path("/mnt/working/models/small"))
    return {"TRAINER_WORKFLOW_POSITIONAL_ARGS": '["small"]'}


def _proof(pod: Pod, stack: ExitStack) -> dict[str, str]:
    artifact = pod.root / "iris"
    shutil.copytree(iris_artifact(), artifact)
    return {"EZKL_WORKFLOW_POSITIONAL_ARGS": json.dumps([str(artifact)])}


def _train(server: Server) -> None:
    asked = REQUEST | {"max_steps": 1, "output_dir": "tuned"}
    reply = httpx.post(f"{server.url}/finetune", json=asked, timeout=60)
    assert reply.is_success, reply.text
    job = f"/jobs/{reply.json()['job_id']}"
    ends = ("succeeded", "failed", "interrupted")
    until(lambda: server.get(job).json()["status"] in ends, "the job ends", 240)
    assert server.get(job).json()["status"] == "succeeded", server.get(job).text


def _asks(data: Any) -> Callable[[Server], None]:
    def ask(server: Server) -> None:
        reply = server.post(data)
        assert reply.status_code == 200, reply.text

    return ask


SERVICES = {
    "classic_ml_inference_service": (_classic, _asks({"dtype": "float", "values": [SETOSA]})),
    "tgi_client_inference_service": (_tgi, _asks({"text": "Hello"})),
    "llm_inference_service": (_llm, _asks({"text": "Hello"})),
    "unsloth_trainer_service": (_trainer, _train),
    "ezkl_proof_service": (_proof, _asks({"dtype": "float", "values": [SETOSA]})),
}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_writes_where_the_chart_lets_it_alone(service: str, root: Path) -> None:
    settings, ask = SERVICES[service]
    pod = Pod(root, service)
    with ExitStack() as stack:
        given = settings(pod, stack)
        subprocess.run(["chmod", "--recursive", "a+rX", pod.root], check=True)
        server = stack.enter_context(pod.start(**given)).wait_ready(2)
        ask(server)
        server.signal(15)
        assert server.wait() == 0
        assert not re.search("Permission denied|Read-only", server.stdout + server.stderr)
