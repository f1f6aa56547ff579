"""The same application under every server that the documents name."""

from __future__ import annotations

import shutil
import signal
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.conftest import StartServer
from tests.e2e.conftest import EVERY_SERVER
from tests.support.processes import (
    CLIENT,
    ROOT,
    Server,
    clean_environment,
    free_port,
    in_background,
    service_variables,
    until,
)
from tests.support.requests import body
from tests.support.workflows import Pid, Shout, Stubborn

CUSTOM = """
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow

class Reverse(BaseInferenceWorkflow):
    def do_run_model(self, text):
        return text[::-1]
"""


def answered(server: Server) -> float:
    name = 'http_requests_total{method="POST",route="/service_output",status="200"}'
    return server.metrics().get(name, 0)


@pytest.mark.parametrize("start_server", EVERY_SERVER, indirect=True)
def test_two_workers_both_answer_and_count_together(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server(
        Pid, workers=2, drain_delay_seconds=0, environment={"TMPDIR": str(tmp_path)}
    ).wait_ready(2)
    answers: list[int] = []

    def both_answered() -> bool:
        answers.append(server.post(None).json()["pid"])
        return len(set(answers)) == 2 and len(answers) >= 20

    until(both_answered, "both workers have answered")
    # A request is counted behind its reply.
    until(lambda: answered(server) == len(answers), "all requests are counted")
    assert {answered(server) for _ in range(5)} == {len(answers)}  # whichever worker is asked
    assert server.metrics()["workflow_ready"] == 2
    assert server.metrics()["requests_in_flight"] == 0
    server.signal(signal.SIGTERM)
    code = server.wait()
    if server.process.args[0].endswith("/serve"):
        assert code == 0
        assert list(tmp_path.iterdir()) == []  # nothing of the shared counts is left behind


def test_quart_run_reads_an_env_file(tmp_path: Path) -> None:
    file = tmp_path / "classic_inf.env"
    variables = service_variables(workflow_class=Shout, workflow_kw_args={"ending": "!"})
    file.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    port = free_port()
    environment = clean_environment(QUART_APP="classic_ml_inference_service:create_app")
    command = ["quart", "-e", str(file), "run", f"--port={port}"]
    with Server(command, port=port, environment=environment) as server:
        server.wait_ready()
        assert server.post("hello").json() == "HELLO!"
        server.signal(signal.SIGINT)
        assert server.wait() in (0, -signal.SIGINT, 1)


@pytest.mark.parametrize("place", ["PYTHONPATH", "working directory"])
def test_a_workflow_class_outside_the_project_is_served(
    start_server: StartServer, tmp_path: Path, place: str
) -> None:
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "reverse.py").write_text(CUSTOM)
    server = start_server(
        "my_package.reverse.Reverse",
        directory=tmp_path if place == "working directory" else ROOT,
        environment={"PYTHONPATH": str(tmp_path) if place == "PYTHONPATH" else ""},
    ).wait_ready()
    assert server.post("abc").json() == "cba"
    assert server.get("/").json()["workflow"] == "my_package.reverse.Reverse"


def test_a_plain_hook_that_blocks_leaves_probes_their_answer(start_server: StartServer) -> None:
    server = start_server(Stubborn, max_concurrency=1).wait_ready()
    with in_background(lambda: server.post(2)) as replies:
        until(lambda: server.metrics()["requests_in_flight"] == 1, "the hook is at work")
        for path in ("/health/live", "/health/ready", "/service-resources", "/metrics"):
            assert server.get(path).status_code == 200
        assert replies == []
    assert replies[0].json() == "done"


def test_a_prefix_that_a_proxy_leaves_on_is_taken_off(start_server: StartServer) -> None:
    server = start_server(Pid, "--root-path=/api")
    until(lambda: server.get("/api/health/ready").status_code == 200, "it is ready")
    response = CLIENT.post(server.url + "/api/service_output", content=body(None))
    assert response.status_code == 200
    assert 'route="/service_output"' in server.get("/api/metrics").text


def test_it_listens_on_several_addresses_and_says_at_which_one_it_was_asked(
    start_server: StartServer,
) -> None:
    other = free_port()
    server = start_server(Pid, f"--bind=[::1]:{other}").wait_ready()
    assert server.post(None).status_code == 200
    message = {"source": 1, "data": None}
    response = CLIENT.post(f"http://[::1]:{other}/service_output", json=message)
    assert response.json() == server.post(None).json()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_it_listens_on_a_unix_socket(start_server: StartServer, tmp_path: Path) -> None:
    path = tmp_path / "s"
    server = start_server(Pid, f"--bind=unix:{path}").wait_ready()
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
        response = client.post("http://service/service_output", content=body(None))
    assert response.json() == server.post(None).json()
    server.signal(signal.SIGINT)
    assert server.wait() == 0


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate")
def test_it_speaks_tls(start_server: StartServer, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {certificate} -days 2"
    subprocess.run(
        [*command.split(), "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True,
        capture_output=True,
    )
    server = start_server(Pid, f"--certfile={certificate}", f"--keyfile={key}")
    context = ssl.create_default_context(cafile=str(certificate))
    context.set_alpn_protocols(["h2", "http/1.1"])
    with httpx.Client(verify=context) as client:
        url = f"https://localhost:{server.port}"
        until(lambda: client.get(f"{url}/health/ready").status_code == 200, "it is ready")
        response = client.post(f"{url}/service_output", content=body(None))
    assert response.status_code == 200
    assert response.http_version == "HTTP/1.1"
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
