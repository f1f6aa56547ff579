"""The document by which the node tells its clients what a container can do."""

from __future__ import annotations

import json
import sys
import time

from ml.infernet.resources import service_resources


def test_the_document_has_the_ecosystems_form() -> None:
    capability = {"id": "ml", "type": "custom", "task": []}
    document = service_resources("my-service", capability)
    assert set(document) == {
        "version",
        "service_id",
        "hardware_capabilities",
        "compute_capability",
    }
    assert document["service_id"] == "my-service"
    assert document["compute_capability"] == [capability]
    base = document["hardware_capabilities"][0]
    assert base["capability_id"] == "base"
    assert base["cpu_info"]["num_cores"] == len(base["cpu_info"]["cores"]) > 0
    assert base["disk_info"][0]["size"] > 0
    assert base["os_info"]["name"]


def test_the_document_is_json() -> None:
    assert json.loads(json.dumps(service_resources("s", {})))["version"]


def test_it_is_made_well_within_the_second_that_the_node_waits() -> None:
    started = time.thread_time()
    for _ in range(10):
        service_resources("s", {})
    assert time.thread_time() - started < 1


def test_making_it_does_not_load_torch() -> None:
    before = "torch" in sys.modules
    service_resources("s", {})
    assert ("torch" in sys.modules) is before
