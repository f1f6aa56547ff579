"""Dashboard and alerts ask for metrics, by labels, that the services tell."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml

from tests.support.processes import ROOT

GRAFANA = ROOT / "deploy" / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboard.json").read_text())
ALERTS = yaml.safe_load((GRAFANA / "alerts.yaml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
#: What Prometheus itself puts on every sample.
TARGET_LABELS = {"job", "instance"}


def documented() -> dict[str, set[str]]:
    """Return the labels of each sample that docs/metrics.md promises, as other tests hold."""
    rows = re.findall(
        r"^\| `(\w+)` \| (\w+) \| ([\w, ]*)\|",
        (ROOT / "docs" / "metrics.md").read_text(),
        flags=re.MULTILINE,
    )
    samples: dict[str, set[str]] = {}
    for name, kind, labels in rows:
        known = {*labels.replace(",", " ").split(), *TARGET_LABELS}
        if kind == "histogram":
            samples |= {f"{name}_bucket": {*known, "le"}, f"{name}_sum": known}
            samples[f"{name}_count"] = known
        else:
            samples[f"{name}_total" if kind == "counter" else name] = known
    return samples


def asked(query: str) -> tuple[dict[str, set[str]], set[str]]:
    """Return the metrics of a query with the labels that choose them, and those of its groups."""
    chosen: dict[str, set[str]] = {}
    groups: set[str] = set()

    def look(node: Any) -> None:
        if isinstance(node, promql.VectorSelector):
            labels = {matcher.name for matcher in node.matchers.matchers}
            chosen.setdefault(str(node.name), set()).update(labels)
        if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
            groups.update(node.modifier.labels)

    # Grafana puts a time for its variable.
    promql.walk(promql.parse(query.replace("$__rate_interval", "5m")), look)
    return chosen, groups


@pytest.mark.parametrize("query", sorted({*QUERIES, *(rule["expr"] for rule in RULES)}))
def test_a_query_names_metrics_and_labels_that_there_are(query: str) -> None:
    samples = documented()
    chosen, groups = asked(query)
    assert chosen, query
    for name, labels in chosen.items():
        assert labels <= samples[name], f"{name} has no label {labels - samples[name]}"
        assert groups <= samples[name], f"{name} has no label {groups - samples[name]}"


def test_the_dashboard_shows_every_metric() -> None:
    shown = {name for query in QUERIES for name in asked(query)[0]}
    halves = {name.removesuffix("_count").removesuffix("_sum") for name in shown}
    families = {name.removesuffix("_bucket") for name in halves}
    missing = [
        name for name in documented() if re.sub("_(bucket|sum|count)$", "", name) not in families
    ]
    assert missing == []


def test_a_query_of_the_dashboard_is_for_the_chosen_services_alone() -> None:
    for query in QUERIES:
        assert all("job" in labels for labels in asked(query)[0].values()), query


def test_panels_have_a_place_and_a_name_of_their_own() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not taken & cells, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_a_legend_shows_labels_that_its_query_leaves() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            labels = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert labels <= asked(target["expr"])[1], panel["title"]


def test_an_alert_says_what_is_wrong_and_what_helps() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description"}
        labels = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        assert labels <= asked(rule["expr"])[1], rule["alert"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("command", [["check", "rules"], ["test", "rules"]])
def test_prometheus_takes_the_alerts_and_raises_them(command: list[str], tmp_path: Path) -> None:
    for name in ("alerts.yaml", "alerts.test.yaml"):
        shutil.copy(GRAFANA / name, tmp_path)
    file = "alerts.yaml" if command[0] == "check" else "alerts.test.yaml"
    done = subprocess.run(
        ["promtool", *command, file], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
