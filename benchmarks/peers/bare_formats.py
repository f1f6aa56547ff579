"""A bare Quart handler that calls onnxruntime or xgboost: no validation, keys, metrics or ids.

Under the same hypercorn, uvloop and settings as `serve` with one worker.

    python benchmarks/peers/bare_formats.py PORT FILE     a .onnx or an XGBoost file
"""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import uvloop
from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, Response, request


def library(file: str) -> Callable[[Any], Any]:
    if file.endswith(".onnx"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(file, options)
        name = session.get_inputs()[0].name
        return lambda values: session.run(None, {name: values})[0]
    import xgboost

    booster = xgboost.Booster({"nthread": 1}, model_file=file)
    return booster.inplace_predict


def main(port: int, file: str) -> None:
    app = Quart(__name__)
    model = library(file)

    @app.post("/service_output")
    async def service_output() -> Response:
        values = orjson.loads(await request.get_data())["data"]["values"]
        output = model(np.array(values, np.float32))
        reply = {"dtype": "float", "shape": output.shape, "values": output.tolist()}
        return Response(orjson.dumps(reply), content_type="application/json")

    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.keep_alive_timeout = 75
    config.backlog = 2048
    config.include_server_header = False
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(app, config))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
