"""Times ABI tensors: infernet-ml 2.0.0's RitualVector against ours, one after the other.

    python benchmarks/codecs.py [repetitions]

Each line is one of both ways of a float64 tensor, as JSON; times are the medians of each of
some rounds, in milliseconds. Both sides start from the numpy array and end with one. Every answer
is compared before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ml.infernet.vector import Arithmetic, decode_vector, encode_vector

PARSER = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
PARSER.add_argument("repetitions", type=int, nargs="?", default=5)
OPTIONS = PARSER.parse_args()  # before the peer is looked for

try:
    from infernet_ml.utils.codec.vector import ArithmeticType, RitualVector
except ImportError as error:
    sys.exit(
        f"The peer cannot be imported ({error}). Install it beside this package:\n"
        '    pip install "infernet-ml[torch-inference]==2.0.0"'
    )

ROUNDS = 3
SHAPES = [(100, 1000), (1, 69)]  # one dimension holds at most 65535 values


def median_milliseconds(
    peer: Callable[[], Any], ours: Callable[[], Any], repetitions: int
) -> tuple[float, float]:
    """Run both in turn, so that a busy machine slows both."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repetitions):
        for function, taken in zip((peer, ours), times, strict=True):
            start = time.perf_counter()
            function()
            taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[0]), statistics.median(times[1])


def report(title: str, peer: Callable[[], Any], ours: Callable[[], Any], repetitions: int) -> None:
    rounds = [median_milliseconds(peer, ours, repetitions) for _ in range(ROUNDS)]
    theirs, own = zip(*rounds, strict=True)
    print(json.dumps({"title": title, "peer": theirs, "ours": own}), flush=True)


def compare(values: np.ndarray, arithmetic: Arithmetic, repetitions: int) -> None:
    peer_arithmetic = ArithmeticType(arithmetic.name.lower())

    def peer_encode() -> Any:
        return RitualVector.from_numpy(values).to_web3(peer_arithmetic)

    def our_encode() -> bytes:
        return encode_vector(values, arithmetic=arithmetic)

    data = our_encode()
    assert data == peer_encode(), "the two sides write different bytes"
    assert np.array_equal(decode_vector(data).values, RitualVector.from_web3(data).numpy)

    title = f"{arithmetic.name.lower()}, {values.size} values"
    report(f"{title}: encode", peer_encode, our_encode, repetitions)
    report(
        f"{title}: decode",
        lambda: RitualVector.from_web3(data).numpy,
        lambda: decode_vector(data).values,
        repetitions,
    )


def main() -> None:
    repetitions = OPTIONS.repetitions
    generator = np.random.default_rng(0)
    for shape in SHAPES:
        values = generator.standard_normal(shape) * 100
        for arithmetic in Arithmetic:
            # Small tensors need more turns for a stable median.
            compare(values, arithmetic, repetitions * (1 if values.size > 1000 else 20))


if __name__ == "__main__":
    main()
