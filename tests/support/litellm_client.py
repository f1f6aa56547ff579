"""Asks a service with litellm, in a process of its own: litellm leaves an event loop behind.

    python -m tests.support.litellm_client URL KEY MODEL

prints what it learned as JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main(url: str, key: str, model: str) -> dict[str, Any]:
    import litellm

    here = {"model": f"openai/{model}", "api_base": url, "api_key": key}
    question = [{"role": "user", "content": "What is the capital of France?"}]
    function = {
        "name": "look",
        "parameters": {"type": "object", "properties": {"far": {"type": "boolean"}}},
    }
    tools = [{"type": "function", "function": function}]
    called = litellm.completion(messages=question, tools=tools, tool_choice="required", **here)
    streamed = litellm.completion(messages=question, stream=True, **here)
    long = [{"role": "user", "content": "word " * 3000}]
    try:
        litellm.completion(messages=long, **here)
        refusal = "none"
    except litellm.ContextWindowExceededError:
        refusal = "ContextWindowExceededError"
    router = litellm.Router(
        model_list=[
            {"model_name": "small", "litellm_params": here},
            {
                "model_name": "large",
                "litellm_params": {"model": "openai/large", "mock_response": "from the large one"},
            },
        ],
        context_window_fallbacks=[{"small": ["large"]}],
        num_retries=0,
    )
    return {
        "answer": litellm.completion(messages=question, **here).choices[0].message.content,
        "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in streamed),
        "arguments": called.choices[0].message.tool_calls[0].function.arguments,
        "refusal": refusal,
        "fallback": router.completion(model="small", messages=long).choices[0].message.content,
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))  # noqa: T201
