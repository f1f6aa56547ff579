"""Writes vectors.json and requests.json beside itself: what infernet-ml 2.0.0 writes and reads.

Needs `pip install "infernet-ml[torch-inference]==2.0.0"`; not run by the tests. Values are kept as
the hex of their little-endian bytes, so that every bit of a float counts.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
from eth_abi.abi import encode
from infernet_ml.services.torch import TorchInferenceRequest
from infernet_ml.utils.codec.vector import ArithmeticType, DataType, RitualVector
from infernet_ml.utils.specs.ml_model_id import MlModelId

FOLDER = Path(__file__).parent
FLOATS = [0.1, -0.0, 1.5, -2.25, 41.0, -122.23]
EXTREME_FLOATS = ["inf", "-inf", "nan", 5e-324, -1.7976931348623157e308, 2.0**-1022]
SHAPES = [(), (0,), (0, 4), (1,), (2, 3), (1, 2, 1, 3)]
IEEE, FIXED = ArithmeticType.ieee, ArithmeticType.fixed_point


def as_hex(dtype: DataType, values: list) -> str:
    numpy_dtype = np.dtype(bool) if dtype is DataType.bool else np.dtype(dtype.np_type)
    return np.array(values, dtype=numpy_dtype).astype(numpy_dtype.newbyteorder("<")).tobytes().hex()


def read(encoded: bytes) -> dict:
    vector = RitualVector.from_web3(encoded)
    return {
        "encoded": encoded.hex(),
        "read_dtype": vector.dtype.value,
        "shape": list(vector.shape),
        "read": as_hex(vector.dtype, vector.values),
    }


def written(dtype: DataType, shape: tuple, values: list, arithmetic, decimals: int = 18) -> dict:
    vector = RitualVector(dtype=dtype, shape=shape, values=values)
    return {
        "dtype": dtype.value,
        "values": as_hex(dtype, values),
        "arithmetic": arithmetic.to_int_enum(),
        "decimals": decimals,
        **read(vector.to_web3(arithmetic, decimals)),
    }


def of_dtype(dtype: DataType, values: list) -> list:
    """Python values after a turn through the dtype."""
    return np.array(values, dtype=dtype.np_type).tolist()


def ieee_cases():
    for dtype in list(DataType)[:5]:
        yield written(dtype, (2, 3), of_dtype(dtype, FLOATS), IEEE)
    for dtype in (DataType.float64, DataType.float128, DataType.float256):
        yield written(dtype, (6,), [float(value) for value in EXTREME_FLOATS], IEEE)
    for dtype in list(DataType)[5:13]:
        limits = np.iinfo(dtype.np_type)
        yield written(dtype, (2, 2), [int(limits.min), int(limits.max), 0, 1], IEEE)
    for dtype in (DataType.complex64, DataType.complex128):
        yield written(dtype, (2,), of_dtype(dtype, [1.5 - 2j, complex("-0.0+infj")]), IEEE)
    yield written(DataType.bool, (3,), [True, False, True], IEEE)
    for shape in SHAPES:
        count = int(np.prod(shape))
        yield written(DataType.float32, shape, FLOATS[: count and 1] * count, IEEE, 6)


def fixed_point_cases():
    generator = random.Random(7)
    for dtype in list(DataType)[:5]:
        yield written(dtype, (2, 3), of_dtype(dtype, FLOATS), FIXED)
    for decimals in (1, 6, 18, 23, 30):
        bound = 10.0 ** (38 - decimals)
        values = [generator.uniform(-bound, bound) for _ in range(4)]
        values += [generator.uniform(-1, 1) * 10.0 ** generator.randint(-12, 6) for _ in range(4)]
        yield written(DataType.float64, (8,), values, FIXED, decimals)
    for dtype in list(DataType)[5:13]:
        limits = np.iinfo(dtype.np_type)
        yield written(dtype, (4,), [int(limits.min), int(limits.max), 0, 1], FIXED)
    yield written(DataType.float64, (), [8.3252], FIXED)
    yield written(DataType.float64, (0, 4), [], FIXED)


def read_only_cases():
    """Yield fixed point that RitualVector reads but does not write, as a contract may send it."""
    generator = random.Random(11)
    types = ["uint8", "uint8", "uint8", "uint16[]"]
    for dtype, bits in ((0, 16), (1, 32), (2, 64), (3, 128), (4, 256)):
        for decimals in (0, 6, 18, 40):
            values = [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0, 1, -1]
            values += [
                generator.getrandbits(generator.randint(1, bits - 1)) * generator.choice((1, -1))
                for _ in range(5)
            ]
            yield read(encode([*types, f"int{bits}[]"], [1, decimals, dtype, [10], values]))
    halves = (3 << 32) | (2**32 - 5)
    yield read(encode([*types, "uint64[]"], [1, 2, 13, [2], [halves, 2**64 - 1]]))
    halves = (10**18 << 64) | (2**64 - 10**17)
    yield read(encode([*types, "uint128[]"], [1, 18, 14, [2], [halves, 2**128 - 1]]))
    yield read(encode([*types, "int8[]"], [1, 18, 5, [2], [-128, 7]]))
    yield read(encode([*types, "bool[]"], [1, 18, 15, [2], [True, False]]))


def requests():
    vector = RitualVector(dtype=DataType.float32, shape=(1, 2), values=[1.5, -2.0])
    for model_id in (None, "huggingface/Ritual-Net/iris-classification:iris.torch"):
        for arithmetic, decimals in ((None, None), (FIXED, None), (IEEE, 6), (None, 6)):
            request = TorchInferenceRequest(
                model_id=model_id,
                input=vector,
                output_arithmetic=arithmetic,
                output_num_decimals=decimals,
            )
            yield {
                "model_id": model_id or "",
                "output_arithmetic": arithmetic and arithmetic.to_int_enum(),
                "output_decimals": decimals,
                "encoded": request.to_web3().hex(),
            }


def model_ids():
    for model_id in (
        "local/me/iris",
        "arweave/owner/name/1.0.2",
        "huggingface/Ritual-Net/iris-classification:iris.torch",
        "huggingface/Ritual-Net/split-model/main:a.onnx,b.onnx",
    ):
        yield {"model_id": model_id, "encoded": MlModelId.from_unique_id(model_id).to_web3.hex()}


def save(name: str, **content) -> None:
    lists = (
        f"{json.dumps(key)}: [\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]"
        for key, cases in content.items()
    )
    (FOLDER / name).write_text("{" + ",\n".join(lists) + "}\n")


if __name__ == "__main__":
    both_ways = [*ieee_cases(), *fixed_point_cases()]
    save("vectors.json", both_ways=both_ways, read_only=list(read_only_cases()))
    save("requests.json", requests=list(requests()), model_ids=list(model_ids()))
