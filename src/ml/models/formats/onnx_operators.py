"""What an ONNX file's operators tell of its run time; the library that runs them does not.

Format: `ModelProto`, `GraphProto` and `NodeProto` of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

__all__ = ["runs_alike"]

_GRAPH, _FUNCTIONS, _NODE, _OP_TYPE, _DOMAIN = 7, 25, 1, 4, 7

_DOMAINS = (b"", b"ai.onnx", b"ai.onnx.ml")
#: Those that take and make as much, whatever the values are. There are none that loop or choose,
#: and none that make a tensor of a size that another one says.
_ALIKE = frozenset(
    b"""
    Abs Acos Acosh Add And ArgMax ArgMin ArrayFeatureExtractor Asin Asinh Atan Atanh AveragePool
    BatchNormalization Binarizer Cast Ceil Celu Clip Concat Constant Conv Cos Cosh DequantizeLinear
    Div Dropout DynamicQuantizeLinear Elu Equal Erf Exp FeatureVectorizer Flatten Floor GRU Gather
    Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization HardSigmoid
    HardSwish Identity Imputer InstanceNormalization LRN LSTM LabelEncoder LayerNormalization
    LeakyRelu Less LessOrEqual LinearClassifier LinearRegressor Log LogSoftmax MatMul MatMulInteger
    Max MaxPool Mean Min Mish Mul Neg Normalizer Not Or PRelu Pow QLinearConv QLinearMatMul
    QuantizeLinear RNN Reciprocal ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum Relu Reshape Round SVMClassifier SVMRegressor Scaler Selu Shape Sigmoid Sign Sin Sinh
    Softmax Softplus Softsign Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Transpose
    TreeEnsembleClassifier TreeEnsembleRegressor Unsqueeze Where Xor ZipMap
    """.split()
)


def runs_alike(path: Path) -> bool:
    """Return whether nothing in an ONNX file's graph takes longer for some values than for others.

    Where the file cannot be read, or holds functions of its own, this is not known: False.
    """
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return _is_alike(content)
    except (ValueError, IndexError):
        return False


def _is_alike(content: mmap.mmap) -> bool:
    has_nodes = False
    for field, start, end in _fields(content, 0, len(content)):
        if field == _FUNCTIONS:
            return False
        if field != _GRAPH:
            continue
        for inner, node_start, node_end in _fields(content, start, end):
            if inner == _NODE:
                has_nodes = True
                if not _is_node_alike(content, node_start, node_end):
                    return False
    return has_nodes


def _is_node_alike(content: mmap.mmap, start: int, end: int) -> bool:
    has_type = False
    for field, value_start, value_end in _fields(content, start, end):
        if field == _OP_TYPE:
            has_type = content[value_start:value_end] in _ALIKE
            if not has_type:
                return False
        elif field == _DOMAIN and content[value_start:value_end] not in _DOMAINS:
            return False
    return has_type


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the numbers of a message's fields that have a length, and where each begins and ends.

    Raises `ValueError` for what is no such message.
    """
    while start < end:
        key, start = _varint(content, start)
        kind = key & 7
        if kind == 2:
            length, start = _varint(content, start)
            if start + length > end:
                raise ValueError("a field ends outside of its message")
            yield key >> 3, start, start + length
            start += length
        elif kind == 0:
            _, start = _varint(content, start)
        elif kind in (1, 5):
            start += 8 if kind == 1 else 4
        else:
            raise ValueError("a field of an unknown kind")


def _varint(content: mmap.mmap, position: int) -> tuple[int, int]:
    """Return a number and where it ends; raises `ValueError` for one of more than 64 bits."""
    number = 0
    for shift in range(0, 70, 7):
        byte = content[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise ValueError("a number without an end")
