"""The image of the TGI service, what every image has from its base, and an image made of it."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml import __version__
from ml.testing.tgi_server import Behaviour, TGIServer
from tests.services.conftest import curls_of_readme
from tests.support.images import Workshop
from tests.support.processes import ROOT, Server, in_background, until

SERVICE = "tgi_client_inference_service"
MOST_BYTES_OVER_BASE = 200_000_000

pytestmark = pytest.mark.timeout(900)  # the first of them builds the image


@pytest.fixture(scope="module")
def upstream() -> TGIServer:
    return TGIServer()


@pytest.fixture(scope="module")
def env_file(upstream: TGIServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The service's `.env.example`, for a model server of this machine."""
    example = (ROOT / "services" / SERVICE / ".env.example").read_text()
    file = tmp_path_factory.mktemp("settings") / "tgi_inf.env"
    with upstream.serving_in_thread() as url:
        assert "http://127.0.0.1:8080" in example
        file.write_text(example.replace("http://127.0.0.1:8080", url))
        yield file


@pytest.fixture
def container(tgi: Workshop, env_file: Path) -> Iterator[Server]:
    with tgi.running(SERVICE, "--workers=2", ENV_FILE=str(env_file)) as server:
        yield server.wait_ready(workers=2)


def test_a_container_answers_the_curl_of_the_readme(container: Server) -> None:
    (curl,) = curls_of_readme(ROOT / "services" / SERVICE / "README.md", container.url)
    done = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == "You asked: Is the sky blue during a clear day?"


def test_sigterm_lets_a_container_finish_its_requests(
    container: Server, upstream: TGIServer
) -> None:
    upstream.upcoming.append(Behaviour(delay_seconds=2))
    before = len(upstream.received)
    with in_background(lambda: container.post({"text": "in flight"})) as answers:
        until(lambda: len(upstream.received) > before, "the request at the model server")
        container.process.terminate()
    assert [answer.json() for answer in answers] == ["You asked: in flight"]
    assert container.wait() == 0


def test_a_wrong_setting_ends_a_container_with_code_2_and_a_hint(
    tgi: Workshop, tmp_path: Path
) -> None:
    file = tmp_path / "tgi_inf.env"
    file.write_text("TGI_INF_TOKENS=x\n")
    with tgi.running(SERVICE, ENV_FILE=str(file)) as server:
        assert server.wait() == 2
    assert "did you mean 'TGI_INF_TOKEN'" in server.stderr


def test_the_image_has_no_torch_and_little_over_its_base(tgi: Workshop) -> None:
    with tgi.layers(SERVICE) as (_, layers):
        names = [name for layer in layers for name in layer.getnames()]
        added = sum(member.size for member in layers[-1])
    packages = set(re.findall(r"/site-packages/(\w+)/", "\n".join(names)))
    assert {"aiohttp", "quart"} <= packages
    assert not packages & {"torch", "transformers", "sklearn"}
    assert 0 < added < MOST_BYTES_OVER_BASE


def test_a_container_runs_as_a_user_who_writes_to_the_documents_folders_alone(
    tgi: Workshop,
) -> None:
    tried = "/mnt/input /mnt/output /mnt/working /home/infernet /opt/infernet /etc /usr"
    code = f"id -u; for folder in {tried}; do touch $folder/x && echo $folder; done 2> /dev/null"
    printed = tgi.ask(SERVICE, "sh", "-c", f"{code}; true").split()
    assert printed == ["10001", "/mnt/input", "/mnt/output", "/mnt/working", "/home/infernet"]


def test_an_image_tells_its_version_and_what_is_in_it(tgi: Workshop) -> None:
    labels = tgi.inspect(SERVICE)["Labels"]
    assert labels["org.opencontainers.image.title"] == SERVICE
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.revision"]
    bill = json.loads(tgi.ask(SERVICE, "cat", "/usr/share/sbom/image.cdx.json"))
    versions = {part["purl"].rpartition("@")[0]: part["version"] for part in bill["components"]}
    assert bill["bomFormat"] == "CycloneDX"
    assert versions["pkg:pypi/infernet-ml-services"] == __version__
    pins = dict(re.findall(r"^(quart|aiohttp)==(.+)$", read("constraints.txt"), re.MULTILINE))
    assert {name: versions[f"pkg:pypi/{name}"] for name in pins} == pins
    assert {"pkg:deb/debian/libc6", "pkg:deb/debian/openssl"} <= set(versions)


def read(name: str) -> str:
    return (ROOT / name).read_text()


def test_the_service_is_the_first_process_which_its_health_check_finds(tgi: Workshop) -> None:
    check = ("python", "/opt/infernet/build/healthcheck.py")
    nowhere = 'TGI_INF_WORKFLOW_POSITIONAL_ARGS=["http://127.0.0.1:9"]'
    with tgi.first_process(SERVICE, nowhere) as inside:
        until(lambda: inside(*check).returncode == 0, "a healthy container")
        all_addresses_port_3000 = "00000000:0BB8"
        assert all_addresses_port_3000 in inside("cat", "/proc/net/tcp").stdout
        inside("sh", "-c", "(sleep 0.2 &)")  # an orphan
        processes = ("sh", "-c", "cat /proc/[0-9]*/stat")
        assert "(serve)" in inside(*processes).stdout
        until(lambda: "(sleep)" not in inside(*processes).stdout, "an orphan that was reaped")
        inside("sh", "-c", "kill -STOP -1")
        assert inside(*check).returncode == 1


def test_no_layer_and_no_configuration_has_a_secret_of_the_builder(tgi: Workshop) -> None:
    secret = "hf_made_up_and_easily_found"
    places = (
        ".env",
        "docker/.env",
        "services/tgi_client_inference_service/.env",
        "docker/image/.env",
    )
    for place in places:
        (tgi.root / place).write_text(f"HUGGING_FACE_HUB_TOKEN={secret}\n")
    try:
        variables = {
            "HF_TOKEN": secret,
            "TGI_INF_TOKEN": secret,
            "PIP_INDEX_URL": f"http://{secret}@127.0.0.1:9",
        }
        tgi.build(SERVICE, **variables)
    finally:
        for place in places:
            (tgi.root / place).unlink()
    with tgi.layers(SERVICE) as (config, layers):
        assert secret not in config
        assert str(tgi.root) not in config
        for layer in layers[1:]:
            for member in layer:
                content = layer.extractfile(member) if member.isreg() else None
                assert content is None or secret.encode() not in content.read(), member.name
                assert not member.name.endswith(("/pip.conf", "/.env", "/.git"))


def test_an_archive_is_what_its_digest_says_and_loads_again(tgi: Workshop) -> None:
    archive, digest = tgi.export(SERVICE)
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == digest
    tgi.run("buildah", "rmi", SERVICE)
    tgi.run("bash", "-c", f"gunzip --keep {archive.name}")
    tgi.run("buildah", "pull", "--quiet", f"docker-archive:{archive.with_suffix('')}")
    assert tgi.inspect(SERVICE)["Entrypoint"][-1] == SERVICE


def test_an_image_of_ones_own_runs_its_own_workflow(
    tgi: Workshop, env_file: Path, tmp_path: Path
) -> None:
    example = "examples/custom_workflow"
    package = re.search(r"phonenumbers==\S+", read(f"{example}/Dockerfile"))
    assert package
    wheels = tgi.root / "docker" / "wheels"
    download = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps")
    if not list(wheels.glob(f"{package[0].replace('==', '-')}-*")):
        tgi.run(*download, "--dest", wheels, package[0])
    pip = tmp_path / "pip.conf"  # its RUN asks an index; here that is the folder of wheels
    pip.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    volumes = (f"--volume={pip}:/etc/pip.conf:ro", f"--volume={wheels}:/wheels:ro")
    tgi.run("buildah", "build", "--format=docker", "--tag=my_tgi", *volumes, example)

    settings = tmp_path / "my_tgi.env"
    own = [line for line in env_file.read_text().splitlines() if "WORKFLOW_CLASS" not in line]
    settings.write_text("\n".join(own))
    with tgi.running(SERVICE, IMAGE="my_tgi", ENV_FILE=str(settings)) as server:
        answer = server.wait_ready().post({"text": "Call me at +1 202-456-1111 tonight"})
        assert answer.json() == "You asked: Call me at [number] tonight"
