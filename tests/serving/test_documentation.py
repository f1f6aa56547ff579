"""The pages that describe the API come whole from the service itself."""

from __future__ import annotations

import json
import re

import pytest

from tests.conftest import MakeApp
from tests.support.workflows import Echo

PAGES = ["/docs", "/redoc"]
LOADED = re.compile(r"""(?:src|href|url|spec-url)\s*[=:]\s*["']([^"']+)["']""")


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_names_no_other_host_and_all_it_loads_is_here(
    make_app: MakeApp, path: str
) -> None:
    client = (await make_app(Echo)).test_client()
    response = await client.get(path)
    assert response.status_code == 200
    page = (await response.get_data()).decode()
    assert not re.search(r"https?://|[\"'(]//", page)
    loaded = set(LOADED.findall(page))
    assert any(address.endswith(".js") for address in loaded)
    assert "/openapi.json" in loaded
    for address in loaded:
        asset = await client.get(address)
        assert asset.status_code == 200, address
        assert len(await asset.get_data()) > 1000


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_forbids_the_browser_to_ask_elsewhere(make_app: MakeApp, path: str) -> None:
    response = await (await make_app(Echo)).test_client().get(path)
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert not re.search(r"https?:|\*", policy)


async def test_scripts_and_styles_have_their_types(make_app: MakeApp) -> None:
    client = (await make_app(Echo)).test_client()
    for name, kind in {
        "swagger-ui-bundle.js": "javascript",
        "redoc.standalone.js": "javascript",
        "swagger-ui.css": "text/css",
    }.items():
        response = await client.get(f"/assets/docs/{name}")
        assert kind in response.content_type


async def test_assets_are_only_the_named_files(make_app: MakeApp) -> None:
    client = (await make_app(Echo)).test_client()
    for name in ("", "../docs/redoc.standalone.js", "%2e%2e/__init__.py", "index.html"):
        assert (await client.get(f"/assets/docs/{name}")).status_code == 404


async def test_the_api_is_described_with_the_nodes_message_and_our_errors(
    make_app: MakeApp,
) -> None:
    response = await (await make_app(Echo)).test_client().get("/openapi.json")
    document = json.loads(await response.get_data())
    assert document["openapi"].startswith("3.")
    operation = document["paths"]["/service_output"]["post"]
    message = operation["requestBody"]["content"]["application/json"]["schema"]
    assert message["title"] == "InfernetInput"
    assert set(message["properties"]) == {"source", "data", "destination", "requires_proof"}
    assert message["required"] == ["source", "data"]
    assert {"200", "400", "500", "503", "504"} <= set(operation["responses"])
    assert "ErrorBody" in json.dumps(operation["responses"]["400"])
    assert "bearer" in document["components"]["securitySchemes"]


async def test_every_reference_of_the_description_leads_somewhere(make_app: MakeApp) -> None:
    response = await (await make_app(Echo)).test_client().get("/openapi.json")
    text = (await response.get_data()).decode()
    document = json.loads(text)
    for reference in re.findall(r'"\$ref":\s*"#/([^"]+)"', text):
        place = document
        for part in reference.split("/"):
            place = place[part]
