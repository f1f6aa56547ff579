"""The commands of docs/proving.md, from a model to a contract that refuses what was not proved."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.processes import ROOT, Server, clean_environment, free_port, until

DOCUMENT = ROOT / "docs" / "proving.md"
RPC, SERVICE = "http://127.0.0.1:8545", "http://localhost:3003"
SCRIPTS = r"examples/proving/(deploy|ask|attest)\.py"


def blocks() -> list[str]:
    """Return the commands that the document shows; all but the installation are run here."""
    found = re.findall(r"^```bash\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    [install, *others] = found
    assert install.startswith("pip install")
    return others


def run(script: str, folder: Path) -> str:
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=clean_environment(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}"),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@contextmanager
def started(build: str, service: str, chain: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Return the addresses of service and chain, once their commands run in a folder."""
    run(build, folder)
    with ExitStack() as stack:
        servers = []
        for line, old in ((service, "3003"), (chain, "8545")):
            port = free_port()
            command = shlex.split(line.replace(old, str(port)))
            if "/" in command[0]:
                command[0] = str(ROOT / command[0])
            server = Server(command, port=port, environment=clean_environment(), directory=folder)
            servers.append(stack.enter_context(server))
        servers[0].wait_ready()
        until(lambda: servers[1].post({}).status_code, "the chain answers")
        yield servers[0].url, servers[1].url


@pytest.mark.timeout(400)
def test_the_commands_of_the_document_lead_from_a_model_to_a_contract(tmp_path: Path) -> None:
    for name in ("examples", "ezkl_patches", "services", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    build, service, *others = blocks()
    [chain] = [block for block in others if "anvil" in block]
    others.remove(chain)
    with started(build, service, chain, tmp_path) as (service_url, rpc):
        script = "\n".join(others).replace(SERVICE, service_url).replace(RPC, rpc)
        script = re.sub(SCRIPTS, rf"\g<0> --rpc={rpc}", script)
        script = re.sub(r"(ask|attest)\.py", rf"\g<0> --service={service_url}", script)
        output = run(script, tmp_path)
    assert '"valid":true' in output
    assert "ezkl: True" in output
    assert f'"result":"0x{1:064x}"' in output
    assert "as proved: accepted\nchanged by 0.01: refused\n" in output
    [answer] = re.findall(r"^proved answer 1: (.+)$", output, re.MULTILINE)
    setosa, *others = map(float, answer.split())
    assert setosa > 0.9 > max(others)
