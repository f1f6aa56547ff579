"""`make demo`: start the services on real models, ask them off-chain and on-chain, stay up.

DEMO_ONCE=1 ends after the answers, with a code other than 0 if one is wrong.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from ml.infernet.tensor_request import TensorRequest
from ml.infernet.text import decode_text, encode_text
from ml.infernet.vector import DataType, Vector, decode_vector

ROOT = Path(__file__).resolve().parent.parent
CLASSIC_PORT = int(os.environ.get("DEMO_CLASSIC_PORT", "4998"))
LLM_PORT = int(os.environ.get("DEMO_LLM_PORT", "4999"))
TGI_PORT = int(os.environ.get("DEMO_TGI_PORT", "3000"))
READY_WITHIN_SECONDS = 180
QUESTION = "I am launching a revolutionary product today, buy my shares before they are gone!"

Process = subprocess.Popen[bytes]


def main() -> int:
    # Whichever way it is told to end, it ends the services too.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    services: list[Process] = []
    try:
        classic = start(services, "classic_ml_inference_service", CLASSIC_PORT, workers=2)
        llm = start(services, "llm_inference_service", LLM_PORT, workers=1)
        # Our LLM service speaks TGI too, so here it is the model server behind the TGI client.
        os.environ["TGI_INF_WORKFLOW_POSITIONAL_ARGS"] = json.dumps([llm, 30])
        tgi = start(services, "tgi_client_inference_service", TGI_PORT, workers=1)
        wait_until_ready(services)
        right = [ask_classic_service(classic), ask_text_service(llm), ask_text_service(tgi)]
        say("All answers are right." if all(right) else "AN ANSWER IS WRONG.")
        if os.environ.get("DEMO_ONCE") == "1":
            return 0 if all(right) else 1
        say(f"The services stay up: {classic}/docs, {llm}/docs and {tgi}/docs show their APIs.")
        say("Ctrl-C ends them.")
        return max(process.wait() for process in services)
    except KeyboardInterrupt:
        return 0
    except DemoError as error:
        say(str(error))
        return 1
    finally:
        stop(services)


class DemoError(Exception):
    """The demo cannot go on."""


def start(services: list[Process], name: str, port: int, *, workers: int) -> str:
    """Start a service from its `.env.example`; returns its address."""
    say(f"Starting {name} on port {port} …")
    serve = Path(sys.executable).with_name("serve")
    settings = ROOT / "services" / name / ".env.example"
    bind = f"--bind=127.0.0.1:{port}"
    command = [serve, name, bind, f"--workers={workers}", f"--env-file={settings}"]
    services.append(subprocess.Popen(command))
    return f"http://127.0.0.1:{port}"


def stop(services: list[Process]) -> None:
    for process in services:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    for process in services:
        try:
            process.wait(timeout=45)
        except (KeyboardInterrupt, subprocess.TimeoutExpired):
            process.kill()


def wait_until_ready(services: list[Process]) -> None:
    end = time.monotonic() + READY_WITHIN_SECONDS
    waiting = [CLASSIC_PORT, LLM_PORT, TGI_PORT]
    while waiting:
        for process in services:
            if process.poll() is not None:
                raise DemoError(f"A service ended with code {process.returncode}; see above.")
        if time.monotonic() > end:
            raise DemoError(f"Not ready within {READY_WITHIN_SECONDS} seconds.")
        waiting = [port for port in waiting if not is_ready(f"http://127.0.0.1:{port}")]
        time.sleep(0.2)


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=5):
            return True
    except urllib.error.HTTPError as error:
        state = json.load(error)
        if state.get("state") == "failed":
            raise DemoError(f"The service failed: {state['description']}") from None
    except OSError:
        pass
    return False


def ask_classic_service(url: str) -> bool:
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


def ask_text_service(url: str) -> bool:
    data = {"text": QUESTION, "key": "123", "messageId": "123456", "history": []}
    answer = ask(url, "OFFCHAIN, the document's request", {"source": 1, "data": data})
    chain_request = {"source": 0, "data": encode_text(QUESTION).hex()}
    chain_answer = ask(url, "CHAIN, the same text as a contract sends it", chain_request)
    text = decode_text(bytes.fromhex(chain_answer["raw_output"]))
    say(f"raw_output decodes to {text!r}")
    return bool(answer) and text == answer


def ask(url: str, title: str, request: dict[str, Any]) -> Any:
    body = json.dumps(request)
    say(f"\n{title}\nPOST {url}/service_output  {shorten(body)}")
    post = urllib.request.Request(
        f"{url}/service_output", body.encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(post, timeout=120) as reply:
            text = reply.read().decode()
    except urllib.error.HTTPError as error:
        raise DemoError(f"{error.code}: {error.read().decode()}") from None
    say(f"→ {shorten(text)}")
    return json.loads(text)


def shorten(text: str, most: int = 400) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
