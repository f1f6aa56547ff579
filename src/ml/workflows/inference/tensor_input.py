"""The tensor that a caller sends: `{"dtype": …, "values": nested lists}`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, Literal, cast, get_args

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue

from ml.errors import InvalidInput
from ml.infernet.tensor_request import TensorRequest
from ml.infernet.vector import Arithmetic, DataType, Vector
from ml.json_text import JsonObject
from ml.models.tensor_model import Array, Dtype
from ml.workflows.inference.answer_before import answer_before

__all__ = ["DTYPES", "DtypeName", "OnchainTensorInput", "TakenTensor", "TensorInput", "dtype_name"]

DtypeName = Literal[
    "float", "double", "cfloat", "cdouble", "half", "bfloat16",
    "uint8", "int8", "short", "int", "long", "bool",
]  # fmt: skip

#: The numpy dtype that holds each; numpy has no bfloat16, so its values are held as float32.
DTYPES: dict[str, Dtype] = {
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
    "cfloat": np.dtype(np.complex64),
    "cdouble": np.dtype(np.complex128),
    "half": np.dtype(np.float16),
    "bfloat16": np.dtype(np.float32),
    "uint8": np.dtype(np.uint8),
    "int8": np.dtype(np.int8),
    "short": np.dtype(np.int16),
    "int": np.dtype(np.int32),
    "long": np.dtype(np.int64),
    "bool": np.dtype(np.bool_),
}

#: Of lists, as far as they are looked into: what they hold is tested by its type.
Leaves = Sequence[Any]

_NAMES = {dtype: name for name, dtype in DTYPES.items() if name != "bfloat16"}

#: More dimensions than a model uses; torch's own limit is 64.
_MAX_RANK = 16
#: From here on a float32 rounds to a bfloat16 infinity: half a step over its largest value.
_BFLOAT16_OVERFLOW = 2.0**128 - 2.0**119

_MOST_VALUES_OF_AN_EXAMPLE = 4096

_LISTS = {list, tuple}
_LEAVES: dict[str, set[type]] = {
    "f": {float, int},
    "c": {float, int},
    "i": {int},
    "u": {int},
    "b": {bool, int},
}
_DUE = {
    "f": "numbers",
    "c": "[re, im] pairs of numbers",
    "i": "integers",
    "u": "integers",
    "b": "true and false",
}
_GIVEN: dict[type, str] = {
    str: "a string",
    type(None): "null",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    float: "a number with a fraction or an exponent",
    int: "an integer",
}


def dtype_name(dtype: Dtype) -> str:
    """Return the document's name of a numpy dtype, numpy's own for one that it does not know."""
    return _NAMES.get(dtype.newbyteorder("="), dtype.name)


def _check_dtype(dtype: object) -> object:
    known = get_args(DtypeName)
    if isinstance(dtype, str) and dtype in known:
        return dtype
    due = f"expected one of {', '.join(known)}"
    if not isinstance(dtype, str) or len(dtype) > 20:
        raise ValueError(f"{due}; given {_describe({type(dtype)})}")
    close = difflib.get_close_matches(dtype, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"{due}; given {dtype!r}{hint}")


class TensorInput(BaseModel):
    """A tensor: in JSON nested lists, here a numpy array of the dtype in `DTYPES`.

    Complex values are `[re, im]` pairs in JSON. Other keys are ignored, so that the output of one
    tensor service is an input of the next; where an answer with its proof has the tensor under
    `outputs` or `output`, it is taken from there. Lists that are ragged, empty, nested more than
    16 deep or hold something else than the dtype's values are refused, as are numbers beyond its
    range.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    dtype: Annotated[DtypeName, BeforeValidator(_check_dtype)] = Field(
        description="The element type of the tensor"
    )
    values: Any = Field(
        description="The tensor as nested lists; its shape depends on the model. "
        "Complex numbers are [re, im] pairs.",
        json_schema_extra={"type": "array", "items": {}, "format": "tensor"},
    )

    def request(self, model_id: str = "") -> TensorRequest:
        """Return how a contract asks for the same. Raises `InvalidInput` for bfloat16."""
        if self.dtype == "bfloat16":
            raise InvalidInput("dtype: a contract sends no bfloat16; give 'float'")
        return TensorRequest(Vector(self.values, DataType.from_numpy(self.values.dtype)), model_id)

    @model_validator(mode="before")
    @classmethod
    def _require_object(cls, data: object) -> object:
        if not isinstance(data, dict | TensorInput):
            raise ValueError(
                f"expected an object with 'dtype' and 'values'; given {_describe({type(data)})}"
            )
        if not isinstance(data, dict) or data.keys() & {"dtype", "values"}:
            return data
        if (answer := answer_before(data, dict)) is not None:
            return answer
        if "inputs" in data:
            raise ValueError(
                "this model takes one tensor, with 'dtype' and 'values' and without a name; "
                "given tensors by name, under 'inputs'"
            )
        return data

    @field_validator("values", mode="after")
    @classmethod
    def _parse(cls, values: object, info: ValidationInfo) -> object:
        dtype = info.data.get("dtype")
        if dtype is None:  # its own fault is reported
            return values
        if not isinstance(values, np.ndarray):
            return _array_from_lists(values, dtype)
        if values.dtype != DTYPES[dtype] or values.size == 0:
            raise ValueError(
                f"expected a {DTYPES[dtype]} array with values for dtype {dtype!r}; "
                f"given {values.dtype} of shape {list(values.shape)}"
            )
        return values


@dataclass(frozen=True, slots=True)
class TakenTensor:
    """The tensor that a model takes.

    Attributes:
        dtypes: those that it takes, the one of its own first.
        shape: None for a dimension of any length; None as a whole for any shape.
    """

    dtypes: tuple[str, ...]
    shape: tuple[int | None, ...] | None

    def narrow(self, schema: JsonSchemaValue) -> JsonSchemaValue:
        """Return the JSON Schema of any tensor as that of this one."""
        items: JsonObject = {}
        for length in reversed(self.shape or ()):
            exact = {} if length is None else {"minItems": length, "maxItems": length}
            items = {"type": "array", "items": items, **exact}
        properties = dict(schema["properties"])
        names = {"enum": list(self.dtypes), "default": self.dtypes[0]}
        properties["dtype"] = {**properties["dtype"], **names}
        properties["values"] = {**properties["values"], **items}
        return {**schema, "properties": properties}

    def example(self) -> JsonObject | None:
        """Return a tensor of zeros, None where its size is not known, or too large to look at."""
        dtype = self.dtypes[0]
        if self.shape is None or None in self.shape[1:] or DTYPES[dtype].kind == "c":
            return None
        lengths = [length or 1 for length in self.shape]
        if math.prod(lengths) > _MOST_VALUES_OF_AN_EXAMPLE:
            return None
        return {"dtype": dtype, "values": np.zeros(lengths, DTYPES[dtype]).tolist()}


class OnchainTensorInput(TensorInput):
    """A tensor that a contract sent, and the form in which it wants the answer."""

    #: The values were decimals, which say nothing about the float type that a model takes.
    is_fixed_point: bool = False
    output_arithmetic: Arithmetic = Arithmetic.IEEE
    output_decimals: int = 18

    @classmethod
    def from_request(cls, request: TensorRequest) -> OnchainTensorInput:
        """Return the input of a tensor request; NaN and infinities pass as they are.

        Raises `InvalidInput` for an empty tensor and for dtypes that the document does not have.
        """
        values = request.vector.values
        if values.size == 0:
            raise InvalidInput(f"values: expected at least one; given shape {list(values.shape)}")
        name = dtype_name(values.dtype)
        if name not in DTYPES:
            due = ", ".join(str(dtype) for dtype in _NAMES)
            raise InvalidInput(f"dtype: expected one of {due}; given {name}")
        arithmetic, decimals = request.output_arithmetic, request.output_decimals
        return cls.model_construct(
            dtype=cast(DtypeName, name),
            values=values,
            is_fixed_point=request.vector.arithmetic is Arithmetic.FIXED_POINT,
            output_arithmetic=Arithmetic.IEEE if arithmetic is None else arithmetic,
            output_decimals=18 if decimals is None else decimals,
        )


def _array_from_lists(values: object, dtype: str) -> Array:
    target = DTYPES[dtype]
    leaves, shape, types = _flatten(values)
    # Types are checked before numpy sees the leaves: it would read "1.5" and None as numbers, and
    # size an array of texts by the longest one.
    if wrong := types - _LEAVES[target.kind]:
        raise ValueError(
            f"expected {_DUE[target.kind]} for dtype {dtype!r}; given {_describe(wrong)}"
        )
    if target.kind == "c":
        return _complex_array(leaves, shape, dtype)
    if target.kind == "f":
        return _float_array(leaves, dtype).reshape(shape)
    return _integer_array(leaves, dtype).reshape(shape)


def _flatten(values: object) -> tuple[Leaves, tuple[int, ...], set[type]]:
    """Return the leaves in C order, the shape, and the leaves' types.

    Every step runs in C, one level at a time.
    """
    shape: list[int] = []
    level: Leaves = (values,)
    while (types := set(map(type, level))) & _LISTS:
        where = f"at depth {len(shape)}"
        if types - _LISTS:
            other = _describe(types - _LISTS)
            raise ValueError(f"expected lists of one depth; given a list beside {other} {where}")
        lengths = set(map(len, level))
        if len(lengths) > 1:
            raise ValueError(
                f"expected lists of one length {where}; "
                f"given lengths from {min(lengths)} to {max(lengths)}"
            )
        if lengths == {0}:
            raise ValueError("expected at least one value; given an empty list")
        shape.append(lengths.pop())
        if len(shape) > _MAX_RANK:
            raise ValueError(f"expected at most {_MAX_RANK} dimensions; given more")
        level = level[0] if len(level) == 1 else list(chain.from_iterable(level))
    return level, tuple(shape), types


def _float_array(leaves: Leaves, dtype: str) -> Array:
    try:
        wide = np.array(leaves, np.float64)
    except OverflowError:  # an integer of hundreds of digits
        wide = np.array([np.inf])
    with np.errstate(over="ignore"):
        array = wide.astype(DTYPES[dtype], copy=False)
    fits = np.isfinite(array)
    if dtype == "bfloat16":
        fits &= np.abs(array) < _BFLOAT16_OVERFLOW
    if not fits.all():
        raise ValueError(f"expected finite numbers within the range of dtype {dtype!r}")
    return array


def _complex_array(leaves: Leaves, shape: tuple[int, ...], dtype: str) -> Array:
    if not shape or shape[-1] != 2:
        raise ValueError(
            f"expected [re, im] pairs, so a last dimension of 2, for dtype {dtype!r}; "
            f"given shape {list(shape)}"
        )
    halves = _float_array(leaves, "float" if dtype == "cfloat" else "double")
    return halves.view(DTYPES[dtype]).reshape(shape[:-1])


def _integer_array(leaves: Leaves, dtype: str) -> Array:
    target = DTYPES[dtype]
    low, high = (0, 1) if target.kind == "b" else (np.iinfo(target).min, np.iinfo(target).max)
    try:
        wide = np.array(leaves, np.int64)
    except OverflowError:
        wide = None
    if wide is None or wide.min() < low or wide.max() > high:
        raise ValueError(f"expected {_DUE[target.kind]} from {low} to {high} for dtype {dtype!r}")
    return wide.astype(target, copy=False)


def _describe(types: set[type]) -> str:
    return " and ".join(sorted(_GIVEN.get(t, t.__name__) for t in types))
