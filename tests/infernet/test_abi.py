"""The ABI codecs against infernet-ml's own data, against eth_abi, and against hostile bytes."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eth_abi import abi
from eth_abi.exceptions import DecodingError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ml.errors import InvalidInput, UnprocessableOutput
from ml.infernet.legacy import decode_legacy, encode_legacy, is_legacy
from ml.infernet.model_id import decode_model_id, encode_model_id
from ml.infernet.tensor_request import TensorRequest, decode_torch_input
from ml.infernet.text import decode_text, decode_texts, encode_text
from ml.infernet.vector import Arithmetic, DataType, Vector, decode_vector, encode_vector

GOLDEN = Path(__file__).parent / "golden"
VECTORS = json.loads((GOLDEN / "vectors.json").read_text())
REQUESTS = json.loads((GOLDEN / "requests.json").read_text())

VECTOR_HEAD = ["uint8", "uint8", "uint8", "uint16[]"]
SIGNED = {dtype: 2 ** (4 + dtype) for dtype in DataType if dtype <= DataType.FLOAT256}
SIGNED |= {dtype: 2 ** (dtype - 2) for dtype in DataType if 5 <= dtype <= DataType.INT64}
UNSIGNED = {dtype: 2 ** (dtype - 6) for dtype in DataType if 9 <= dtype <= DataType.UINT64}
UNSIGNED |= {DataType.COMPLEX64: 64, DataType.COMPLEX128: 128}
ABI_TYPES = {dtype: f"int{bits}" for dtype, bits in SIGNED.items()}
ABI_TYPES |= {dtype: f"uint{bits}" for dtype, bits in UNSIGNED.items()}
ABI_TYPES |= {DataType.BOOL: "bool"}
MODEL_ID = "huggingface/Ritual-Net/iris-classification:iris.torch"


def words(*numbers: int) -> bytes:
    return b"".join((number % 2**256).to_bytes(32, "big") for number in numbers)


def golden_values(case: dict[str, Any], dtype_key: str, values_key: str) -> np.ndarray:
    dtype = DataType(case[dtype_key]).numpy_dtype
    values = np.frombuffer(bytes.fromhex(case[values_key]), dtype.newbyteorder("<"))
    return values.astype(dtype).reshape(case["shape"])


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    return (left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes())


@st.composite
def any_tensor(draw: st.DrawFn) -> Any:
    """A dtype and an array of any bit patterns of it: NaN payloads, subnormals, integer limits."""
    dtype = draw(st.sampled_from(DataType))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    count = math.prod(shape)
    if dtype is DataType.BOOL:
        return dtype, draw(hnp.arrays(np.bool_, shape))
    usual = hnp.arrays(dtype.numpy_dtype, shape)
    size = count * dtype.numpy_dtype.itemsize
    bits = st.binary(min_size=size, max_size=size).map(
        lambda raw: np.frombuffer(raw, dtype.numpy_dtype).reshape(shape)
    )
    return dtype, draw(usual | bits)


# --- text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_is_written_as_eth_abi_writes_it_and_comes_back(text: str) -> None:
    assert encode_text(text) == abi.encode(["string"], [text])
    assert decode_text(encode_text(text)) == text


def test_text_that_utf_8_cannot_express_is_refused() -> None:
    with pytest.raises(UnprocessableOutput, match="UTF-8"):
        encode_text("\ud800")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "too short"),
        (words(32), "outside"),
        (words(0, 0), "outside"),
        (words(2**255, 0), "outside"),
        (words(32, 2**200), "length"),
        (words(32, 1) + b"a", "length"),
        (words(32, 1) + b"a".ljust(31, b"\0") + b"!", "padding"),
        (words(32, 2) + b"\xff\xfe".ljust(32, b"\0"), "UTF-8"),
    ],
)
def test_bytes_that_are_no_abi_text_are_refused_with_the_reason(data: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        decode_text(data)


# --- tensors: golden data


@pytest.mark.parametrize("case", VECTORS["both_ways"])
def test_tensors_are_written_byte_for_byte_as_infernet_ml_writes_them(case: dict[str, Any]) -> None:
    encoded = encode_vector(
        golden_values(case, "dtype", "values"),
        dtype=DataType(case["dtype"]),
        arithmetic=Arithmetic(case["arithmetic"]),
        decimals=case["decimals"],
    )
    assert encoded.hex() == case["encoded"]


@pytest.mark.parametrize("case", [*VECTORS["both_ways"], *VECTORS["read_only"]])
def test_tensors_are_read_bit_for_bit_as_infernet_ml_reads_them(case: dict[str, Any]) -> None:
    vector = decode_vector(bytes.fromhex(case["encoded"]))
    assert vector.dtype == case["read_dtype"]
    assert same_bits(vector.values, golden_values(case, "read_dtype", "read"))


# --- tensors: IEEE arithmetic


@given(any_tensor())
def test_every_dtype_comes_back_bit_for_bit_with_ieee_arithmetic(tensor: Any) -> None:
    dtype, values = tensor
    vector = decode_vector(encode_vector(values, dtype=dtype, decimals=6))
    assert same_bits(vector.values, values)
    assert (vector.dtype, vector.arithmetic, vector.decimals) == (dtype, Arithmetic.IEEE, 6)


@given(any_tensor())
def test_tensors_are_written_as_eth_abi_writes_their_integers(tensor: Any) -> None:
    dtype, values = tensor
    raw, size = values.astype(values.dtype.newbyteorder(">")).tobytes(), values.itemsize
    integers = [
        int.from_bytes(raw[start : start + size], "big", signed=dtype in SIGNED)
        for start in range(0, len(raw), size)
    ]
    items: list[int] = [bool(value) for value in integers] if dtype is DataType.BOOL else integers
    expected = abi.encode(
        [*VECTOR_HEAD, f"{ABI_TYPES[dtype]}[]"], [0, 18, dtype, values.shape, items]
    )
    assert encode_vector(values, dtype=dtype) == expected


@given(any_tensor())
def test_the_dtype_of_the_array_is_the_default(tensor: Any) -> None:
    dtype, values = tensor
    held = DataType.FLOAT64 if dtype in (DataType.FLOAT128, DataType.FLOAT256) else dtype
    assert decode_vector(encode_vector(values)).dtype is held


def test_memory_order_and_byte_order_do_not_change_the_bytes() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    expected = encode_vector(values)
    assert encode_vector(np.asfortranarray(values)) == expected
    assert encode_vector(values.astype(">f4")) == expected
    assert encode_vector(np.repeat(values, 2, axis=1)[:, ::2]) == expected


def test_plain_lists_and_numbers_are_tensors() -> None:
    assert decode_vector(encode_vector(2.5)).values.shape == ()
    assert decode_vector(encode_vector([[True], [False]])).dtype is DataType.BOOL


def test_a_given_dtype_converts_within_its_kind_or_to_a_wider_one() -> None:
    vector = decode_vector(encode_vector([0.1, np.nan], dtype=DataType.FLOAT32))
    assert same_bits(vector.values, np.array([0.1, np.nan], np.float32))
    assert decode_vector(encode_vector([1, 2], dtype=DataType.FLOAT256)).dtype is DataType.FLOAT256


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        ([1e300], DataType.FLOAT32, "does not fit float32"),
        ([300], DataType.INT8, "does not fit int8"),
        ([1.5], DataType.INT8, "cannot be sent as int8"),
        ([1j], DataType.FLOAT64, "cannot be sent as float64"),
        (["a"], None, "cannot be sent"),
        ([2**70], None, "cannot be sent"),
        ([[1], [1, 2]], None, "do not form a tensor"),
        (np.zeros((0, 65536)), None, "shape"),
    ],
)
def test_values_that_the_form_cannot_hold_are_refused(
    values: Any, dtype: DataType | None, message: str
) -> None:
    with pytest.raises(UnprocessableOutput, match=message):
        encode_vector(values, dtype=dtype)


@pytest.mark.parametrize("decimals", [-1, 256])
def test_decimals_beyond_a_uint8_are_refused(decimals: int) -> None:
    with pytest.raises(UnprocessableOutput, match="decimals"):
        encode_vector([1.0], decimals=decimals)


# --- tensors: fixed point


def fixed(values: Any, decimals: int = 18) -> bytes:
    return encode_vector(values, arithmetic=Arithmetic.FIXED_POINT, decimals=decimals)


def fixed_message(dtype: DataType, integers: list[int], decimals: int) -> bytes:
    types = [*VECTOR_HEAD, f"{ABI_TYPES[dtype]}[]"]
    return abi.encode(types, [1, decimals, dtype, [len(integers)], integers])


@given(st.lists(st.floats(-1.7e20, 1.7e20)))
def test_floats_are_scaled_in_float64_and_truncated(values: list[float]) -> None:
    integers = [int(value * 10**18) for value in values]
    assert fixed(np.array(values)) == fixed_message(DataType.FLOAT128, integers, 18)


@given(st.lists(st.integers(-(2**63), 2**63 - 1)), st.integers(0, 19))
def test_integers_are_scaled_exactly(values: list[int], decimals: int) -> None:
    expected = fixed_message(
        DataType.FLOAT128, [value * 10**decimals for value in values], decimals
    )
    assert fixed(np.array(values, np.int64), decimals) == expected


@given(st.lists(st.integers(0, 2**64 - 1)), st.integers(0, 18))
def test_unsigned_integers_are_scaled_exactly(values: list[int], decimals: int) -> None:
    expected = fixed_message(
        DataType.FLOAT128, [value * 10**decimals for value in values], decimals
    )
    assert fixed(np.array(values, np.uint64), decimals) == expected


@given(
    st.sampled_from([DataType.FLOAT64, DataType.FLOAT128, DataType.FLOAT256]),
    st.integers(0, 255),
    st.data(),
)
def test_fixed_point_is_read_with_one_correct_rounding(
    dtype: DataType, decimals: int, data: st.DataObject
) -> None:
    bits = int(ABI_TYPES[dtype].removeprefix("int"))
    numbers = st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    integers = data.draw(st.lists(numbers))
    vector = decode_vector(fixed_message(dtype, integers, decimals))
    assert vector.values.tolist() == [float(Fraction(i, 10**decimals)) for i in integers]


def test_in_many_values_each_is_rounded_by_itself_and_the_last_is_checked_as_the_first() -> None:
    integers = [*range(-2500, 2500), 10**30 + 1, -(2**127), 2**127 - 1]
    vector = decode_vector(fixed_message(DataType.FLOAT128, integers, 18))
    assert vector.values.tolist() == [integer / 10**18 for integer in integers]
    with pytest.raises(InvalidInput, match=r"values: .*int128"):
        decode_vector(fixed_message(DataType.FLOAT128, integers, 18)[:-32] + words(2**127))


@given(st.integers(2**52, 2**53 - 1), st.integers(0, 73))
def test_an_integer_halfway_between_two_floats_is_rounded_to_even(odd: int, shift: int) -> None:
    integers = [(2 * odd + 1) << shift, -(2 * odd + 1) << shift, ((2 * odd + 1) << shift) + 1]
    vector = decode_vector(fixed_message(DataType.FLOAT128, integers, 0))
    assert vector.values.tolist() == [float(integer) for integer in integers]


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=4, max_side=4, min_side=0)))
def test_fixed_point_comes_back_within_one_unit_of_its_last_place(values: np.ndarray) -> None:
    values = np.clip(np.nan_to_num(values), -1e6, 1e6)
    vector = decode_vector(fixed(values))
    assert (vector.dtype, vector.arithmetic) == (DataType.FLOAT128, Arithmetic.FIXED_POINT)
    assert vector.values.shape == values.shape
    np.testing.assert_allclose(vector.values, values, rtol=2.0**-52, atol=1e-18)


def test_zero_decimals_are_honoured() -> None:
    assert decode_vector(fixed([2.9, -2.9], 0)).values.tolist() == [2.0, -2.0]


@pytest.mark.parametrize("values", [[2.0**127], [-(2.0**127)], [0, 2**63 - 1]])
def test_the_limits_of_int128_hold(values: list[float]) -> None:
    largest = np.nextafter(2.0**127, 0)
    assert decode_vector(fixed([largest, -(2.0**127)], 0)).values.tolist() == [largest, -(2.0**127)]
    with pytest.raises(UnprocessableOutput, match="int128 fixed point with 20 decimals"):
        fixed(values, 20)


@pytest.mark.parametrize("decimals", [18, 255])
def test_nothing_but_zero_fits_every_number_of_decimals(decimals: int) -> None:
    assert decode_vector(fixed([0.0], decimals)).values.tolist() == [0.0]
    assert decode_vector(fixed([0], decimals)).values.tolist() == [0.0]
    with pytest.raises(UnprocessableOutput, match="int128"):
        fixed([1e300], decimals)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_have_no_fixed_point(value: float) -> None:
    with pytest.raises(UnprocessableOutput, match="NaN and infinity"):
        fixed([0.0, value])


def test_complex_values_have_no_fixed_point() -> None:
    with pytest.raises(UnprocessableOutput, match="Complex"):
        fixed([1j])


# --- tensors: what is refused


def vector_message(
    *, arithmetic: int = 0, decimals: int = 18, dtype: int = 7, shape: Any = (2,), tail: bytes = b""
) -> bytes:
    values_offset = 32 * (6 + len(shape))
    head = words(arithmetic, decimals, dtype, 160, values_offset)
    return head + words(len(shape), *shape) + (tail or words(2, 5, -6))


def test_the_message_that_the_refused_ones_vary_is_itself_read() -> None:
    assert decode_vector(vector_message()).values.tolist() == [5, -6]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "arithmetic: .*too short"),
        (vector_message(arithmetic=2), "arithmetic: 2 is not one of 0 ieee, 1 fixed_point"),
        (vector_message(arithmetic=256), "arithmetic: .*uint8"),
        (vector_message(decimals=2**255), "decimals: .*uint8"),
        (vector_message(dtype=16), "dtype: 16 is not one of 0 float16"),
        (vector_message(shape=(3,)), r"shape: \[3\] does not hold the 2 values"),
        (vector_message(shape=()), r"shape: \[\] does not hold the 2 values"),
        (vector_message(shape=(65536,)), "shape: .*uint16"),
        (vector_message(shape=[1] * 65), "shape: it has 65 dimensions"),
        (vector_message(shape=[0] + [65535] * 9, tail=words(0)), "shape: .*too large"),
        (vector_message(tail=words(3, 5, 6)), "values: .*length"),
        (vector_message(tail=words(2**250, 5, 6)), "values: .*length"),
        (vector_message(tail=words(2, 5, 2**31)), "values: .*int32"),
        (vector_message(tail=words(2, 5, 2**32 - 6)), "values: .*int32"),
        (vector_message(tail=words(2, 5, 2**200)), "values: .*int32"),
        (vector_message(dtype=9, tail=words(2, 5, 256)), "values: .*uint8"),
        (vector_message(dtype=15, tail=words(2, 0, 2)), "values: "),
        (vector_message(dtype=14, tail=words(2, 0, -1)), "values: .*uint128"),
        (vector_message(dtype=3, tail=words(2, 0, 2**63)), "values: .*int64"),
        (vector_message(dtype=3, arithmetic=1, tail=words(2, 0, 2**127)), "values: .*int128"),
        (words(0, 18, 2, 128, 128, 0, 0), "shape: .*outside"),
        (words(0, 18, 2, 2**256 - 32, 160, 0, 0), "shape: .*outside"),
    ],
)
def test_a_malformed_tensor_is_refused_naming_the_field(data: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        decode_vector(data)


# --- tensor requests


@pytest.mark.parametrize("case", REQUESTS["requests"])
def test_tensor_requests_of_infernet_ml_are_understood(case: dict[str, Any]) -> None:
    request = TensorRequest.decode(bytes.fromhex(case["encoded"]))
    assert request.model_id == case["model_id"]
    assert request.output_arithmetic == case["output_arithmetic"]
    assert request.output_decimals == case["output_decimals"]
    assert same_bits(request.vector.values, np.array([[1.5, -2.0]], np.float32))


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in REQUESTS["requests"]
        if case["output_arithmetic"] is not None or case["output_decimals"] is None
    ],
)
def test_tensor_requests_are_written_as_infernet_ml_writes_them(case: dict[str, Any]) -> None:
    arithmetic = case["output_arithmetic"]
    request = TensorRequest(
        Vector(np.array([[1.5, -2.0]], np.float32), DataType.FLOAT32),
        case["model_id"],
        None if arithmetic is None else Arithmetic(arithmetic),
        case["output_decimals"],
    )
    assert request.encode().hex() == case["encoded"]


@pytest.mark.parametrize(
    ("arithmetic", "decimals", "message"),
    [(None, 6, "need an output_arithmetic"), (Arithmetic.IEEE, 256, "0 to 255")],
)
def test_output_options_that_the_form_cannot_hold_are_refused(
    arithmetic: Arithmetic | None, decimals: int, message: str
) -> None:
    vector = Vector(np.zeros(1), DataType.FLOAT64)
    with pytest.raises(UnprocessableOutput, match=message):
        TensorRequest(vector, "", arithmetic, decimals).encode()


@pytest.mark.parametrize(
    ("types", "fields", "message"),
    [
        (["bytes"] * 2, [b"", b"?"], "arithmetic: .*too short"),
        (["bytes"] * 2, [b"\xff", encode_vector([1.0])], "model_id"),
        (["bytes"] * 2 + ["uint8"] * 2, [b"", encode_vector([1.0]), 2, 6], "output_arithmetic: 2"),
        (["bytes"] * 2 + ["uint16"], [b"", encode_vector([1.0]), 256], "uint8"),
        (["bytes"] * 2 + ["uint8"] * 3, [b"", encode_vector([1.0]), 1, 6, 6], "is not"),
    ],
)
def test_a_malformed_tensor_request_is_refused_naming_the_field(
    types: list[str], fields: list[Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        TensorRequest.decode(abi.encode(types, fields))


def test_tails_in_another_order_do_not_change_the_number_of_fields() -> None:
    vector = encode_vector([1.0])
    data = (
        words(96 + 32 + len(vector), 96, 1, len(vector)) + vector + words(1) + b"m".ljust(32, b"\0")
    )
    request = TensorRequest.decode(data)
    assert (request.model_id, request.output_arithmetic) == ("m", Arithmetic.FIXED_POINT)


# --- model ids


@pytest.mark.parametrize("case", REQUESTS["model_ids"])
def test_model_ids_are_those_of_infernet_ml_both_ways(case: dict[str, str]) -> None:
    assert encode_model_id(case["model_id"]).hex() == case["encoded"]
    assert decode_model_id(bytes.fromhex(case["encoded"])) == case["model_id"]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_text_is_a_model_id(text: str) -> None:
    assert decode_model_id(encode_model_id(text)) == text


def test_an_unstructured_model_id_is_plain_utf_8_and_none_is_empty() -> None:
    assert encode_model_id("iris") == b"iris"
    assert encode_model_id("") == b""
    assert decode_model_id(b"") == ""


@pytest.mark.parametrize("data", [b"\xff", b"a\0b", words(64), words(64, 96, 0, 0)])
def test_bytes_that_are_no_model_id_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="model_id"):
        decode_model_id(data)


def test_an_unknown_storage_is_refused() -> None:
    repository = abi.encode(["uint8", "string", "string", "string"], [3, "a", "b", ""])
    with pytest.raises(InvalidInput, match="storage: 3 is none of local"):
        decode_model_id(abi.encode(["bytes", "string"], [repository, ""]))


@pytest.mark.parametrize("model_id", ["a\0b", "\ud800", "local/a/\ud800"])
def test_a_model_id_that_cannot_be_written_is_refused(model_id: str) -> None:
    with pytest.raises(UnprocessableOutput, match="model_id"):
        encode_model_id(model_id)


# --- legacy rows


@given(st.lists(st.floats(-1e40, 1e40)))
def test_legacy_rows_hold_the_integer_nearest_to_each_number(values: list[float]) -> None:
    encoded = encode_legacy(values)
    (integers,) = abi.decode(["int256[]"], encoded)
    assert encoded == abi.encode(["int256[]"], [integers])
    for value, integer in zip(values, integers, strict=True):
        assert abs(integer - Fraction(value) * 10**18) <= Fraction(1, 2)


@given(st.lists(st.floats(-1e40, 1e40).filter(lambda value: value == 0 or abs(value) >= 0.01)))
def test_legacy_numbers_that_are_not_tiny_come_back_exactly(values: list[float]) -> None:
    assert decode_legacy(encode_legacy(values)).tolist() == values


@given(st.lists(st.integers(-(2**255), 2**255 - 1)))
def test_legacy_rows_are_read_with_one_correct_rounding(integers: list[int]) -> None:
    row = decode_legacy(abi.encode(["int256[]"], [integers]))
    assert row.dtype == np.float64
    assert row.tolist() == [integer / 10**18 for integer in integers]


@pytest.mark.parametrize("values", [[math.nan], [math.inf], [1e60], ["a"], [1j], [[1], [1, 2]]])
def test_values_that_no_legacy_row_can_hold_are_refused(values: Any) -> None:
    with pytest.raises(UnprocessableOutput):
        encode_legacy(values)


def test_the_first_word_tells_a_legacy_row_from_a_tensor_request() -> None:
    legacy = encode_legacy([1.5, -2.0])
    modern = TensorRequest(Vector(np.array([1.5]), DataType.FLOAT64), MODEL_ID).encode()
    assert is_legacy(legacy)
    assert not is_legacy(modern)
    assert decode_torch_input(legacy).vector.values.tolist() == [[1.5, -2.0]]
    assert decode_torch_input(modern).model_id == MODEL_ID
    with pytest.raises(InvalidInput, match="int256"):
        decode_legacy(modern)


# --- hostile bytes

DECODERS = [
    decode_text,
    lambda data: decode_texts(data, "first", "second", "third"),
    decode_vector,
    decode_legacy,
    decode_model_id,
    decode_torch_input,
    TensorRequest.decode,
]
SEEDS = [
    *(bytes.fromhex(case["encoded"]) for case in REQUESTS["requests"] + REQUESTS["model_ids"]),
    *(bytes.fromhex(case["encoded"]) for case in VECTORS["both_ways"][::9] + VECTORS["read_only"]),
    encode_text("text"),
    abi.encode(["string"] * 3, ["first", "", "third"]),
    encode_legacy([1.0, -1.0]),
]
SPOILING_WORDS = st.sampled_from([0, 1, 31, 32, 64, 96, 160, 2**31, 2**63, 2**64, 2**255, -1, -32])


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 3))):
        position = draw(st.integers(0, len(data) // 32 - 1)) * 32
        data[position : position + 32] = words(draw(SPOILING_WORDS | st.integers(0, 512)))
    return bytes(data[: draw(st.none() | st.integers(0, len(data)))])


@pytest.mark.parametrize("decoder", DECODERS)
@given(data=st.binary(max_size=400) | spoiled())
@settings(max_examples=300)
def test_no_bytes_raise_anything_but_invalid_input(decoder: Any, data: bytes) -> None:
    try:
        decoder(data)
    except InvalidInput as error:
        assert error.description  # noqa: PT017


@given(spoiled())
@settings(max_examples=300)
def test_a_tensor_is_read_only_where_eth_abi_reads_it(data: bytes) -> None:
    try:
        vector = decode_vector(data)
    except InvalidInput:
        return
    types = [*VECTOR_HEAD, f"{ABI_TYPES[vector.dtype]}[]"]
    arithmetic, decimals, dtype, shape, values = abi.decode(types, data)
    assert (arithmetic, decimals, dtype) == (vector.arithmetic, vector.decimals, vector.dtype)
    assert shape == vector.values.shape
    assert len(values) == vector.values.size


@given(spoiled())
@settings(max_examples=300)
def test_a_legacy_row_is_read_exactly_where_eth_abi_reads_it(data: bytes) -> None:
    try:
        expected = [integer / 10**18 for integer in abi.decode(["int256[]"], data)[0]]
    except (DecodingError, OverflowError):
        expected = None
    try:
        row = decode_legacy(data).tolist()
    except InvalidInput:
        # eth_abi takes an array at any offset; encoders put it right behind the head.
        assert expected is None or not is_legacy(data)
        return
    assert row == expected
