"""What clients say of tools, forms and texts is in no line of the log, answered or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.serving.conftest import MakeLLM
from tests.support.requests import JSON

SECRET = "xylophonist"
CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
SAID = [{"role": "user", "content": SECRET}]
SCHEMA = {"type": "object", "properties": {SECRET: {"enum": [SECRET]}}, "required": [SECRET]}
FUNCTION = {"name": SECRET, "description": SECRET, "parameters": SCHEMA}
TOOLS = [{"type": "function", "function": FUNCTION}]
CALL = {"id": SECRET, "type": "function", "function": {"name": SECRET, "arguments": SECRET}}
BROKEN = {"type": "object", "properties": {SECRET: {"type": SECRET}}}
FORM = {"type": "json_schema", "json_schema": {"name": SECRET, "schema": BROKEN}}
#: Address, body, and whether it is answered.
REQUESTS: list[tuple[str, dict[str, Any], bool]] = [
    (CHAT, {"messages": SAID, "tools": TOOLS, "tool_choice": "required"}, True),
    (CHAT, {"messages": SAID, "tools": TOOLS, "tool_choice": f"{SECRET}s"}, False),
    (CHAT, {"messages": [{"role": "assistant", "tool_calls": [CALL]}]}, False),
    (CHAT, {"messages": SAID, "response_format": FORM}, False),
    (CHAT, {"messages": SAID, "guided_regex": f"{SECRET}("}, False),
    (CHAT, {"messages": SAID, "stop": [SECRET] * 20}, False),
    ("/v1/completions", {"prompt": SECRET, "echo": True, "logprobs": 1}, True),
    (RESPONSES, {"input": SECRET, "instructions": SECRET}, True),
    (RESPONSES, {"input": [{"type": SECRET}]}, False),
    (RESPONSES, {"input": SECRET, "previous_response_id": SECRET}, False),
    ("/tokenize", {"prompt": SECRET}, True),
    ("/tokenize", {"prompt": SECRET, "inputs": SECRET}, False),
    ("/v1/embeddings", {"input": SECRET}, False),
    ("/generate", {"inputs": SECRET, "parameters": {"details": True, "best_of": 2}}, True),
    (
        "/generate",
        {"inputs": SECRET, "parameters": {"grammar": {"type": "json", "value": BROKEN}}},
        False,
    ),
    ("/service_output", {"source": 1, "data": {"text": SECRET, "tools": TOOLS}}, True),
    ("/service_output", {"source": 1, "data": {"text": SECRET, "response_format": FORM}}, False),
]


async def test_no_text_of_a_request_is_logged(
    make_llm: MakeLLM, log_lines: Callable[[], list[dict[str, Any]]]
) -> None:
    app = await make_llm()
    client = app.test_client()
    for path, body, is_answered in REQUESTS:
        response = await client.post(path, data=json.dumps(body), headers=JSON)
        text = await response.get_data()
        assert (response.status_code == 200) == is_answered, (path, body, text)
        lines = [line for line in log_lines() if line["event"] == "request"]
        assert [line["path"] for line in lines] == [path]
        assert SECRET not in json.dumps(lines), (body, lines)
