"""What Prometheus sees of one worker; tests/e2e has several."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from ml.jobs.figures import Figures
from ml.jobs.job import Job, JobState
from ml.serving.generation_metrics import GenerationMetrics
from ml.serving.gpu_metrics import gpu_families
from ml.serving.job_metrics import job_families
from ml.serving.metrics import Metrics
from ml.serving.models_metrics import ModelsMetrics
from ml.serving.proof_metrics import ProofMetrics
from tests.conftest import MakeApp
from tests.support.processes import ROOT
from tests.support.requests import post
from tests.support.workflows import Batched, Echo, Failing


async def samples(app: Any) -> dict[tuple[str, ...], float]:
    """Return the samples of /metrics by their name and label values."""
    response = await app.test_client().get("/metrics")
    assert response.status_code == 200
    assert response.content_type.startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families((await response.get_data()).decode())
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


async def test_requests_are_counted_by_method_route_and_status(make_app: MakeApp) -> None:
    app = await make_app(Failing)
    client = app.test_client()
    for _ in range(3):
        await post(app, "x")
    await post(app, "x", source=9)
    await client.get("/")
    for path in ("/one", "/two", "/three?x=1"):
        await client.get(path)
    found = await samples(app)
    assert found["http_requests_total", "POST", "/service_output", "500"] == 3
    assert found["http_requests_total", "POST", "/service_output", "400"] == 1
    assert found["http_requests_total", "GET", "/", "200"] == 1
    assert found["http_requests_total", "GET", "other", "404"] == 3
    assert found["http_request_duration_seconds_count", "/service_output"] == 4
    assert found["requests_in_flight",] == 0
    assert found["workflow_ready",] == 1


async def test_what_strangers_send_makes_no_labels(make_app: MakeApp) -> None:
    app = await make_app(Echo, api_keys="key")
    client = app.test_client()
    for word in ("SPAM", "EGGS"):
        await client.open(f"/{word}", method=word, headers={"Authorization": "Bearer key"})
        await client.open(f"/{word}", method=word)
    response = await client.get("/metrics", headers={"Authorization": "Bearer key"})
    text = (await response.get_data()).decode()
    assert "SPAM" not in text
    assert "EGGS" not in text
    assert 'http_requests_total{method="other",route="other",status="401"} 2.0' in text


async def test_batches_are_measured(make_app: MakeApp) -> None:
    app = await make_app(Batched)
    await post(app, 1)
    found = await samples(app)
    for name in ("batch_size", "batch_seconds", "queue_seconds"):
        assert found[f"inference_{name}_count",] == 1
    assert found["workflow_setup_seconds",] >= 0


def all_families() -> list[Metric]:
    """Return every metric that a service may have, with an example of each label."""
    registry = Metrics().registry
    GenerationMetrics(registry)
    ProofMetrics(registry)
    ModelsMetrics(registry)
    job = Job("a", "kind", JobState.RUNNING, {}, 0.0, progress={"step": 1})
    figures = Figures(dict.fromkeys(JobState, 1), dict.fromkeys(JobState, 1.0), 0.0, [job])
    return [*registry.collect(), *job_families(figures), *gpu_families({0: (1, 2)})]


async def test_no_metric_lacks_its_place_in_the_document_and_none_is_invented() -> None:
    document = (ROOT / "docs" / "metrics.md").read_text()
    documented = re.findall(r"^\| `(\w+)` \|", document, flags=re.MULTILINE)
    exposed = {family.name: family.type for family in all_families()}
    assert sorted(documented) == sorted(exposed)
    for name, kind in exposed.items():
        assert re.search(rf"^\| `{name}` \| {kind} \|", document, flags=re.MULTILINE)


async def test_every_label_stands_in_the_document(make_app: MakeApp) -> None:
    app = await make_app(Echo)
    await post(app, 1)
    document = (ROOT / "docs" / "metrics.md").read_text()
    told = (family for family in all_families() if family.name.startswith(("job", "gpu")))
    for family in [*app.metrics.registry.collect(), *told]:
        labels = {name for sample in family.samples for name in sample.labels} - {"le"}
        [row] = re.findall(rf"^\| `{family.name}` .*$", document, flags=re.MULTILINE)
        documented = set(row.split("|")[3].replace(",", " ").split())
        assert documented == labels or (documented and not family.samples)


async def test_a_source_that_fails_or_hangs_costs_its_own_metrics_alone(make_app: MakeApp) -> None:
    app = await make_app(Echo)

    async def fails() -> list[Metric]:
        raise OSError("the database is away")

    async def hangs() -> list[Metric]:
        await asyncio.sleep(60)
        return []

    async def tells() -> list[Metric]:
        return gpu_families({0: (3, 4)})

    app.metrics.sources[:] = [fails, hangs, tells]
    found = await samples(app)
    assert found["workflow_ready",] == 1
    assert found["gpu_memory_used_bytes", "0"] == 3
