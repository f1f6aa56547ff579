"""What needs no engine: names and ports agree, and archives are made alike."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.support.processes import ROOT
from tests.support.services import SERVICES

DOCKER = ROOT / "docker"
NODE = json.loads((DOCKER / "config.json").read_text())["containers"]
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())


def shell(code: str, **variables: str) -> str:
    """Return what code prints that reads docker/engine.sh."""
    done = subprocess.run(
        ["bash", "-euc", f". docker/engine.sh; {code}"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_each_service_has_an_image() -> None:
    assert shell('printf "%s\\n" "${services[@]}"').split() == SERVICES
    assert {path.stem for path in DOCKER.glob("*_service.Dockerfile")} == set(SERVICES)
    for name in SERVICES:
        text = (DOCKER / f"{name}.Dockerfile").read_text()
        assert f'ENTRYPOINT ["/opt/infernet/build/entrypoint.sh", "{name}"]' in text
        assert text.index("USER 10001:10001") > text.rindex("RUN")


def test_a_node_and_compose_start_the_images_that_are_built() -> None:
    for container in NODE:
        built = shell(f"image {container['id']}", IMAGE_PREFIX="your-registry/").strip()
        assert container["image"] == built
    for name in SERVICES:
        image = COMPOSE["services"][name]["image"]
        bare = re.sub(r"\$\{\w+:-(\w*)\}", r"\1", image)
        assert bare == shell(f"image {name}").strip()


def test_compose_has_the_ports_of_the_node_and_settings_that_are_there() -> None:
    ports = {container["id"]: container["port"] for container in NODE}
    for name in SERVICES:
        service = COMPOSE["services"][name]
        example, own = service["env_file"]
        assert (DOCKER / example).resolve() == ROOT / "services" / name / ".env.example"
        assert own == {"path": f"{name}.env", "required": False}
        published = [port.rpartition("}:")[2].split(":") for port in service["ports"]]
        assert int(published[0][0]) == ports[name]
        listening = [option.rpartition(":")[2] for option in service["command"] if "bind" in option]
        assert [port for _, port in published] == listening
        assert all(port.startswith("${ADDRESS:-127.0.0.1}:") for port in service["ports"])


def test_compose_waits_longer_than_a_service_takes_to_end() -> None:
    drain, graceful, saving = 1, 30, 50
    for name in SERVICES:
        seconds = int(COMPOSE["services"][name]["stop_grace_period"].removesuffix("s"))
        assert seconds > drain + graceful + (saving if "trainer" in name else 0)


def saved(*, time: int, builder: str, content: bytes = b"hello", name: str = "layer.tar") -> bytes:
    """Return an image archive of one layer, as an engine saves it."""
    layer = archive({"usr/hello": content}, time, builder)
    config: dict[str, Any] = {
        "architecture": "amd64", "os": "linux", "created": f"2025-01-01T00:00:{time:02}Z",
        "config": {"Env": ["A=1"], "Hostname": builder}, "container": builder,
        "history": [{"created": f"2025-01-01T00:00:{time:02}Z", "created_by": "COPY"}],
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{time}"]},
    }  # fmt: skip
    manifest = [{"Config": "c.json", "RepoTags": [builder], "Layers": [name]}]
    files = {name: layer, "c.json": as_json(config), "manifest.json": as_json(manifest)}
    return archive(files, time, builder)


def archive(files: dict[str, bytes], time: int, owner: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uname = len(content), time, owner
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def as_json(document: Any) -> bytes:
    return json.dumps(document).encode()


def normalised(data: bytes) -> bytes:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        command = [
            sys.executable,
            DOCKER / "normalise.py",
            file.name,
            "service:latest",
            "1700000000",
        ]
        return subprocess.run(command, capture_output=True, check=True).stdout


def test_the_same_image_saved_elsewhere_and_later_is_the_same_archive() -> None:
    first = normalised(saved(time=1, builder="one"))
    assert first == normalised(saved(time=2, builder="other", name="blobs/sha256/1"))
    assert first != normalised(saved(time=1, builder="one", content=b"other"))
    assert b"other" not in first


def test_a_normalised_archive_is_whole() -> None:
    with tarfile.open(fileobj=io.BytesIO(normalised(saved(time=1, builder="one")))) as tar:
        files = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
    (entry,) = json.loads(files["manifest.json"])
    assert entry["RepoTags"] == ["service:latest"]
    config = json.loads(files[entry["Config"]])
    assert config["config"] == {"Env": ["A=1"]}
    assert config["created"] == config["history"][0]["created"] == "2023-11-14T22:13:20Z"
    assert [f"sha256:{name.removesuffix('.tar')}" for name in entry["Layers"]] == (
        config["rootfs"]["diff_ids"]
    )
    with tarfile.open(fileobj=io.BytesIO(files[entry["Layers"][0]])) as layer:
        (member,) = layer.getmembers()
        assert (member.name, member.mtime, member.uname) == ("usr/hello", 1700000000, "")


def test_the_constraints_of_each_variant_hold_torch_to_its_build(tmp_path: Path) -> None:
    plain, cpu, cuda = (constraints(tmp_path, variant) for variant in ("", "cpu", "cuda"))
    assert cpu == plain | {"torch": SpecifierSet(f"{plain['torch']}+cpu")}
    version = str(plain["torch"]).removeprefix("==")
    assert cuda["torch"].contains(version)
    assert not cuda["torch"].contains(f"{version}+cpu")
    assert {"nvidia-cublas", "triton", "unsloth"} <= cuda.keys() - cpu.keys()


def test_with_vllm_nothing_is_held_to_what_it_pins_itself(tmp_path: Path) -> None:
    plain, cuda = (constraints(tmp_path, *given) for given in (("",), ("cuda", "vllm")))
    assert plain.keys() - cuda.keys() == {"llguidance", "numpy"}
    assert not cuda["torch"].contains(f"{str(plain['torch']).removeprefix('==')}+cpu")
    assert cuda.keys() <= plain.keys()


def constraints(folder: Path, *arguments: str) -> dict[str, SpecifierSet]:
    """Return the versions by package that a build of this variant is held to, each package once."""
    shutil.copy(ROOT / "constraints.txt", folder)
    for name in ("constraints.sh", "cuda-constraints.txt"):
        shutil.copy(DOCKER / "image" / name, folder)
    subprocess.run([folder / "constraints.sh", *arguments], check=True)
    lines = (folder / "constraints.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions = {found.name: found.specifier for found in requirements}
    assert len(versions) == len(requirements)
    return versions


@pytest.mark.parametrize("script", ["image-build.sh", "image-run.sh", "image-export.sh"])
def test_an_unknown_service_is_refused_with_those_that_there_are(script: str) -> None:
    done = subprocess.run(
        [ROOT / script, "nonsense"], env={"PATH": "/usr/bin:/bin", "ENGINE": "none"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "there is no service nonsense" in done.stderr
    assert SERVICES[0] in done.stderr


@pytest.mark.parametrize(
    ("script", "wrong", "told"),
    [
        ("image-run.sh", {"INPUT": "/nowhere"}, "there is no folder /nowhere"),
        ("image-run.sh", {"ENV_FILE": "/nowhere"}, "there is no file of settings /nowhere"),
        ("image-build.sh", {"VARIANT": "rocm"}, "VARIANT is cpu or cuda, not rocm"),
    ],
)
def test_wrong_variables_are_told(script: str, wrong: dict[str, str], told: str) -> None:
    environment = {"PATH": "/usr/bin:/bin", "ENGINE": "none"} | wrong
    done = subprocess.run([ROOT / script], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert told in done.stderr


def test_without_an_engine_the_scripts_say_what_to_install() -> None:
    environment = {"PATH": "/usr/bin:/bin", "ENGINE": "none"}
    done = subprocess.run([ROOT / "image-run.sh"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "apt-get install buildah" in done.stderr


def test_nothing_in_an_image_is_fetched_by_a_script_from_the_network() -> None:
    for path in [*DOCKER.glob("*.Dockerfile"), *(DOCKER / "image").iterdir()]:
        if path.is_file():
            assert not re.search(r"\b(curl|wget)\b|https?://", path.read_text()), path
