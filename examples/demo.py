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
from ml.infernet.vector import DataType, Vector, decode_vector

ROOT = Path(__file__).resolve().parent.parent
PORT = int(os.environ.get("DEMO_PORT", "4998"))
URL = f"http://127.0.0.1:{PORT}"
READY_WITHIN_SECONDS = 120


def main() -> int:
    service = start("classic_ml_inference_service", f"127.0.0.1:{PORT}")
    try:
        wait_until_ready(service)
        ok = ask_classic_service()
        say("All answers are right." if ok else "AN ANSWER IS WRONG.")
        if os.environ.get("DEMO_ONCE") == "1":
            return 0 if ok else 1
        say(f"The service stays up: {URL}/docs shows its API. Ctrl-C ends it.")
        return service.wait()
    except KeyboardInterrupt:
        return 0
    except DemoError as error:
        say(str(error))
        return 1
    finally:
        stop(service)


class DemoError(Exception):
    """The demo cannot go on."""


def start(name: str, bind: str) -> subprocess.Popen[bytes]:
    say(f"Starting {name} on {bind} with 2 workers …")
    environment = ROOT / "services" / name / ".env.example"
    serve = Path(sys.executable).with_name("serve")
    command = [serve, name, f"--bind={bind}", "--workers=2", f"--env-file={environment}"]
    return subprocess.Popen(command)


def stop(service: subprocess.Popen[bytes]) -> None:
    if service.poll() is None:
        service.send_signal(signal.SIGINT)
    try:
        service.wait(timeout=45)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        service.kill()


def wait_until_ready(service: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + READY_WITHIN_SECONDS
    while time.monotonic() < end:
        if service.poll() is not None:
            raise DemoError(f"The service ended with code {service.returncode}; see its log above.")
        try:
            with urllib.request.urlopen(f"{URL}/health/ready", timeout=5):
                return
        except urllib.error.HTTPError as error:
            state = json.load(error)
            if state.get("state") == "failed":
                raise DemoError(f"The service failed: {state['description']}") from None
        except OSError:
            pass
        time.sleep(0.2)
    raise DemoError(f"Not ready within {READY_WITHIN_SECONDS} seconds.")


def ask_classic_service() -> bool:
    request = json.loads((ROOT / "examples" / "classic_request.json").read_text())
    answer = ask("OFFCHAIN, the document's request", request)
    off_chain = np.array(answer["values"])
    chain_request = to_chain_request(request["data"]["values"])
    chain_answer = ask("CHAIN, the same values as a contract sends them", chain_request)
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


def ask(title: str, request: dict[str, Any]) -> dict[str, Any]:
    body = json.dumps(request)
    say(f"\n{title}\nPOST {URL}/service_output  {shorten(body)}")
    post = urllib.request.Request(
        f"{URL}/service_output", body.encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(post, timeout=30) as reply:
            text = reply.read().decode()
    except urllib.error.HTTPError as error:
        raise DemoError(f"{error.code}: {error.read().decode()}") from None
    say(f"→ {shorten(text)}")
    answer: dict[str, Any] = json.loads(text)
    return answer


def shorten(text: str, most: int = 400) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
