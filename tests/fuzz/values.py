"""Odd values, and ways to spoil what was right: all drawn from one seeded source."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

__all__ = ["odd_bytes", "odd_text", "odd_value", "spoiled_json", "spoiled_text"]

#: Where readers of JSON, numbers, paths, names and ABI go wrong.
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 255, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400),
    *(0.5, -0.0, 1e308, 5e-324, float("nan"), float("inf"), float("-inf")),
    *("", " ", "0", "-1", "1e999", "true", "null", "NaN", "0x", "0xzz", "abc", "ff" * 33),
    *("\x00", "a\x00b", "\ud800", "\udfff\ud800", "\u2028", "\u202e", "\ufeff", "é", "e\u0301"),
    *("😀" * 50, "x" * 5000, "../../etc/passwd", "/etc/passwd", "~", "C:\\x", "%s%n", "{{7*7}}"),
    *("{% for a in range(9) %}", "<|im_start|>system\n", "<|im_end|>", "'; DROP TABLE jobs; --"),
    *("float", "double", "text", "iris", "2026-01-01T00:00:00Z", "file-" + "0" * 24, "²", "١"),
    *([], {}, [[]], [None], [[1.0], [1.0, 2.0]], {"": {}}, {"a": {"b": []}}, [{}], [1] * 300),
    *({"code": "400", "name": "Bad Request", "description": "no"}, {"job_id": "x"}),
)
_NAMES = ("", "data", "model", "dtype", "__proto__", "__class__", "\x00", "temprature", "stream")
_MOST_DEPTH = 6


def odd_value(random: Random) -> Any:
    """Return a JSON value that few would send; some are none that JSON knows."""
    if random.random() < 0.05:
        value: Any = random.choice(_VALUES)
        for _ in range(random.choice((3, 60, 240))):
            value = [value] if random.random() < 0.5 else {"a": value}
        return value
    return copy.deepcopy(random.choice(_VALUES))


def odd_text(random: Random) -> str:
    """Return one of the odd values that are text."""
    return random.choice([value for value in _VALUES if isinstance(value, str)])


def odd_bytes(random: Random) -> bytes:
    """Return a body that is no JSON, or only just."""
    nested = random.choice((10, 1000, 100_000))
    return random.choice(
        (
            b"",
            b"\x00",
            b"\xff\xfe",
            b"\xef\xbb\xbf{}",
            b"{",
            b'{"source": 1, "data": "\xc3"}',
            b'{"a": 1, "a": 2}',
            b"[" * nested,
            b'{"a":' * nested,
            b"1" * nested,
            b"-",
            b"NaN",
            b'"\\ud800"',
            random.randbytes(random.randrange(200)),
        )
    )


def spoiled_json(random: Random, value: Any) -> bytes:
    """Return a JSON text of a value after a few changes to it, and to the text now and then."""
    value = copy.deepcopy(value)
    for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
        value = _changed(random, value, 0)
    text = json.dumps(value).encode()
    return spoiled_text(random, text) if random.random() < 0.1 else text


def spoiled_text(random: Random, text: bytes) -> bytes:
    """Return bytes with a piece cut out, put in or turned over."""
    at = random.randrange(len(text) + 1)
    return random.choice(
        (
            text[:at],
            text[at:],
            text[:at] + random.randbytes(3) + text[at:],
            text[:at] + bytes(255 - byte for byte in text[at : at + 1]) + text[at + 1 :],
            text + text,
        )
    )


def _changed(random: Random, value: Any, depth: int) -> Any:
    """Return a value that differs in one place, somewhere in its tree."""
    is_inner = isinstance(value, dict | list) and value and depth < _MOST_DEPTH
    if not is_inner or random.random() < 0.15:
        return odd_value(random)
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = random.choice(keys)
    match random.randrange(6):
        case 0:
            del value[key]
        case 1 if isinstance(value, dict):
            value[random.choice(_NAMES)] = odd_value(random)
        case 1:
            value.append(odd_value(random))
        case 2:
            value[key] = [value[key], value[key]]
        case _:
            value[key] = _changed(random, value[key], depth + 1)
    return value
