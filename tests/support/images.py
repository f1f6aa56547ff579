"""A copy of the checkout whose images buildah builds and runs, without a daemon or a registry."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.processes import ROOT, Server, clean_environment, free_port, until

__all__ = ["CACHE", "Workshop", "missing"]

#: What outlives a run of the tests: Debian's file system and wheels.
CACHE = ROOT / ".images"
_SOURCES = (
    ".dockerignore", ".gitignore", "LICENSE", "README.md", "constraints.txt", "docker",
    "examples/custom_workflow", "ezkl_patches", "image-build.sh", "image-export.sh", "image-run.sh",
    "pyproject.toml", "services", "src",
)  # fmt: skip


def missing() -> str | None:
    """Return why no image can be built here, or None."""
    if os.uname().sysname != "Linux" or os.uname().machine != "x86_64" or os.getuid() != 0:
        return "images are built and run as root of a Linux machine"
    tools = [tool for tool in ("buildah", "debootstrap") if shutil.which(tool) is None]
    return f"install Debian's packages {' and '.join(tools)} to build images" if tools else None


class Workshop:
    """A copy of the checkout, and a storage for images beside it, in an empty folder.

    A copy, because the checkout may change while images are built twice to be compared; in memory
    where that is allowed, because a disk takes minutes to forget some gigabytes of small files.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder / "checkout"
        self.environment = clean_environment() | {
            "BASE_IMAGE": "infernet-debian",
            "BUILDAH_ISOLATION": "chroot",
            "BUILDAH_LAYERS": "false",
            "CACHE": str(CACHE),
            "CONTAINERS_STORAGE_CONF": f"{folder}/storage.conf",
            "ENGINE": "buildah",
            "PYTHON": sys.executable,
            "SOURCE_DATE_EPOCH": "1700000000",
            "TMPDIR": str(folder),
        }
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12g", "tmpfs", folder], check=False)
        for name in _SOURCES:
            _copy(ROOT / name, self.root / name)
        (CACHE / "wheels").mkdir(exist_ok=True)
        subprocess.run(
            ["mount", "--bind", CACHE / "wheels", self.root / "docker" / "wheels"], check=True
        )
        self._configure(folder)

    def _configure(self, folder: Path) -> None:
        """Choose the storage: not every file system can be a layer of an overlay."""
        for driver in ("overlay", "vfs"):
            storage = {
                "driver": driver,
                "graphroot": f"{folder}/images",
                "runroot": f"{folder}/run",
            }
            lines = (f"{name} = {json.dumps(value)}\n" for name, value in storage.items())
            (folder / "storage.conf").write_text("[storage]\n" + "".join(lines))
            probe = subprocess.run(["buildah", "images"], env=self.environment, capture_output=True)
            if probe.returncode == 0:
                return

    def close(self) -> None:
        """Remove the images and the folder."""
        self.run("buildah", "rm", "--all")
        folder = self.root.parent
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in reversed(mounts):  # the inner ones first
            if Path(mount).is_relative_to(folder):
                subprocess.run(["umount", mount], check=True)
        shutil.rmtree(folder)

    def run(self, *command: str | Path, **variables: str) -> str:
        """Return what a command prints, run in the copy of the checkout."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment | variables,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    def fetch(self, *extras: str) -> None:
        """Put the wheels of these extras into docker/wheels; what is there already is kept."""
        pins = ("pyproject.toml", "constraints.txt", "docker/image/build-constraints.txt")
        text = b"".join((self.root / name).read_bytes() for name in pins)
        stamp = CACHE / "-".join(("wheels", *extras, hashlib.sha256(text).hexdigest()[:16]))
        if not stamp.exists():
            self.run("docker/wheels.sh", *extras)
            stamp.touch()

    def build(self, *services: str, **variables: str) -> None:
        self.run("./image-build.sh", *services, **{"PIP_NO_INDEX": "1", **variables})

    def inspect(self, image: str) -> dict[str, Any]:
        """Return the configuration of an image: Entrypoint, Env, Labels, User."""
        document = json.loads(self.run("buildah", "inspect", "--type", "image", image))
        config: dict[str, Any] = document["Docker"]["config"]
        return config

    @contextlib.contextmanager
    def container(self, image: str) -> Iterator[tuple[str, Path]]:
        """Yield a container's name, and where its file system lies."""
        name = self.run("buildah", "from", image).strip()
        try:
            yield name, Path(self.run("buildah", "mount", name).strip())
        finally:
            self.run("buildah", "rm", name)

    def ask(self, image: str, *command: str) -> str:
        """Return what a command prints that runs in a container of an image."""
        with self.container(image) as (name, _):
            return self.run("buildah", "run", "--network", "host", name, "--", *command).strip()

    @contextlib.contextmanager
    def running(self, service: str, *options: str, **variables: str) -> Iterator[Server]:
        """Run a service's image by `image-run.sh`, in a group of its own, on a free port."""
        port = free_port()
        command = ["/usr/bin/setsid", str(self.root / "image-run.sh"), service]
        command += [f"--bind=127.0.0.1:{port}", *options]
        with Server(command, port=port, environment=self.environment | variables) as server:
            try:
                yield server
            finally:
                if server.process.poll() is None:
                    server.process.terminate()  # not killed: it would leave the container
                    server.wait()

    @contextlib.contextmanager
    def first_process(
        self, image: str, *settings: str
    ) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
        """Run an image with processes and a network of its own, as an engine does.

        Yields what runs a command in there.
        """
        config = self.inspect(image)
        user, _, group = config["User"].partition(":")
        environment = ["/usr/bin/env", "-i", *config["Env"], *settings]
        with self.container(image) as (_, root):
            prepared = (
                f"ip link set lo up; mount --rbind /dev {root}/dev; mount -t proc proc {root}/proc"
            )
            entered = shlex.join(["chroot", f"--userspec={user}:{group}", str(root), *environment])
            command = shlex.join(config["Entrypoint"])
            process = subprocess.Popen(
                ["unshare", "--mount", "--pid", "--net", "--fork", "--",
                 "sh", "-c", f"{prepared}; exec {entered} {command}"],
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
            first = ""
            try:
                first = until(lambda: _children(process.pid), "the container's first process")
                joined = ["nsenter", f"--target={first}", "--mount", "--pid", "--net", "--"]
                joined += ["chroot", f"--userspec={user}:{group}", str(root), *environment]
                yield lambda *own: subprocess.run([*joined, *own], capture_output=True, text=True)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(first or process.pid), signal.SIGKILL)  # and all after the first
                process.wait()

    def export(self, service: str) -> tuple[Path, str]:
        """Return the archive of an image, and the digest that was printed."""
        digest = self.run("./image-export.sh", service).strip()
        return self.root / f"{service}.tar.gz", digest

    @contextlib.contextmanager
    def layers(self, image: str) -> Iterator[tuple[str, list[tarfile.TarFile]]]:
        """Yield the text of an image's configuration, and its layers, the lowest first."""
        with contextlib.ExitStack() as stack:
            file = self.root.parent / "layers.tar"
            self.run("buildah", "push", "--quiet", image, f"docker-archive:{file}")
            stack.callback(file.unlink)
            archive = stack.enter_context(tarfile.open(file))
            manifest = json.loads(_read(archive, "manifest.json"))[0]
            layers = [
                stack.enter_context(tarfile.open(fileobj=archive.extractfile(layer)))
                for layer in manifest["Layers"]
            ]
            yield _read(archive, manifest["Config"]).decode(), layers


def _children(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().strip()


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        ignored = shutil.ignore_patterns("__pycache__", "*.whl", ".env")
        shutil.copytree(source, target, ignore=ignored)
    else:
        shutil.copy2(source, target)


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()
