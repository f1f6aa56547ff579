"""Pages over HTTP: who gets them, and what they may load."""

from __future__ import annotations

import base64

from tests.conftest import MakeApp
from tests.support.workflows import Shout

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


async def test_browsers_get_a_page_at_the_root_and_others_get_json(make_app: MakeApp) -> None:
    client = (await make_app(Shout)).test_client()
    shown = await client.get("/", headers=BROWSER)
    assert shown.mimetype == "text/html"
    assert "classic_ml_inference_service" in (await shown.get_data(as_text=True))
    for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        told = await client.get("/", headers=headers)
        assert (await told.get_json())["name"] == "classic_ml_inference_service"
        assert told.headers["Vary"] == "Accept"


async def test_a_page_loads_no_script_or_style_that_is_no_file_of_the_service(
    make_app: MakeApp,
) -> None:
    shown = await (await make_app(Shout)).test_client().get("/", headers=BROWSER)
    assert "unsafe" not in shown.headers["Content-Security-Policy"]
    assert "default-src 'none'" in shown.headers["Content-Security-Policy"]


async def test_a_browser_is_asked_for_the_key_at_the_first_page(make_app: MakeApp) -> None:
    client = (await make_app(Shout, api_keys="made-up-key")).test_client()
    refused = await client.get("/", headers=BROWSER)
    assert refused.status_code == 401
    assert any(way.startswith("Basic") for way in refused.headers.getlist("WWW-Authenticate"))
    password = base64.b64encode(b"anybody:made-up-key").decode()
    known = await client.get("/", headers=BROWSER | {"Authorization": f"Basic {password}"})
    assert known.mimetype == "text/html"
    assert (await client.get("/")).status_code == 200  # for programs, as ever


async def test_files_of_pages_are_those_of_their_folder_alone(make_app: MakeApp) -> None:
    client = (await make_app(Shout)).test_client()
    found = await client.get("/assets/pages/base.css")
    assert (found.status_code, found.mimetype) == (200, "text/css")
    again = await client.get(
        "/assets/pages/base.css", headers={"If-None-Match": found.headers["ETag"]}
    )
    assert again.status_code == 304
    for name in ("none.css", "..%2fpage.py", "%2e%2e/page.py", "layout.html"):
        assert (await client.get(f"/assets/pages/{name}")).status_code == 404
