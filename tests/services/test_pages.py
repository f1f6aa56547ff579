"""No address of any service is open to a page of another site."""

from __future__ import annotations

import importlib
import posixpath
import re
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape

from ml.serving.auth import PUBLIC_PATHS
from tests.services.test_keys import ARGUMENTS
from tests.support.services import PREFIXES, SERVICES

FORMS = ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x")


@pytest.fixture(params=SERVICES)
def app(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    name = request.param
    monkeypatch.setenv(f"{PREFIXES[name]}WORKFLOW_POSITIONAL_ARGS", ARGUMENTS.get(name, "[]"))
    monkeypatch.setenv("WORKING_PATH", str(tmp_path))
    return importlib.import_module(name).create_app()


def routes(app: Any) -> list[tuple[str, str]]:
    return [
        (re.sub(r"<[^>]*>", "x", rule.rule), method)
        for rule in app.url_map.iter_rules()
        for method in sorted(rule.methods)
    ]


async def test_it_writes_nothing_with_or_without_a_body(app: Any) -> None:
    client = app.test_client()
    writes = [route for route in routes(app) if route[1] not in ("GET", "HEAD", "OPTIONS")]
    assert writes
    for path, method in writes:
        for headers in (
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site", "Origin": "http://other.localhost"},
        ):
            for content in (b"", b"{}"):
                response = await client.open(path, method=method, headers=headers, data=content)
                assert response.status_code == 403, (method, path, headers)


async def test_a_body_that_is_no_json_is_a_415(app: Any) -> None:
    client = app.test_client()
    for path, method in routes(app):
        if method in ("GET", "HEAD", "OPTIONS") or (method, path) == ("POST", "/v1/files"):
            continue
        for kind in FORMS:
            response = await client.open(
                path,
                method=method,
                headers={"Content-Type": kind, "Content-Length": "2"},
                data="{}",
            )
            assert response.status_code == 415, (method, path, kind)


async def test_under_a_name_of_its_own_it_reads_nothing(app: Any) -> None:
    client = app.test_client()
    for path, method in routes(app):
        if path not in PUBLIC_PATHS or (method == "POST" and path in app.endpoints):
            response = await client.open(path, method=method, headers={"Host": "evil.example"})
            assert response.status_code == 403, (method, path)


async def test_each_page_says_what_it_is_for_at_every_link_and_what_works_without_scripts(
    app: Any,
) -> None:
    assert all(page.about.endswith(".") for page in app.pages)
    for page in app.pages:
        headers = {"Accept": "text/html"}
        shown = await (await app.test_client().get(page.path, headers=headers)).get_data(True)
        assert f'name="description" content="{escape(page.about)}"' in shown
        for other in app.pages:
            assert f'href="{other.address}" title="{escape(other.about)}"' in shown
        assert "<noscript>" in shown
        assert 'href="openapi.json"' in shown


async def test_each_page_names_every_module_that_its_script_comes_to_need(app: Any) -> None:
    """A browser then asks for all of them at once, and not for each when another has come."""
    client = app.test_client()
    for page in app.pages:
        html = await (await client.get(page.path, headers={"Accept": "text/html"})).get_data(True)
        [script] = re.findall(r'<script src="([^"]+)" type="module">', html)
        named = [script, *re.findall(r'<link rel="modulepreload" href="([^"]+)">', html)]
        assert len(named) == len(set(named))
        needed = {script}
        for address in named:
            response = await client.get(f"/{address}")
            assert response.status_code == 200, address
            text = await response.get_data(as_text=True)
            for other in re.findall(r'^(?:import|export) .*"(\..*)"', text, re.MULTILINE):
                needed.add(posixpath.normpath(posixpath.join(posixpath.dirname(address), other)))
        assert needed == set(named), page.path
