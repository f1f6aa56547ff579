"""The LLM service on a real Ray cluster: its configs, its replicas, one killed under load."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.processes import ROOT, free_port, until
from tests.support.ray_cluster import RayCluster, ray_command
from tests.support.shared import made_once
from tests.support.tiny_llm import save_adapter, save_tiny_llm

pytestmark = [
    pytest.mark.skipif(ray_command() is None, reason="Ray is not installed: make test-ray"),
    pytest.mark.timeout(400),
]

NAME = "llm_inference_service"
ADAPTERS = ("a", "b", "c", "d")
ARGUMENTS = "FLASK_LLM_WORKFLOW_KW_ARGS"
#: The command, by the Python that has Ray.
SERVE = "import sys; from ml.serving.command import main; sys.exit(main())"
CONFIGS = sorted((ROOT / "deploy" / "ray").glob("*.yaml"))


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    model = made_once("tiny_llm", save_tiny_llm)
    adapters = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(ADAPTERS):
        save_adapter(model, adapters / name, seed=seed)
    arguments = {
        "engine": "transformers",
        "max_new_tokens": 200,
        "adapters_path": str(adapters),
        "max_adapters": len(ADAPTERS),
    }
    return {
        "FLASK_LLM_WORKFLOW_POSITIONAL_ARGS": json.dumps([str(model)]),
        ARGUMENTS: json.dumps(arguments),
    }


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """One node, on which replicas need little."""
    with RayCluster(head_cpus=4, PYTHONPATH=str(ROOT)) as cluster:
        cluster.start_head()
        yield cluster


class Deployed:
    """The service as its config has it, with some of its options changed."""

    def __init__(self, cluster: RayCluster, settings: dict[str, str]) -> None:
        self._cluster = cluster
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config: dict[str, Any] = yaml.safe_load((ROOT / "deploy/ray/llm.yaml").read_text())
        self.config["http_options"] |= {"port": self.port, "host": "127.0.0.1"}
        [application] = self.config["applications"]
        self._settings = settings
        self._give({})
        [self.options] = application["deployments"]
        self.options["ray_actor_options"] = {"num_cpus": 0.5, "num_gpus": 0}
        del self.options["autoscaling_config"]

    def scale(self, replicas: int) -> None:
        """Have so many replicas, and wait until they answer and others are gone."""
        self.options["num_replicas"] = replicas
        self._cluster.request("PUT", "/api/serve/applications/", self.config)
        until(lambda: self._is(replicas), f"{replicas} replicas", 120)

    def start_anew(self, replicas: int, **arguments: Any) -> None:
        """Have so many replicas that have done nothing yet, with arguments of their own."""
        self.end()
        self._give(arguments)
        self.scale(replicas)

    def _give(self, arguments: dict[str, Any]) -> None:
        variables = dict(self._settings)
        variables[ARGUMENTS] = json.dumps(json.loads(variables[ARGUMENTS]) | arguments)
        self.config["applications"][0]["runtime_env"] = {"env_vars": variables}

    def end(self) -> None:
        """Have none."""
        path = "/api/serve/applications/"
        self._cluster.request("PUT", path, self.config | {"applications": []})
        until(lambda: not self._application(), "the old replicas are gone", 120)

    def scale_by_itself(self, slots: int, **scaling: Any) -> None:
        """Have one replica that answers `slots` requests at once, and more of them by need."""
        self.end()
        self._give({"slots": slots})
        self.options.pop("num_replicas", None)
        self.options["autoscaling_config"] = scaling
        self._cluster.request("PUT", "/api/serve/applications/", self.config)
        until(lambda: self._is(1), "one replica", 120)

    def _is(self, replicas: int) -> bool:
        found = self.replicas()
        states = [one["state"] for one in found]
        failed = self._application().get("status") == "DEPLOY_FAILED"
        assert not failed, self._application().get("message")
        return states == ["RUNNING"] * replicas and self._application()["status"] == "RUNNING"

    def _application(self) -> dict[str, Any]:
        told = self._cluster.get("/api/serve/applications/") or {}
        found: dict[str, Any] = told.get("applications", {}).get(NAME, {})
        return found

    def replicas(self) -> list[dict[str, Any]]:
        deployments = self._application().get("deployments", {})
        found: list[dict[str, Any]] = deployments.get(NAME, {}).get("replicas", [])
        return found


@pytest.fixture(scope="module")
def deployed(cluster: RayCluster, settings: dict[str, str]) -> Deployed:
    deployed = Deployed(cluster, settings)
    deployed.scale(1)
    return deployed


class Load:
    """Clients that ask again and again, streamed or not, and how each request ended."""

    def __init__(self, url: str, clients: int = 4) -> None:
        self._url = url
        self._over = threading.Event()
        self.ended: Counter[str] = Counter()
        self.failures: list[tuple[float, str]] = []
        self._threads = [
            threading.Thread(target=self._ask, args=(number % 2 == 0,)) for number in range(clients)
        ]

    def _ask(self, streamed: bool) -> None:
        body = {
            "model": "tiny_llm",
            "messages": [{"role": "user", "content": "Tell me a story."}],
            "max_tokens": 60,
            "stream": streamed,
        }
        with httpx.Client(timeout=90) as client:
            while not self._over.is_set():
                try:
                    how = self._once(client, body)
                except httpx.HTTPError as error:
                    how = f"broken: {type(error).__name__}"
                self.ended[how] += 1
                if how != "whole":
                    self.failures.append((time.monotonic(), how))

    def _once(self, client: httpx.Client, body: dict[str, Any]) -> str:
        url = f"{self._url}/v1/chat/completions"
        with client.stream("POST", url, json=body) as reply:
            text = reply.read().decode()
        if reply.status_code != 200:
            return f"refused: {reply.status_code}"
        whole = text.rstrip().endswith("data: [DONE]") if body["stream"] else json.loads(text)
        return "whole" if whole else "ended early without a word"

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(120)

    def more(self, number: int) -> None:
        """Wait until so many requests more were answered whole."""
        goal = self.ended["whole"] + number
        until(lambda: self.ended["whole"] >= goal, f"{number} more answers", 120)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_config_names_a_service_and_limits_what_waits(config: Path) -> None:
    document = yaml.safe_load(config.read_text())
    [application] = document["applications"]
    [deployment] = application["deployments"]
    service = application["args"]["service"]
    assert (ROOT / "services" / service).is_dir()
    assert service == application["name"] == deployment["name"]
    assert deployment["max_queued_requests"] > 0
    assert deployment["graceful_shutdown_timeout_s"] > 170  # the longest that a node waits


def test_a_replica_answers_the_documents_request_and_its_health(deployed: Deployed) -> None:
    message = {"source": 1, "data": {"text": "What is 2 + 2?", "max_new_tokens": 4}}
    reply = httpx.post(f"{deployed.url}/service_output", json=message, timeout=60)
    assert reply.status_code == 200
    assert isinstance(reply.json(), str)
    for path in ("/health", "/health/ready", "/metrics"):
        assert httpx.get(deployed.url + path, timeout=60).status_code == 200, path
    refused = httpx.post(f"{deployed.url}/service_output", json={"source": 1}, timeout=60)
    assert refused.status_code == 400
    assert set(refused.json()) == {"code", "name", "description"}


def test_no_request_is_lost_while_replicas_come_and_go(deployed: Deployed) -> None:
    deployed.scale(1)
    with Load(deployed.url) as load:
        load.more(4)
        deployed.scale(2)
        load.more(8)
        deployed.scale(1)
        load.more(4)
    assert set(load.ended) == {"whole"}


def test_a_killed_replica_fails_what_it_held_and_nothing_else(deployed: Deployed) -> None:
    deployed.scale(2)
    with Load(deployed.url) as load:
        load.more(8)
        held = len(load._threads)
        os.kill(deployed.replicas()[0]["pid"], signal.SIGKILL)
        load.more(12)
    assert load.ended["ended early without a word"] == 0, load.ended
    assert sum(load.ended.values()) - load.ended["whole"] <= held, load.ended
    until(lambda: deployed._is(2), "the killed replica is replaced", 120)


def serve_on_ray(
    cluster: RayCluster, port: int, folder: Path, **settings: str
) -> subprocess.Popen[str]:
    command = ray_command()
    assert command is not None
    options = [f"--bind=127.0.0.1:{port}", "--on=ray", "--cpus=0.5"]
    return subprocess.Popen(
        [str(Path(command).with_name("python")), "-c", SERVE, "llm", *options],
        env=cluster.environment | settings | {"RAY_ADDRESS": cluster.gcs_address},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_serve_on_ray_runs_replicas_with_the_settings_of_its_own_environment(
    cluster: RayCluster, deployed: Deployed, settings: dict[str, str], tmp_path: Path
) -> None:
    secret = "a-key-of-the-tests"
    key = {"Authorization": f"Bearer {secret}"}
    models = f"{deployed.url}/v1/models"
    with serve_on_ray(
        cluster, deployed.port, tmp_path, **settings, FLASK_LLM_API_KEYS=secret
    ) as process:
        try:
            until(lambda: httpx.get(models, timeout=60).status_code == 401, "the key is asked for")
            assert httpx.get(models, headers=key, timeout=60).status_code == 200
            assert secret not in json.dumps(cluster.get("/api/serve/applications/"))
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    assert f"{NAME} answers on port {deployed.port} of every node" in output
    assert process.returncode == 0, errors
    assert NAME not in cluster.get("/api/serve/applications/")["applications"]


def test_another_port_than_the_clusters_is_refused(
    cluster: RayCluster, deployed: Deployed, settings: dict[str, str], tmp_path: Path
) -> None:
    with serve_on_ray(cluster, free_port(), tmp_path, **settings) as process:
        try:
            _, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 2
    assert f"Ray Serve has port {deployed.port} for all applications" in errors


class Loads:
    """Which replicas have loaded which adapters, by what they log."""

    def __init__(self, cluster: RayCluster) -> None:
        self._logs = cluster.folder / "session_latest" / "logs"
        self._before = self._all()

    def _all(self) -> Counter[tuple[str, int]]:
        found: Counter[tuple[str, int]] = Counter()
        for log in self._logs.glob("worker-*.out"):
            pid = int(log.stem.rpartition("-")[2])
            for name in re.findall(r"adapter (\w) loaded", log.read_text(errors="replace")):
                found[name, pid] += 1
        return found

    def new(self) -> Counter[tuple[str, int]]:
        """Return how often an adapter was loaded by a process since this object was made."""
        return self._all() - self._before

    def of_adapters(self) -> dict[str, int]:
        """Return how often each adapter was loaded, by whichever process."""
        found: Counter[str] = Counter()
        for (name, _), count in self.new().items():
            found[name] += count
        return found


def ask_for(url: str, adapter: str, *, in_head: bool, streamed: bool = False) -> None:
    headers = {"serve-multiplexed-model-id": adapter} if in_head else {}
    message = [{"role": "user", "content": "Tell me a story."}]
    body = {"model": adapter, "messages": message, "max_tokens": 4, "stream": streamed}
    reply = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60)
    assert reply.status_code == 200, reply.text
    assert not streamed or reply.text.rstrip().endswith("data: [DONE]")


def ask_for_all(url: str, *, in_head: bool) -> None:
    """Ask for each adapter eight times, all at once, one half streamed."""
    with ThreadPoolExecutor(8) as pool:
        for asked in [
            pool.submit(ask_for, url, name, in_head=in_head, streamed=number % 2 == 0)
            for number in range(8)
            for name in ADAPTERS
        ]:
            asked.result()


def test_an_adapter_that_is_named_in_the_head_is_loaded_by_one_replica_alone(
    cluster: RayCluster, deployed: Deployed
) -> None:
    deployed.start_anew(2)
    loads = Loads(cluster)
    for name in ADAPTERS:
        ask_for(deployed.url, name, in_head=True)
    for _ in range(2):
        ask_for_all(deployed.url, in_head=True)
    assert loads.of_adapters() == dict.fromkeys(ADAPTERS, 1)


def test_adapters_that_are_named_in_bodies_find_their_replicas_where_there_is_room_for_each_once(
    cluster: RayCluster, deployed: Deployed
) -> None:
    deployed.start_anew(2, max_adapters=len(ADAPTERS) // 2)

    def none_is_loaded() -> bool:
        loads = Loads(cluster)
        for _ in range(2):
            ask_for_all(deployed.url, in_head=False)
        return not loads.new()

    until(none_is_loaded, "each adapter has its replica", 120)
    held = Loads(cluster)
    for _ in range(2):
        ask_for_all(deployed.url, in_head=False)
    assert not held.new()


def test_the_adapters_of_a_killed_replica_are_loaded_by_another_and_no_others(
    cluster: RayCluster, deployed: Deployed
) -> None:
    deployed.start_anew(2)
    loads = Loads(cluster)
    for name in ADAPTERS:
        ask_for(deployed.url, name, in_head=True)
    killed = next(pid for _, pid in loads.new())
    lost = [name for name, pid in loads.new() if pid == killed]
    later = Loads(cluster)
    os.kill(killed, signal.SIGKILL)
    until(
        lambda: deployed._is(2) and killed not in [one["pid"] for one in deployed.replicas()],
        "the killed replica is replaced",
        120,
    )
    for name in ADAPTERS:
        ask_for(deployed.url, name, in_head=True)
    ask_for_all(deployed.url, in_head=True)
    assert later.of_adapters() == dict.fromkeys(lost, 1)


def test_requests_that_wait_inside_a_replica_bring_another_one_and_it_goes_with_them(
    deployed: Deployed,
) -> None:
    # One of the eight is answered, the others wait at the engine: they alone are worth the second.
    deployed.scale_by_itself(
        slots=1,
        min_replicas=1,
        max_replicas=2,
        target_ongoing_requests=4,
        metrics_interval_s=1,
        look_back_period_s=2,
        upscale_delay_s=1,
        downscale_delay_s=2,
    )
    with Load(deployed.url, clients=8) as load:
        until(lambda: deployed._is(2), "a second replica", 120)
        load.more(8)
    until(lambda: deployed._is(1), "one replica again", 120)
    assert set(load.ended) == {"whole"}
