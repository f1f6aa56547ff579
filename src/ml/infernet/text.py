"""Text as ABI bytes: `abi.encode(["string"], [text])`, and several texts in one encoding.

Format: Solidity ABI specification, type `string`.
"""

from __future__ import annotations

from eth_abi.abi import encode

from ml.errors import UnprocessableOutput
from ml.infernet.words import WORD_BYTES, read_offset, read_text

__all__ = ["decode_text", "decode_texts", "encode_text"]


def encode_text(text: str) -> bytes:
    """Return `abi.encode(string text)`.

    Raises:
        UnprocessableOutput: the text holds lone surrogates, which UTF-8 cannot express.
    """
    try:
        return encode(["string"], [text])
    except UnicodeEncodeError:
        raise UnprocessableOutput("The text cannot be written as UTF-8.") from None


def decode_text(data: bytes) -> str:
    """Return the text of `abi.encode(string text)`.

    Raises:
        InvalidInput: the data is no such encoding, or not UTF-8.
    """
    [text] = decode_texts(data, "text")
    return text


def decode_texts(data: bytes, *fields: str) -> list[str]:
    """Return the texts of `abi.encode(string, string, …)`, one for each name.

    Raises:
        InvalidInput: the data is no such encoding, or not UTF-8; the description names the field.
    """
    count = len(fields)
    return [
        read_text(data, read_offset(data, position * WORD_BYTES, count, field), field)
        for position, field in enumerate(fields)
    ]
