"""Public values among the instances, by the settings of a circuit."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ezkl_patches import FIELD_ORDER, DataMismatch, InstanceLayout, dequantize, quantize

HASHED = {"Hashed": {"hash_is_public": True, "outlets": []}}
#: The iris model: 4 numbers to 3, outputs at another scale than inputs.
SHAPES = [[1, 4], [1, 3]]
VALUES = [[5.5, -3.5, 1.25, 0.0], [0.5, -0.25, 7.0]]


def settings(input_: Any, param: Any, output: Any) -> dict[str, Any]:
    public = [shape for shape, v in zip(SHAPES, (input_, output), strict=True) if v == "Public"]
    return {
        "run_args": {
            "input_visibility": input_,
            "param_visibility": param,
            "output_visibility": output,
        },
        "model_instance_shapes": public,
        "model_input_scales": [13],
        "model_output_scales": [26],
    }


def element(value: float, scale: int) -> int:
    return round(value * 2**scale) % FIELD_ORDER


INPUTS = [element(value, 13) for value in VALUES[0]]
OUTPUTS = [element(value, 26) for value in VALUES[1]]
H_IN, H_PARAM, H_OUT = 101, 102, 103


@pytest.mark.parametrize(
    ("visibilities", "instances"),
    [
        (("Public", "Fixed", "Public"), [*INPUTS, *OUTPUTS]),
        (("Public", "Private", "Public"), [*INPUTS, *OUTPUTS]),
        (("Private", "Fixed", "Public"), OUTPUTS),
        (("Public", "Fixed", "Private"), INPUTS),
        (("Private", "Fixed", "Private"), []),
        ((HASHED, "Fixed", "Public"), [H_IN, *OUTPUTS]),
        (("Public", "Fixed", HASHED), [*INPUTS, H_OUT]),
        ((HASHED, HASHED, HASHED), [H_IN, H_PARAM, H_OUT]),
        (("Public", HASHED, "Public"), [H_PARAM, *INPUTS, *OUTPUTS]),
        (("KZGCommit", "Fixed", "Public"), OUTPUTS),
    ],
)
def test_each_visibility_has_its_place(visibilities: Any, instances: list[int]) -> None:
    layout = InstanceLayout.from_settings(settings(*visibilities))
    input_, param, output = visibilities
    assert layout.total == len(instances)
    values = layout.decode(instances)
    assert values.inputs == ((tuple(VALUES[0]),) if input_ == "Public" else ())
    assert values.outputs == ((tuple(VALUES[1]),) if output == "Public" else ())
    assert values.input_hashes == ((H_IN,) if input_ == HASHED else ())
    assert values.parameter_hash == (H_PARAM if param == HASHED else None)
    assert values.output_hashes == ((H_OUT,) if output == HASHED else ())


def test_several_tensors_follow_each_other_with_a_hash_each() -> None:
    several = settings("Public", "Fixed", HASHED) | {
        "model_instance_shapes": [[2], [1, 1]],
        "model_input_scales": [13, 0],
        "model_output_scales": [13, 14],
    }
    layout = InstanceLayout.from_settings(several)
    values = layout.decode([2**13, 2**12, 7, 1001, 1002])
    assert (values.inputs, values.output_hashes) == (((1.0, 0.5), (7.0,)), (1001, 1002))
    assert (layout.input_offset, layout.output_offset) == (0, 5)


@pytest.mark.parametrize(
    "changes",
    [
        {"run_args": {}},
        {"model_input_scales": None},
        {"model_instance_shapes": [[1, 4]]},
        {"run_args": {f"{name}_visibility": "Open" for name in ("input", "param", "output")}},
        {
            "run_args": settings("Public", "Fixed", "Public")["run_args"]
            | {"input_visibility": {"Hashed": {"hash_is_public": False, "outlets": [0]}}}
        },
    ],
)
def test_settings_that_say_something_unknown_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"settings|visibility|shape"):
        InstanceLayout.from_settings(settings("Public", "Fixed", "Public") | changes)


# --- claimed data -----------------------------------------------------------------------------

LAYOUT = InstanceLayout.from_settings(settings("Public", "Fixed", "Public"))
INSTANCES = [*INPUTS, *OUTPUTS]


def test_claimed_data_that_the_proof_speaks_of_passes() -> None:
    LAYOUT.check_inputs(INSTANCES, [VALUES[0]])
    LAYOUT.check_outputs(INSTANCES, [VALUES[1]])


def test_claimed_data_that_differs_is_named() -> None:
    with pytest.raises(DataMismatch, match=r"input 0, value 2: claimed 1.26, the proof says 1.25"):
        LAYOUT.check_inputs(INSTANCES, [[5.5, -3.5, 1.26, 0.0]])
    with pytest.raises(DataMismatch, match="output 0, value 1"):
        LAYOUT.check_outputs(INSTANCES, [[0.5, -0.24, 7.0]])


@pytest.mark.parametrize("quanta", [1, 3])
def test_a_tolerance_is_counted_in_quanta(quanta: int) -> None:
    claimed = [[5.5 + quanta / 2**13, *VALUES[0][1:]]]
    LAYOUT.check_inputs(INSTANCES, claimed, tolerance_quanta=quanta)
    with pytest.raises(DataMismatch):
        LAYOUT.check_inputs(INSTANCES, claimed, tolerance_quanta=quanta - 1)


@pytest.mark.parametrize("claimed", [[], [[1.0]], [VALUES[0], VALUES[0]]])
def test_claimed_data_of_another_size_is_refused(claimed: Any) -> None:
    with pytest.raises(DataMismatch, match="given"):
        LAYOUT.check_inputs(INSTANCES, claimed)


def test_another_number_of_instances_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 7 instances; given 6"):
        LAYOUT.decode(INSTANCES[:-1])


# --- numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "quantum"),
    [(0.5, 1), (-0.5, -1), (0.49999, 0), (1.5, 2), (-1.5, -2), (2.5, 3), (0.0, 0), (-0.0, 0)],
)
def test_halves_are_rounded_away_from_zero(value: float, quantum: int) -> None:
    assert quantize(value, 0) == quantum


@given(st.floats(-1e12, 1e12), st.integers(0, 30))
def test_a_number_comes_back_to_half_a_quantum(value: float, scale: int) -> None:
    element = quantize(value, scale) % FIELD_ORDER
    exact = Fraction(quantize(value, scale), 2**scale)
    assert abs(exact - Fraction(value)) <= Fraction(1, 2 ** (scale + 1))
    assert dequantize(element, scale) == float(exact)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_not_quantized(value: float) -> None:
    with pytest.raises(ValueError, match="no finite number"):
        quantize(value, 13)


def test_a_float32_is_rounded_before() -> None:
    """Where the model takes float32, the number as JSON has it can be off by quanta."""
    value = 4321.987
    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    assert quantize(value, 13) != quantize(rounded, 13)
