"""One trace from the node's request through two services, and into the process of a job."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.finetuning import REQUEST, write_rows
from tests.support.processes import ROOT, Server, clean_environment, free_port, until
from tests.support.tiny_llm import save_tiny_llm
from tests.support.trace_receiver import ReceivedSpan, TraceReceiver

TRAINER, TGI = "unsloth_trainer_service", "tgi_client_inference_service"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
IDS = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "from-the-node"}
ENDS = ("succeeded", "failed", "cancelled", "interrupted")


@pytest.fixture(scope="module")
def receiver() -> Iterator[TraceReceiver]:
    with TraceReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def services(
    receiver: TraceReceiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Server]]:
    """Start the trainer, which answers with a small model, and a client of its TGI routes."""
    root = tmp_path_factory.mktemp("traced")
    places = {f"{name.upper()}_PATH": str(root / name) for name in ("input", "output", "working")}
    for path in places.values():
        Path(path).mkdir()
    pairs = [(f"Which colour has house {n}?", f"It is {n}.") for n in range(16)]
    write_rows(root / "input" / "rows.jsonl", pairs)
    save_tiny_llm(root / "models" / "small")
    models = {"MODELS_PATH": str(root / "models"), "HF_HUB_OFFLINE": "1"}
    with ExitStack() as stack:

        def start(name: str, **settings: str) -> Server:
            port = free_port()
            server = Server(
                ["serve", name, f"--bind=127.0.0.1:{port}"],
                port=port,
                environment=clean_environment(**settings) | receiver.variables,
            )
            return stack.enter_context(server).wait_ready()

        trainer = start(TRAINER, TRAINER_WORKFLOW_POSITIONAL_ARGS='["small"]', **places, **models)
        arguments = json.dumps([trainer.url, 5])
        yield {TRAINER: trainer, TGI: start(TGI, TGI_INF_WORKFLOW_POSITIONAL_ARGS=arguments)}


def ancestors(receiver: TraceReceiver, span: ReceivedSpan) -> list[tuple[str, str]]:
    """Return service and name of a span and of all above it, once they are here."""
    known: dict[str, ReceivedSpan] = {}

    def whole() -> bool:
        known.update({s.id: s for s in receiver.spans})
        at = span
        while at.parent != PARENT:
            if at.parent not in known:
                return False
            at = known[at.parent]
        return True

    until(whole, f"all that is above {span.name}")
    chain = [span]
    while chain[-1].parent != PARENT:
        chain.append(known[chain[-1].parent])
    return [(s.service, s.name) for s in chain]


@pytest.mark.parametrize("destination", [1, 2])
def test_a_request_is_one_trace_through_both_services(
    services: dict[str, Server], receiver: TraceReceiver, destination: int
) -> None:
    del receiver.spans[:]
    message = {"source": 1, "destination": destination, "data": {"text": "Hello"}}
    reply = httpx.post(f"{services[TGI].url}/service_output", json=message, headers=IDS, timeout=60)
    assert reply.status_code == 200, reply.text
    made = receiver.wait_for(TRAINER, "generate", TRACE)
    above = ancestors(receiver, made)
    assert (TGI, "POST /service_output") in above
    assert above[1][0] == TRAINER
    assert above[1][1].startswith("POST /")
    if destination == 1:
        assert above[-2] == (TGI, "TGIClientInferenceWorkflow")
    assert made.attributes["gen_ai.usage.output_tokens"] > 0
    servers = [s for s in receiver.spans if s.trace == TRACE and s.name.startswith("POST /")]
    assert {s.service for s in servers} == {TGI, TRAINER}
    assert {s.attributes["request.id"] for s in servers} == {IDS["x-request-id"]}
    assert {s.attributes["http.response.status_code"] for s in servers} == {200}
    assert "Hello" not in str(receiver.spans)


def test_a_job_is_a_part_of_the_request_that_queued_it(
    services: dict[str, Server], receiver: TraceReceiver
) -> None:
    trainer = services[TRAINER]
    asked = REQUEST | {"max_steps": 1, "output_dir": "traced"}
    reply = httpx.post(f"{trainer.url}/finetune", json=asked, headers=IDS, timeout=60)
    assert reply.is_success, reply.text
    job_id = reply.json()["job_id"]
    until(lambda: trainer.get(f"/jobs/{job_id}").json()["status"] in ENDS, "the job ends", 240)
    job = receiver.wait_for(TRAINER, "ml.finetuning.job", TRACE)
    assert job.attributes["job.id"] == job_id
    assert job.attributes["job.attempt"] == 1
    state = trainer.get(f"/jobs/{job_id}").json()["status"]
    assert job.attributes["job.state"] == state
    assert job.failed is (state == "failed")
    assert ancestors(receiver, job)[-1] == (TRAINER, "POST /finetune")


def test_probes_are_in_no_trace(services: dict[str, Server], receiver: TraceReceiver) -> None:
    trace = "a" * 32
    ids = {"traceparent": f"00-{trace}-{PARENT}-01"}
    for path in ("/health/live", "/health/ready", "/metrics", "/service-resources", "/"):
        httpx.get(services[TGI].url + path, headers=ids)
    receiver.wait_for(TGI, "GET /", trace)
    assert [span.name for span in receiver.spans if span.trace == trace] == ["GET /"]


def test_what_was_not_told_yet_is_told_at_the_end() -> None:
    with TraceReceiver() as receiver:
        port = free_port()
        slow = {"OTEL_BSP_SCHEDULE_DELAY": "600000"}
        arguments = json.dumps({"model_source": "BUILT_IN", "model_args": {"name": "iris"}})
        environment = clean_environment(CLASSIC_INF_WORKFLOW_KW_ARGS=arguments)
        command = ["serve", "classic_ml_inference_service", f"--bind=127.0.0.1:{port}"]
        with Server(
            command, port=port, environment=environment | receiver.variables | slow
        ).wait_ready() as server:
            httpx.get(f"{server.url}/", headers=IDS)
            assert receiver.spans == []
            server.signal(15)
            assert server.wait() == 0
        receiver.wait_for("classic_ml_inference_service", "GET /", TRACE)


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "neither otlp nor none"),
    ],
)
def test_a_way_to_tell_that_there_is_not_ends_the_start(
    variables: dict[str, str], told: str
) -> None:
    serve = Path(sys.executable).with_name("serve")
    ran = subprocess.run(
        [serve, TGI, "--check"],
        env=clean_environment(TGI_INF_WORKFLOW_POSITIONAL_ARGS='["http://127.0.0.1:9", 1]')
        | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
        | variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 2
    assert told in ran.stderr


_ANSWERS_ONCE = """
import asyncio, sys
from classic_ml_inference_service import create_app

async def main():
    app = create_app()
    async with app.test_app():
        client = app.test_client()
        while (await client.get("/health")).status_code != 200:
            await asyncio.sleep(0.05)
        data = {"dtype": "float", "values": [[5.1, 3.5, 1.4, 0.2]]}
        reply = await client.post("/service_output", json={"source": 1, "data": data})
        assert reply.status_code == 200, await reply.get_data()

asyncio.run(main())
print([name for name in sys.modules if name.partition(".")[0] == "opentelemetry"])
"""


@pytest.mark.parametrize(
    "off", [{}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_SDK_DISABLED": "true"}]
)
def test_nothing_of_it_is_loaded_while_it_is_off(off: dict[str, str]) -> None:
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"} if off else {}
    arguments: dict[str, Any] = {"model_source": "BUILT_IN", "model_args": {"name": "iris"}}
    ran = subprocess.run(
        [sys.executable, "-c", _ANSWERS_ONCE],
        env=clean_environment(workflow_kw_args=arguments) | off | endpoint,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert ran.stdout.splitlines()[-1] == "[]"
