"""Tokens with their probabilities, as OpenAI's clients read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ml.generation.request import Token
from ml.generation.token_texts import TokenTexts

__all__ = ["chat_logprobs", "text_logprobs"]

#: Stands for no probability at all; OpenAI has this number for it.
_LEAST = -9999.0


def chat_logprobs(tokens: Sequence[Token], texts: TokenTexts, most: int) -> dict[str, Any]:
    """Return the `logprobs` of a chat's choice, without tokens that stand for no text."""
    content = [
        _entry(token.id, token.logprob, texts)
        | {"top_logprobs": [_entry(*one, texts) for one in token.top[:most]]}
        for token in tokens
        if not texts.is_special(token.id)
    ]
    return {"content": content, "refusal": None}


def _entry(token_id: int, logprob: float, texts: TokenTexts) -> dict[str, Any]:
    return {
        "token": texts.text(token_id),
        "logprob": max(logprob, _LEAST),
        "bytes": list(texts.bytes(token_id)),
    }


def text_logprobs(
    tokens: Sequence[Token], texts: TokenTexts, offset: int, *, first: int | None = None
) -> dict[str, Any]:
    """Return the `logprobs` of a text's choice; `offset` is how much text came before.

    `first` is a token before them of which nothing is known, the first of a prompt.
    """
    ids = [*([] if first is None else [first]), *(token.id for token in tokens)]
    unknown = [None] * (len(ids) - len(tokens))
    pieces = ["" if texts.is_special(id_) else piece for id_, piece in _pieces(ids, texts)]
    offsets = []
    for piece in pieces:
        offsets.append(offset)
        offset += len(piece)
    return {
        "tokens": [texts.text(id_) for id_ in ids],
        "token_logprobs": [*unknown, *(max(token.logprob, _LEAST) for token in tokens)],
        "top_logprobs": [*unknown, *(_top(token, texts) for token in tokens)],
        "text_offset": offsets,
    }


def _pieces(ids: Sequence[int], texts: TokenTexts) -> list[tuple[int, str]]:
    return list(zip(ids, texts.pieces(ids), strict=True))


def _top(token: Token, texts: TokenTexts) -> dict[str, float] | None:
    """Return the likeliest tokens and the chosen one; of two with the same text, the likelier."""
    if not token.top:
        return None
    found: dict[str, float] = {}
    for id_, logprob in (*token.top, (token.id, token.logprob)):
        text = texts.text(id_)
        found[text] = max(found.get(text, _LEAST), logprob)
    return found
