"""What single tokens stand for."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

__all__ = ["TokenTexts"]

_BYTE = re.compile(r"<0x([0-9A-F]{2})>\Z")


class TokenTexts:
    """The bytes of a tokenizer's tokens, which may be a part of a character alone."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._special = frozenset(tokenizer.all_special_ids)

    def is_special(self, token_id: int) -> bool:
        """Return whether a token stands for no text, such as the end of a turn."""
        return token_id in self._special

    def bytes(self, token_id: int) -> bytes:
        """Return what a token stands for; of a token for no text, its name."""
        token = self._tokenizer.convert_ids_to_tokens(token_id) or ""
        if token_id in self._tokenizer.added_tokens_decoder:
            return str(token).encode()
        if byte := _BYTE.match(token):
            return bytes([int(byte[1], 16)])
        if self._byte_of is not None:
            return bytes(self._byte_of.get(character, 0x3F) for character in token)
        return str(token).replace("▁", " ").encode()

    def text(self, token_id: int) -> str:
        """Return a token's text, in which a part of a character is a replacement character."""
        return self.bytes(token_id).decode(errors="replace")

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return what each token adds to the text of all: a character comes with its last byte."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        return [decoder.decode(self.bytes(id_)) for id_ in ids]

    @cached_property
    def _byte_of(self) -> dict[str, int] | None:
        """The bytes that the characters of tokens stand for, if they do."""
        if "ByteLevel" not in str(self._tokenizer.backend_tokenizer.decoder):
            return None
        # GPT-2's table: printable bytes stand for themselves, the others follow from 256 on.
        printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        others = [byte for byte in range(256) if byte not in printable]
        table = {chr(byte): byte for byte in printable}
        return table | {chr(256 + number): byte for number, byte in enumerate(others)}
