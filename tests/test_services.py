"""A folder in services/ is a service everywhere: lists of them are made of it, or fail here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.services import test_all_services
from tests.support.processes import ROOT
from tests.support.services import EXTRAS, SERVICES

DOCKER = ROOT / "docker"
README, MAKEFILE = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()


def compose(name: str) -> dict[str, dict[str, list[str]]]:
    services: dict[str, dict[str, list[str]]] = yaml.safe_load((DOCKER / name).read_text())[
        "services"
    ]
    return {name: service for name, service in services.items() if name.endswith("_service")}


def chart(name: str) -> Any:
    return yaml.safe_load((ROOT / "deploy" / "kubernetes" / name).read_text())


def row_names(text: str) -> set[str]:
    """Return the services that a table has a row for."""
    return set(re.findall(r"^\| `(\w+_service)` \|", text, re.MULTILINE))


def dockerfiles(needle: str = "") -> set[str]:
    found = DOCKER.glob("*_service.Dockerfile")
    return {path.stem for path in found if needle in path.read_text()}


def ports_of_image_run() -> dict[str, list[str]]:
    lines = re.findall(
        r"^ +(\w+_service)\) echo (.+) ;;$", (ROOT / "image-run.sh").read_text(), re.MULTILINE
    )
    return {name: ports.split() for name, ports in lines}


#: What cannot be made of the folders, and the services that are named in it.
PLACES: dict[str, Callable[[], set[str]]] = {
    "docker/SERVICE.Dockerfile": dockerfiles,
    "docker/compose.yaml": lambda: set(compose("compose.yaml")),
    "docker/config.json": lambda: {
        container["id"]
        for container in json.loads((DOCKER / "config.json").read_text())["containers"]
    },
    "ports() of image-run.sh": lambda: set(ports_of_image_run()),
    "deploy/kubernetes/services.yaml": lambda: set(chart("services.yaml")),
    "deploy/kubernetes/values.yaml": lambda: set(chart("values.yaml")["services"]),
    "deploy/kubernetes/values.schema.json": lambda: set(
        chart("values.schema.json")["properties"]["services"]["properties"]
    ),
    "the table of README.md": lambda: row_names(README),
    "the table of docs/infernet.md": lambda: row_names((ROOT / "docs/infernet.md").read_text()),
    "NAMES of tests/services/test_all_services.py": lambda: {
        name.split()[0] for name in test_all_services.NAMES
    },
}


@pytest.mark.parametrize("place", PLACES)
def test_each_service_is_in_each_place_that_names_them_all(place: str) -> None:
    assert PLACES[place]() == set(SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_what_people_look_for_in_its_folder(name: str) -> None:
    folder = ROOT / "services" / name
    for file in ("__init__.py", "app.py", "README.md", ".env.example"):
        assert (folder / file).is_file(), file


@pytest.mark.parametrize("name", SERVICES)
def test_its_extra_is_the_distributions_and_is_installed_by_make(name: str) -> None:
    extra = EXTRAS[name]
    assert re.search(rf"^{extra} = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for variable in ("DEMO", "EVERYTHING"):
        [value] = re.findall(rf"^{variable} := (.+)$", MAKEFILE, re.MULTILINE)
        assert extra in value.split(",")
    [row] = re.findall(rf"^\| `{name}` \|.*$", README, re.MULTILINE)
    assert f"| `{extra}` |" in row


def test_compose_and_the_script_open_the_same_ports() -> None:
    for name, service in compose("compose.yaml").items():
        published = [port.rpartition("}:")[2] for port in service["ports"]]
        assert published == ports_of_image_run()[name]
        assert f"`{name}` | {published[0].partition(':')[0]} |" in README


def test_a_gpu_is_given_to_the_images_that_are_built_for_one() -> None:
    assert set(compose("compose.gpu.yaml")) == dockerfiles("ARG VARIANT")


def test_a_new_folder_is_known_to_the_scripts_of_images_at_once(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    shutil.copy(DOCKER / "engine.sh", tmp_path / "docker")
    for name in (*SERVICES, "shouting_service"):
        (tmp_path / "services" / name).mkdir(parents=True)
    code = f'. "{tmp_path}/docker/engine.sh"; known shouting_service; echo "${{services[@]}}"'
    done = subprocess.run(
        ["bash", "-euc", code], cwd="/", capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == sorted([*SERVICES, "shouting_service"])
