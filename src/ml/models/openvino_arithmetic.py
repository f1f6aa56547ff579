"""How OpenVINO computes on a CPU, for all that runs with it."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["SAME_ON_EVERY_CPU"]

#: By itself the library computes as each CPU is quickest, in bfloat16 or in 8 bits: with a small
#: model that gives another answer on each, and with AMX a wrong one.
SAME_ON_EVERY_CPU: Mapping[str, str | int] = {
    "INFERENCE_PRECISION_HINT": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
}
