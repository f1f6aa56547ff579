"""Arrow's IPC stream: a table whose columns are tensors."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

import numpy as np

from ml.errors import InvalidInput, UnprocessableOutput
from ml.json_text import JsonObject
from ml.models.tensor_model import Array
from ml.workflows.inference.body_formats.body_format import (
    named_tensors,
    no_tensor,
    shaped,
    tensor_data,
    tensors_data,
)

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

__all__ = ["ArrowFormat"]

_NO_TENSOR = (
    "expected a column of numbers, of fixed size lists of them or of fixed shape tensors; "
    "given {given}"
)


class ArrowFormat:
    """A tensor for each column, with a row for each of the table.

    A column of numbers is a tensor of one dimension, one of fixed size lists, or of
    `arrow.fixed_shape_tensor`, has theirs behind it. Of one input, the column's name says nothing.

    https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format
    """

    media_type = b"application/vnd.apache.arrow.stream"

    def read(self, body: bytes) -> JsonObject:
        """Return the columns; nulls, compressed buffers and other kinds of columns are refused."""
        import pyarrow as pa

        try:
            schema, batches = _batches(body)
            columns = {name: [batch.column(name) for batch in batches] for name in schema.names}
            arrays = {name: [_array(name, one) for one in parts] for name, parts in columns.items()}
        except (pa.ArrowException, OSError, struct.error, UnicodeDecodeError) as error:
            why = str(error).partition("\n")[0][:200]
            raise InvalidInput(f"the body is no stream of Arrow: {why}") from None
        return tensors_data(
            {name: tensor_data(np.concatenate(parts), name=name) for name, parts in arrays.items()}
        )

    def write(self, output: object) -> bytes:
        """Return a table; the only tensor is called `output`."""
        import pyarrow as pa

        tensors = {name: np.atleast_1d(one.array) for name, one in named_tensors(output).items()}
        if len({len(array) for array in tensors.values()}) > 1:
            raise UnprocessableOutput(
                "The columns of a table have as many rows as each other, and the answer's tensors "
                "do not: ask with 'Accept: application/x-safetensors'."
            )
        try:
            batch = pa.record_batch({name: _column(array) for name, array in tensors.items()})
        except pa.ArrowException as error:
            raise UnprocessableOutput(f"The answer has no place in a table: {error}") from None
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return bytes(sink.getvalue())


def _batches(body: bytes) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    import pyarrow as pa

    buffer = pa.py_buffer(body)
    for message in pa.ipc.MessageReader.open_stream(buffer):
        if message.type == "record batch" and _is_compressed(message.metadata):
            raise InvalidInput("the stream of Arrow is compressed: write it without compression")
    with pa.ipc.open_stream(buffer) as stream:
        _require_tensors(stream.schema)
        batches = list(stream)
    for batch in batches:
        batch.validate(full=True)
    if not batches:
        raise InvalidInput("the stream of Arrow holds no rows")
    return stream.schema, batches


def _require_tensors(schema: pa.Schema) -> None:
    """Refuse what is no tensor by its type, before anything of it is read."""
    import pyarrow as pa

    if not schema.names or len(set(schema.names)) < len(schema.names):
        raise InvalidInput("the stream of Arrow needs columns with a name of its own each")
    for field in schema:
        inner = field.type
        if isinstance(inner, pa.FixedShapeTensorType):
            inner = inner.value_type
        while pa.types.is_fixed_size_list(inner):
            inner = inner.value_type
        if not (pa.types.is_integer(inner) or pa.types.is_floating(inner) or inner == pa.bool_()):
            raise no_tensor(field.name, _NO_TENSOR.format(given=str(field.type)[:100]))


def _is_compressed(metadata: pa.Buffer) -> bool:
    """Return whether a record batch's buffers are: small ones may then be gigabytes.

    Read from its flatbuffer: `Message.header` is a table, `RecordBatch.compression` in it another.
    https://github.com/apache/arrow/blob/main/format/Message.fbs
    """
    data = memoryview(metadata)
    message = struct.unpack_from("<I", data, 0)[0]
    header = _field(data, message, 2)
    if header is None:
        return False
    batch = header + struct.unpack_from("<I", data, header)[0]
    return _field(data, batch, 3) is not None


def _field(data: memoryview, table: int, number: int) -> int | None:
    """Return where a field of a flatbuffer's table is, None if it is left out."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    entry = 4 + 2 * number
    if entry >= struct.unpack_from("<H", data, vtable)[0]:
        return None
    offset = struct.unpack_from("<H", data, vtable + entry)[0]
    return table + offset if offset else None


def _array(name: str, column: pa.Array) -> Array:
    import pyarrow as pa

    lengths: list[int] = []
    shape: list[int] | None = None
    if isinstance(column, pa.FixedShapeTensorArray):
        if column.type.permutation not in (None, list(range(len(column.type.shape)))):
            raise no_tensor(name, "tensors in another order than C's are not read")
        shape, column = list(column.type.shape), column.storage
    rows = len(column)
    while pa.types.is_fixed_size_list(column.type):
        _require_no_nulls(name, column)
        lengths.append(column.type.list_size)
        column = column.flatten()
    _require_no_nulls(name, column)
    values: Array = column.to_numpy(zero_copy_only=False)
    return shaped(values, (rows, *(lengths if shape is None else shape)), name=name)


def _require_no_nulls(name: str, column: pa.Array) -> None:
    if column.null_count:
        raise no_tensor(name, f"a tensor has no nulls; the column has {column.null_count}")


def _column(array: Array) -> pa.Array:
    import pyarrow as pa

    flat = pa.array(np.ravel(array))
    if array.ndim == 1:
        return flat
    shape = array.shape[1:]
    lists = pa.FixedSizeListArray.from_arrays(flat, math.prod(shape))
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(flat.type, shape), lists)
