"""docs/infernet.md: the consumer compiles with the SDK's imports, as the document sets it up."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.chain.conftest import CONTRACTS, compiler
from tests.support.processes import ROOT

DOCUMENT = (ROOT / "docs" / "infernet.md").read_text()
OURS = {"CallbackConsumer": "consumer/Callback.sol", "Delegator": "pattern/Delegator.sol"}


def sources() -> dict[str, str]:
    """Return a project with the document's imports, and our contracts at the SDK's places."""
    consumer = (CONTRACTS / "PromptConsumer.sol").read_text()
    found = {"src/RawBytes.sol": (CONTRACTS / "RawBytes.sol").read_text()}
    for name, place in OURS.items():
        [line] = re.findall(rf'^import {{{name}}} from "infernet-sdk/.*";$', DOCUMENT, re.MULTILINE)
        consumer = consumer.replace(f'import {{{name}}} from "./{name}.sol";', line)
        text = (
            (CONTRACTS / f"{name}.sol").read_text().replace("./IInfernet.sol", "../IInfernet.sol")
        )
        found[f"lib/infernet-sdk/src/{place}"] = text
    found["lib/infernet-sdk/src/IInfernet.sol"] = (CONTRACTS / "IInfernet.sol").read_text()
    return found | {"src/PromptConsumer.sol": consumer}


def profile() -> dict[str, Any]:
    [block] = re.findall(r"^```toml\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    settings: dict[str, Any] = tomllib.loads(block)["profile"]["default"]
    return settings


def compiled(scratch: Path, settings: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the consumer's code and the compiler's errors."""
    request = {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in sources().items()},
        "settings": {
            "viaIR": settings.get("via_ir", False),
            "optimizer": {"enabled": settings.get("optimizer", False)},
            "remappings": settings.get("remappings", []),
            "outputSelection": {"*": {"*": ["evm.bytecode.object"]}},
        },
    }
    (scratch / "request.json").write_text(json.dumps(request))
    with (scratch / "request.json").open() as stdin:
        done = subprocess.run(
            [*compiler(), "--standard-json"], stdin=stdin, capture_output=True, check=True
        )
    answer = json.loads(done.stdout[done.stdout.index(b"{") :])
    errors = [fault for fault in answer.get("errors", []) if fault["severity"] == "error"]
    files = answer.get("contracts", {})
    code = files.get("src/PromptConsumer.sol", {}).get("PromptConsumer", {})
    return code.get("evm", {}).get("bytecode", {}).get("object", ""), [
        fault["message"] for fault in errors
    ]


def test_the_consumer_compiles_with_the_sdks_imports_and_the_documents_settings(
    tmp_path: Path,
) -> None:
    code, errors = compiled(tmp_path, profile())
    assert errors == []
    assert len(code) > 1000


@pytest.mark.parametrize(
    ("without", "told"),
    [({"via_ir", "optimizer"}, "Stack too deep"), ({"remappings"}, "not found")],
)
def test_without_these_settings_it_does_not(tmp_path: Path, without: set[str], told: str) -> None:
    settings = {name: value for name, value in profile().items() if name not in without}
    code, errors = compiled(tmp_path, settings)
    assert code == ""
    assert any(told in error for error in errors)
