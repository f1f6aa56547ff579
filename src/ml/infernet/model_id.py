"""The model id in a tensor request: readable text here, plain or structured bytes on the wire.

infernet-ml 2.0.0 (`MlModelId.to_web3`) writes `abi.encode(bytes repository, string files)`, where
the files are comma-separated and the repository is `abi.encode(uint8 storage, string owner,
string name, string version)`. Its readable form is `storage/owner/name[/version][:files]`, as in
`huggingface/Ritual-Net/iris-classification:iris.torch`.
"""

from __future__ import annotations

import re

from eth_abi.abi import encode

from ml.errors import InvalidInput, UnprocessableOutput
from ml.infernet.words import WORD_BYTES, read_bytes, read_offset, read_text, read_uint8

__all__ = ["decode_model_id", "encode_model_id"]

#: by their number on the wire
_STORAGES = ("local", "arweave", "huggingface")

_STRUCTURED = re.compile(
    rf"({'|'.join(_STORAGES)})/([^/:\0]+)/([^/:\0]+)(?:/([^/:\0]+))?(?::([^:\0]+))?"
)

# The first word of the structured form, the offset of the repository: never the start of a text.
_STRUCTURED_START = (2 * WORD_BYTES).to_bytes(WORD_BYTES, "big")


def encode_model_id(model_id: str) -> bytes:
    """Return `b""` for no id, infernet-ml's form where the id has its parts, else UTF-8.

    Raises:
        UnprocessableOutput: the id cannot be written as UTF-8 or holds a NUL character.
    """
    match = _STRUCTURED.fullmatch(model_id)
    try:
        if match is None:
            return _plain(model_id)
        storage, owner, name, version, files = (part or "" for part in match.groups())
        types = ["uint8", "string", "string", "string"]
        repository = encode(types, [_STORAGES.index(storage), owner, name, version])
        return encode(["bytes", "string"], [repository, files])
    except UnicodeEncodeError:
        raise UnprocessableOutput("model_id: it cannot be written as UTF-8.") from None


def decode_model_id(data: bytes) -> str:
    """Return the readable id, `""` for none, of infernet-ml's form or plain UTF-8.

    Raises:
        InvalidInput: the bytes are neither.
    """
    text = _structured_text(data) if data.startswith(_STRUCTURED_START) else _plain_text(data)
    if "\0" in text:
        raise InvalidInput("model_id: it holds a NUL character.")
    return text


def _plain(model_id: str) -> bytes:
    if "\0" in model_id:
        raise UnprocessableOutput("model_id: it holds a NUL character.")
    return model_id.encode()


def _plain_text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidInput("model_id: the bytes are not UTF-8 text.") from None


def _structured_text(data: bytes) -> str:
    repository = read_bytes(data, read_offset(data, 0, 2, "model_id"), "model_id")
    files = read_text(data, read_offset(data, WORD_BYTES, 2, "model_id"), "model_id files")
    storage = read_uint8(repository, 0, "model_id storage")
    if storage >= len(_STORAGES):
        raise InvalidInput(f"model_id storage: {storage} is none of {', '.join(_STORAGES)}.")
    owner, name, version = (
        read_text(repository, read_offset(repository, position, 4, "model_id"), "model_id")
        for position in (WORD_BYTES, 2 * WORD_BYTES, 3 * WORD_BYTES)
    )
    path = "/".join(part for part in (_STORAGES[storage], owner, name, version) if part)
    return f"{path}:{files}" if files else path
