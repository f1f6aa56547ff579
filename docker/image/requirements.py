"""Prints what the project or some of its extras require: `requirements.py PYPROJECT [EXTRA…]`."""

import sys
import tomllib
from pathlib import Path


def main(pyproject: str, *extras: str) -> None:
    """Print one requirement a line: those of the extras, or without any those of every service."""
    project = tomllib.loads(Path(pyproject).read_text())["project"]
    chosen = [project["optional-dependencies"][extra] for extra in extras]
    for requirements in chosen or [project["dependencies"]]:
        sys.stdout.write("".join(f"{requirement}\n" for requirement in requirements))


if __name__ == "__main__":
    main(*sys.argv[1:])
