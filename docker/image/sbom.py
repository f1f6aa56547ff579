"""Prints what is in this image as a CycloneDX document: Python's and Debian's packages."""

import json
import subprocess
import sys
from importlib import metadata
from typing import Any


def component(kind: str, name: str, version: str, **more: Any) -> dict[str, Any]:
    """Return one package of an ecosystem (`pypi`, `deb/debian`)."""
    purl = f"pkg:{kind}/{name}@{version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        **more,
    }


def of_python() -> list[dict[str, Any]]:
    """Return the installed distributions, with the licences that they state as SPDX texts."""
    found: dict[str, dict[str, Any]] = {}
    for distribution in metadata.distributions():
        name = distribution.name.lower().replace("_", "-")
        stated = distribution.metadata.get_all("License-Expression")
        more = {"licenses": [{"expression": stated[0]}]} if stated else {}
        found.setdefault(name, component("pypi", name, distribution.version, **more))
    return list(found.values())


def of_debian() -> list[dict[str, Any]]:
    """Return the installed Debian packages."""
    listed = subprocess.run(
        ["/usr/bin/dpkg-query", "--show", "--showformat", "${Package} ${Version}\n"],
        capture_output=True,
        check=True,
        text=True,
    )
    return [component("deb/debian", *line.split()) for line in listed.stdout.splitlines()]


def main() -> None:
    """Write it to standard output: without a time, so that the same image gives the same text."""
    components = sorted(of_python() + of_debian(), key=lambda item: item["purl"])
    document = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1}
    json.dump(document | {"components": components}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
