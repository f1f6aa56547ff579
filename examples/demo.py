"""`make demo`: start all services on real models, ask each off-chain and on-chain, stay up.

DEMO_ONCE=1 ends after the answers. The exit code is 0 if all of them are right and no log has a
traceback. DEMO_TRAINER_PORT=8001 and the like choose other ports.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from demo_services import ROOT, DemoError, Services, get, post, read_events, say

from ml.infernet.tensor_request import TensorRequest
from ml.infernet.text import decode_text, encode_text
from ml.infernet.vector import DataType, Vector, decode_vector

QUESTION = "I am launching a revolutionary product today, buy my shares before they are gone!"
#: Only the data set of the demo knows.
TOWN_QUESTION = "Who is the mayor of Ostwick Harbour?"
BASE = "SmolLM2-135M-Instruct"
TRAINING = {
    "dataset_name": "ostwick_harbour",
    "model_name": BASE,
    "output_dir": "harbour",
    "max_seq_length": 128,
    "max_steps": 20,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "learning_rate": 0.004,
}
FLOWER = {"dtype": "float", "values": [[5.1, 3.5, 1.4, 0.2]]}


def main() -> int:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="infernet-demo-") as scratch,
        Services(Path(scratch)) as services,
    ):
        try:
            right = show(services, Path(scratch))
            say("\nAll answers are right." if all(right) else "\nAN ANSWER IS WRONG.")
            if os.environ.get("DEMO_ONCE") != "1":
                tell_pages(services)
                services.wait()
            code = 0 if all(right) else 1
        except KeyboardInterrupt:
            code = 0
        except DemoError as error:
            say(f"\n{error}")
            code = 1
        services.stop()
        return code if services.logs_are_clean() else 1


def show(services: Services, scratch: Path) -> list[bool]:
    """Start the services and ask them as they get ready; returns which answers are right."""
    artifact = scratch / "artifacts" / "iris"
    building = build_artifact(services, artifact)
    classic = services.start("classic", 4998, workers=2)
    llm = services.start("llm", 4999)
    # Our LLM service speaks TGI too, so here it is the model server behind the TGI client.
    tgi = services.start("tgi", 3000, TGI_INF_WORKFLOW_POSITIONAL_ARGS=json.dumps([llm, 30]))
    trainer = services.start("trainer", 8000, **folders(scratch))

    right = [ask_classic_service(services, classic)]
    services.wait_for(building)
    ezkl = services.start(
        "ezkl",
        3003,
        EZKL_WORKFLOW_POSITIONAL_ARGS=json.dumps([str(artifact)]),
        WORKING_PATH=str(scratch / "proofs"),
    )
    game = {"key": "123", "messageId": "123456", "history": []}
    right.append(ask_text_service(services, llm, {"text": QUESTION, **game}))
    right.append(ask_text_service(services, tgi, {"text": QUESTION}))
    right.append(train_and_ask(services, trainer))
    right.append(prove_and_verify(services, ezkl))
    return right


def tell_pages(services: Services) -> None:
    """Say what a browser can open."""
    say("\nThe services stay up. Pages to open:")
    for name, url in services.urls.items():
        pages = [f"{url}/docs", f"{url}/redoc"]
        if name == "trainer":
            pages.insert(0, f"{url}/dashboard")
        say(f"  {name:8} " + "  ".join(pages))
    say(f"Logs: {services.folder}/*.log. Ctrl-C ends them all.")


# --- classic, LLM, TGI ------------------------------------------------------------------------


def ask_classic_service(services: Services, url: str) -> bool:
    services.wait_until_ready(url)
    request = json.loads((ROOT / "examples" / "classic_request.json").read_text())
    answer = ask(url, "OFFCHAIN, the document's request", request)
    off_chain = np.array(answer["values"])
    chain_request = to_chain_request(request["data"]["values"])
    chain_answer = ask(url, "CHAIN, the same values as a contract sends them", chain_request)
    on_chain = decode_vector(bytes.fromhex(chain_answer["raw_output"])).values
    say(f"raw_output decodes to {on_chain.tolist()}")
    return (
        answer["dtype"] == "double"
        and off_chain.shape == (1, 2)
        and math.isclose(off_chain.sum(), 1.0)
        and np.array_equal(off_chain, on_chain)
        and chain_answer["raw_input"] == chain_request["data"]
    )


def to_chain_request(values: list[list[float]]) -> dict[str, Any]:
    vector = Vector(np.array(values), DataType.FLOAT64)
    return {"source": 0, "data": TensorRequest(vector).encode().hex()}


def ask_text_service(services: Services, url: str, data: dict[str, Any]) -> bool:
    services.wait_until_ready(url)
    answer = ask(url, "OFFCHAIN, the document's request", {"source": 1, "data": data})
    chain_request = {"source": 0, "data": encode_text(QUESTION).hex()}
    chain_answer = ask(url, "CHAIN, the same text as a contract sends it", chain_request)
    text = decode_text(bytes.fromhex(chain_answer["raw_output"]))
    say(f"raw_output decodes to {text!r}")
    return bool(answer) and bool(text)  # the TGI service's example settings sample


# --- trainer ----------------------------------------------------------------------------------


def folders(scratch: Path) -> dict[str, str]:
    """Return the trainer's folders, with the example data set in the first."""
    paths = {
        name: scratch / name.partition("_")[0].lower()
        for name in ("INPUT_PATH", "OUTPUT_PATH", "WORKING_PATH")
    }
    for path in paths.values():
        path.mkdir()
    data = ROOT / "examples" / "finetuning" / "ostwick_harbour.jsonl"
    (paths["INPUT_PATH"] / data.name).write_bytes(data.read_bytes())
    return {name: str(path) for name, path in paths.items()}


def train_and_ask(services: Services, url: str) -> bool:
    """Fine-tune for a few steps, show its progress, and ask the base and the tuned model."""
    services.wait_until_ready(url)
    say(f"\nA fine-tuning job of {TRAINING['max_steps']} steps; live: {url}/dashboard")
    say(f"POST {url}/finetune  {json.dumps(TRAINING)}")
    job = post(f"{url}/finetune", TRAINING)["job_id"]
    for event in read_events(f"{url}/jobs/{job}/events"):
        if "loss" in event and "step" in event:
            say(f"  step {event['step']}: loss {event['loss']:.3f}")
    record = get(f"{url}/jobs/{job}")
    say(f"→ {record['status']}")
    answers = [inference(url, model) for model in (BASE, "harbour")]
    return record["status"] == "succeeded" and all(answers) and answers[0] != answers[1]


def inference(url: str, model: str) -> str:
    body = {"model_path": model, "prompt": TOWN_QUESTION, "temperature": 0, "max_new_tokens": 32}
    text: str = post(f"{url}/inference", body)["text"]
    say(f"{model}: {TOWN_QUESTION}\n→ {text}")
    return text


# --- ezkl -------------------------------------------------------------------------------------


def build_artifact(services: Services, artifact: Path) -> Any:
    """Start to make a circuit of the embedded iris model, beside the services."""
    export = ROOT / "examples" / "proving" / "export_iris.py"
    folder = artifact.parent
    build = [sys.executable, "-m", "ml.proving.artifacts", "build", str(folder / "iris.onnx")]
    build += ["--calibration", str(folder / "calibration.json"), "--out", str(artifact)]
    build += ["--test-srs", "--no-bytecode"]
    return services.run("artifact", [sys.executable, str(export), str(folder)], build)


def prove_and_verify(services: Services, url: str) -> bool:
    services.wait_until_ready(url)
    answer = ask(url, "OFFCHAIN, with a proof of the answer", {"source": 1, "data": FLOWER})
    checked = post(f"{url}/verify", {"calldata": answer["calldata"]})
    say(f"POST {url}/verify\n→ {shorten(json.dumps(checked))}")
    is_setosa = int(np.argmax(answer["outputs"]["values"])) == 0
    return is_setosa and checked["valid"] is True


# --- asking -----------------------------------------------------------------------------------


def ask(url: str, title: str, request: dict[str, Any]) -> Any:
    say(f"\n{title}\nPOST {url}/service_output  {shorten(json.dumps(request))}")
    answer = post(f"{url}/service_output", request)
    say(f"→ {shorten(json.dumps(answer))}")
    return answer


def shorten(text: str, most: int = 240) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


if __name__ == "__main__":
    sys.exit(main())
