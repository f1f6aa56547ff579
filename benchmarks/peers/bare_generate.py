"""`model.generate` behind a lock, streamed: no keys, no validation, no metrics, no batching.

Under the same hypercorn, uvloop and settings as `serve` with one worker. Answers the messages of
the language model service.

    python benchmarks/peers/bare_generate.py PORT MODEL_FOLDER
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import orjson
import torch
import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, Response, request
from transformers import AsyncTextIteratorStreamer, AutoModelForCausalLM, AutoTokenizer

app = Quart(__name__)
app.config["RESPONSE_TIMEOUT"] = None
port, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
tokenizer: Any = AutoTokenizer.from_pretrained(folder)
model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
one_at_a_time = asyncio.Lock()


@app.post("/service_output")
async def service_output() -> Response:
    data = orjson.loads(await request.get_data())["data"]
    return Response(pieces(data["text"], data["max_new_tokens"]), content_type="text/plain")


async def pieces(text: str, max_new_tokens: int) -> AsyncIterator[str]:
    messages = [{"role": "user", "content": text}]
    inputs = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    async with one_at_a_time:
        streamer = AsyncTextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
        options = {"max_new_tokens": max_new_tokens, "do_sample": False, "streamer": streamer}
        work = asyncio.create_task(asyncio.to_thread(model.generate, **inputs, **options))
        async for piece in streamer:
            if piece:
                yield piece
        await work


def main() -> None:
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.keep_alive_timeout = 75
    config.backlog = 2048
    config.include_server_header = False
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(app, config))


if __name__ == "__main__":
    main()
