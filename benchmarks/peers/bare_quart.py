"""A bare Quart handler: no validation, no keys, no metrics, no ids; the model runs in the handler.

Under the same hypercorn, uvloop and settings as `serve` with one worker.

    python benchmarks/peers/bare_quart.py PORT
"""

import asyncio
import sys

import numpy as np
import orjson
import torch
import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, Response, request
from torch import nn

app = Quart(__name__)
model = nn.Sequential(nn.Linear(69, 64), nn.ReLU(), nn.Linear(64, 2), nn.Softmax(-1)).double()


@app.post("/service_output")
async def service_output() -> Response:
    values = orjson.loads(await request.get_data())["data"]["values"]
    with torch.inference_mode():
        output = model(torch.from_numpy(np.array(values, np.float64)))
    reply = {"dtype": "double", "shape": list(output.shape), "values": output.tolist()}
    return Response(orjson.dumps(reply), content_type="application/json")


def main(port: int) -> None:
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.keep_alive_timeout = 75
    config.backlog = 2048
    config.include_server_header = False
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(app, config))


if __name__ == "__main__":
    main(int(sys.argv[1]))
