"""How long a stream may take: any time in all, and no longer for a piece than for an answer."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.conftest import MakeApp
from tests.serving.conftest import MakeLLM
from tests.support.requests import JSON, STREAM, body, eventually, open_post, post
from tests.support.workflows import Pieces, StandsStill

CHAT = {"messages": [{"role": "user", "content": "Hello"}], "stream": True}
TGI = {"inputs": "Hello"}


async def test_a_stream_that_goes_on_may_take_longer_than_an_answer(make_app: MakeApp) -> None:
    app = await make_app(Pieces, request_timeout_seconds=2)
    pieces = ["a", {"wait": 0.8}, "b", {"wait": 0.8}, "c", {"wait": 0.8}, "d"]
    response = await post(app, pieces, destination=STREAM)
    assert await response.get_data() == b"abcd"


async def test_a_stream_that_stands_still_is_cut(
    make_app: MakeApp, capfd: pytest.CaptureFixture[str]
) -> None:
    app = await make_app(Pieces, request_timeout_seconds=0.3)
    Pieces.closed.clear()
    async with open_post(app) as connection:
        await connection.send(body(["a", {"wait": 60}, "b"], destination=STREAM))
        await connection.send_complete()
        assert await connection.receive() == b"a"
        await eventually(lambda: app.admission.in_flight == 0)
    await eventually(lambda: Pieces.closed)
    assert "The stream stood still for 0.3 seconds." in capfd.readouterr().out


@pytest.mark.parametrize(
    ("path", "request_body"), [("/v1/chat/completions", CHAT), ("/generate_stream", TGI)]
)
async def test_a_protocol_tells_its_client_that_a_stream_stood_still(
    make_llm: MakeLLM, path: str, request_body: dict[str, Any]
) -> None:
    StandsStill.closed.clear()
    app = await make_llm(StandsStill, request_timeout_seconds=2)
    asking = app.test_client().post(path, data=json.dumps(request_body), headers=JSON)
    response = await asyncio.wait_for(asking, 40)
    assert response.status_code == 200
    *_, last = (await response.get_data()).decode().strip().split("\n\n")
    name, data = last.split("\n")
    assert name == "event: error"
    assert "stood still for 2 seconds" in data
    assert StandsStill.closed
