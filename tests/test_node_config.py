"""The node configurations of docker/: what a node reads, and services that start with it."""

from __future__ import annotations

import importlib
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ml.models.torch_settings import TorchSettings
from ml.serving.settings import ServingSettings
from tests.support.processes import ROOT, clean_environment

CURRENT = ROOT / "docker" / "config.json"
OLDER = ROOT / "docker" / "config.before-1.0.json"
#: The fields that a node reads: of 1.4 with its defaults' types, and of 0.2.
CURRENT_FIELDS = {
    "chain", "containers", "docker", "forward_stats", "log", "manage_containers", "redis",
    "server", "startup_wait",
}  # fmt: skip
CURRENT_CONTAINER_FIELDS = {
    "accepted_payments": dict,
    "allowed_addresses": list,
    "allowed_delegate_addresses": list,
    "allowed_ips": list,
    "bearer": str,
    "command": str,
    "description": str,
    "env": dict,
    "external": bool,
    "generates_proofs": bool,
    "gpu": bool,
    "id": str,
    "image": str,
    "port": int,
    "url": str,
    "volumes": list,
}
OLDER_FIELDS = {
    "chain", "containers", "docker", "forward_stats", "log_path", "manage_containers", "redis",
    "server", "snapshot_sync", "startup_wait",
}  # fmt: skip
OLDER_CONTAINER_FIELDS = {
    "id", "image", "external", "port", "allowed_delegate_addresses", "allowed_addresses",
    "allowed_ips", "command", "env",
}  # fmt: skip
#: What services read beside their own settings.
FOREIGN_VARIABLES = {"HF_TOKEN", "MODELS_PATH", "OMP_NUM_THREADS"}


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def settings_of(container: dict[str, Any]) -> type[ServingSettings]:
    settings: type[ServingSettings] = importlib.import_module(f"{container['id']}.app").Settings
    return settings


ALL = [
    pytest.param(container, id=f"{path.name}: {container['id']}")
    for path in (CURRENT, OLDER)
    for container in read(path)["containers"]
]


@pytest.mark.parametrize("path", [CURRENT, OLDER], ids=lambda path: path.name)
def test_each_service_has_one_container_with_a_name_and_port_of_its_own(path: Path) -> None:
    containers = read(path)["containers"]
    services = {folder.name for folder in (ROOT / "services").glob("*_service")}
    inference = {name for name in services if name.endswith("inference_service")}
    assert {container["id"] for container in containers} >= inference
    assert {container["id"] for container in containers} <= services
    for field in ("id", "image", "port"):
        values = [container[field] for container in containers]
        assert len(set(values)) == len(values)
    assert all(1 <= int(container["port"]) <= 65535 for container in containers)


def test_the_current_configuration_has_the_fields_of_todays_node() -> None:
    config = read(CURRENT)
    assert set(config) <= CURRENT_FIELDS
    assert {"rpc_url", "registry_address", "wallet"} <= set(config["chain"])
    for container in config["containers"]:
        for name, value in container.items():
            assert type(value) is CURRENT_CONTAINER_FIELDS[name]


def test_the_older_configuration_has_the_fields_of_nodes_before_1_0() -> None:
    config = read(OLDER)
    assert set(config) <= OLDER_FIELDS
    assert "coordinator_address" in config["chain"]
    for container in config["containers"]:
        assert set(container) == OLDER_CONTAINER_FIELDS


def test_nodes_of_any_version_give_containers_the_same_time_to_load() -> None:
    waits = [read(path)["startup_wait"] for path in (CURRENT, OLDER)]
    assert waits[0] == waits[1] >= 60


@pytest.mark.parametrize("container", ALL)
def test_every_variable_is_one_that_the_service_reads(container: dict[str, Any]) -> None:
    read_by_it = {*settings_of(container).variables().values(), *FOREIGN_VARIABLES}
    if "classic" in container["id"]:
        read_by_it |= {name.upper() for name in TorchSettings.model_fields}
    assert set(container["env"]) <= read_by_it
    assert all(isinstance(value, str) for value in container["env"].values())


@pytest.mark.parametrize("container", ALL)
def test_the_service_starts_with_its_command_and_environment(container: dict[str, Any]) -> None:
    serve = Path(sys.executable).with_name("serve")
    ran = subprocess.run(
        [serve, container["id"], *shlex.split(container["command"]), "--check"],
        env=clean_environment() | container["env"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    shown = json.loads(ran.stdout)
    for field, variable in settings_of(container).variables().items():
        if field.endswith("_args") and variable in container["env"]:
            assert shown[field] == json.loads(container["env"][variable])
    assert "YOUR_TOKEN_HERE" not in ran.stdout
