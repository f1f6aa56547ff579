"""One setting closes every address of every service, event streams and pages too."""

from __future__ import annotations

import base64
import importlib
import re
from pathlib import Path

import pytest

from ml.serving.auth import PUBLIC_PATHS
from tests.support.services import PREFIXES, SERVICES

ARGUMENTS = {
    "classic_ml_inference_service": '["owner/name"]',
    "ezkl_proof_service": '["artifacts/none"]',
    "tgi_client_inference_service": '["http://127.0.0.1:9"]',
    "unsloth_trainer_service": '["SmolLM2-135M-Instruct"]',
}


@pytest.mark.parametrize("name", SERVICES)
async def test_nothing_but_the_public_list_is_answered_without_a_key(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(f"{PREFIXES[name]}API_KEYS", "a-key")
    monkeypatch.setenv(f"{PREFIXES[name]}WORKFLOW_POSITIONAL_ARGS", ARGUMENTS.get(name, "[]"))
    monkeypatch.setenv("WORKING_PATH", str(tmp_path))
    app = importlib.import_module(name).create_app()
    client = app.test_client()
    credentials = base64.b64encode(b"me:a-key").decode()
    rules = list(app.url_map.iter_rules())
    assert len(rules) > 10
    for rule in rules:
        path = re.sub(r"<[^>]*>", "x", rule.rule)
        for method in sorted(rule.methods - {"HEAD", "OPTIONS"}):
            if rule.rule in PUBLIC_PATHS and not (method == "POST" and path in app.endpoints):
                continue
            assert (await client.open(path, method=method)).status_code == 401, (method, path)
    for headers in (
        {"Authorization": "Bearer a-key"},
        {"Authorization": f"Basic {credentials}"},
    ):
        assert (await client.get("/config", headers=headers)).status_code == 200
