"""Writes an image archive so that the same image gives the same bytes, whichever engine saved it.

    docker save --output saved.tar NAME
    python3 docker/normalise.py saved.tar NAME EPOCH > NAME.tar

Reads what docker, podman and buildah save, and writes the form that all of them load: every file
and the image itself bear one time, no file bears the builder's names, the members have one order.
A machine that only deploys may have an older Python than the project's: 3.10 is enough here.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import IO, Any

#: What runs; the other parts of a configuration tell how and where it was built.
_KEPT = ("architecture", "os", "variant", "config", "history")
_BUILDERS = ("Hostname", "Domainname", "Image")


def main(saved: str, name: str, epoch: str) -> None:
    """Rewrite the archive in a file, under this name, to standard output."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(saved) as archive:
            members = _rewritten(archive, name, int(epoch), Path(folder))
        _write(members, int(epoch), sys.stdout.buffer)


def _rewritten(
    archive: tarfile.TarFile, name: str, epoch: int, folder: Path
) -> dict[str, Path | bytes]:
    """Return the new archive's files by their names."""
    manifest = json.load(_open(archive, "manifest.json"))[0]
    members: dict[str, Path | bytes] = {}
    digests: list[str] = []
    for layer in manifest["Layers"]:
        path = folder / str(len(digests))
        digests.append(_rewrite_layer(_open(archive, layer), path, epoch))
        members[f"{digests[-1]}.tar"] = path
    config = _json(_config(json.load(_open(archive, manifest["Config"])), digests, epoch))
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    layers = [f"{digest}.tar" for digest in digests]
    entry = {"Config": config_name, "RepoTags": [name], "Layers": layers}
    return members | {config_name: config, "manifest.json": _json([entry])}


def _open(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    file = archive.extractfile(name)  # follows the links that docker makes for equal layers
    if file is None:
        raise ValueError(f"no image archive: {name} is no file")
    return file


def _rewrite_layer(layer: IO[bytes], path: Path, epoch: int) -> str:
    """Write a layer without its builder's times and names; returns its digest."""
    with (
        tarfile.open(fileobj=layer) as old,
        tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in old:
            member.mtime, member.uname, member.gname = epoch, "", ""
            # Capabilities of programs are kept; times of other kinds are not.
            member.pax_headers = {
                key: value for key, value in member.pax_headers.items() if "xattr" in key
            }
            new.addfile(member, old.extractfile(member) if member.isreg() else None)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _config(old: dict[str, Any], digests: list[str], epoch: int) -> dict[str, Any]:
    config = {key: old[key] for key in _KEPT if key in old}
    config["created"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
    config["history"] = [entry | {"created": config["created"]} for entry in old.get("history", [])]
    config["config"] = {key: old["config"][key] for key in old["config"] if key not in _BUILDERS}
    config["rootfs"] = {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]}
    return config


def _json(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _write(members: dict[str, Path | bytes], epoch: int, out: IO[bytes]) -> None:
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(members):
            content = members[name]
            info = tarfile.TarInfo(name)
            info.mtime = epoch
            info.size = len(content) if isinstance(content, bytes) else content.stat().st_size
            with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
                archive.addfile(info, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
