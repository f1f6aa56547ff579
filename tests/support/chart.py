"""The Helm chart: rendered by Helm itself, and its values as a table.

`python -m tests.support.chart` writes the table into the chart's README.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.processes import ROOT

__all__ = ["CHART", "Refused", "documents", "helm", "values_table"]

CHART = ROOT / "deploy" / "kubernetes"
README = CHART / "README.md"
_HELM = ROOT / "tests" / "deploy" / "node_modules" / "helm" / "helm"
_LONGEST = 120
_BEGIN, _END = "<!-- values: python -m tests.support.chart -->\n", "<!-- end of values -->"


class Refused(Exception):
    """Helm does not take the values."""


def helm(*command: str, values: dict[str, Any] | None = None) -> str:
    """Return what Helm prints; raises `Refused`."""
    if not _HELM.exists():
        pytest.fail("Helm is missing: `make test` installs it")
    done = subprocess.run(
        [_HELM, *command, "--values=-"],
        input=json.dumps(values or {}),
        capture_output=True,
        text=True,
        timeout=60,
        env={"HOME": "/nonexistent", "PATH": "/usr/bin:/bin"},
    )
    if done.returncode != 0:
        raise Refused(done.stderr + done.stdout)
    return done.stdout


def documents(values: dict[str, Any], *, release: str = "here") -> list[dict[str, Any]]:
    """Return the manifests of a release with these values."""
    text = helm("template", release, str(CHART), "--namespace=ml", values=values)
    return [document for document in yaml.safe_load_all(text) if document]


def values_table() -> str:
    """Return the README's table of all values."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = ["| value | default | meaning |", "|---|---|---|"]
    for path, meaning, default in _leaves(schema, schema, defaults, ()):
        # What all services have stands with the defaults.
        if path[0] != "services" or path[2:] == ("enabled",):
            shown = "" if default in ("", {}, [], None) else f"`{_short(default)}`"
            rows.append(f"| `{'.'.join(path)}` | {shown} | {meaning} |")
    return "\n".join(rows) + "\n"


def _short(value: Any) -> str:
    text = json.dumps(value) if isinstance(value, dict | list | bool) else str(value)
    return text if len(text) <= _LONGEST else "…"


def _leaves(
    schema: dict[str, Any], node: dict[str, Any], default: Any, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """Yield each value's path, its description and its default."""
    node = resolved(schema, node)
    if node.get("properties") and path[-1:] != ("resources",) and path[-2:] != ("node", "config"):
        for name, child in node["properties"].items():
            below = default.get(name) if isinstance(default, dict) else None
            yield from _leaves(schema, child, below, (*path, name))
        return
    yield path, node["description"], default
    items = resolved(schema, node.get("additionalProperties") or {})
    if items.get("properties"):
        yield from _leaves(schema, items, {}, (*path, "NAME"))


def resolved(schema: dict[str, Any], node: Any) -> dict[str, Any]:
    """Return what a node of the schema refers to, if it refers to anything."""
    if not isinstance(node, dict):
        return {}
    if "allOf" in node:
        own = {"description": node["description"]} if "description" in node else {}
        return resolved(schema, node["allOf"][0]) | own
    if "$ref" not in node:
        return node
    found: Any = schema
    for part in node["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return resolved(schema, found)


def readme_parts(text: str) -> tuple[str, str, str]:
    """Return what stands before the table of values, the table, and what stands behind it."""
    before, _, rest = text.partition(_BEGIN)
    table, _, after = rest.partition(_END)
    return before, table, after


if __name__ == "__main__":
    before, _, after = readme_parts(README.read_text())
    Path(README).write_text(f"{before}{_BEGIN}{values_table()}{_END}{after}")
