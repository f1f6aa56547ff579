"""Which tokens may follow in answers that have to have a form."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from ml.errors import InvalidInput
from ml.generation.answer_form import AnswerForm
from ml.generation.answer_grammar import LIMITS, grammar_of, refusal, require_begin

__all__ = ["AnswerMatcher", "AnswerMatchers", "restrict"]

#: Forms whose grammars are kept for the next request.
_KEPT = 32


class AnswerMatcher:
    """Follows one answer."""

    def __init__(self, form: AnswerForm, matcher: LLMatcher) -> None:
        self._form = form
        self.matcher = matcher

    @property
    def is_complete(self) -> bool:
        """Whether the answer has its form, and nothing may follow."""
        return self.matcher.is_stopped() and not self.matcher.is_error()

    @property
    def fault(self) -> InvalidInput | None:
        """Why nobody can tell what may follow, such as a form that grew too complex."""
        return refusal(self._form, self.matcher.get_error()) if self.matcher.is_error() else None

    def accept(self, token_id: int) -> None:
        """Take account of the next token."""
        self.matcher.consume_token(token_id)


class AnswerMatchers:
    """Makes the matchers for one tokenizer and the `vocabulary` of its model; for any thread.

    `end_tokens` may follow where an answer is complete.
    """

    def __init__(self, tokenizer: Any, *, vocabulary: int, end_tokens: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._end_tokens = list(end_tokens) or None
        self._lock = threading.Lock()
        #: Held while a form is compiled, for which those that are kept do not wait.
        self._compiling = threading.Lock()
        self._known: LLTokenizer | None = None
        self._compiled: OrderedDict[AnswerForm, LLMatcher] = OrderedDict()

    def new(self, form: AnswerForm) -> AnswerMatcher:
        """Return a matcher at the beginning of an answer; the first of a form takes its time.

        Raises `InvalidInput` for a form that no answer can have, or that costs too much.
        """
        matcher = self._kept(form)
        if matcher is None:
            with self._compiling:
                matcher = self._kept(form) or self._keep(form, self._compile(form))
        return AnswerMatcher(form, matcher)

    def _kept(self, form: AnswerForm) -> LLMatcher | None:
        with self._lock:
            if form not in self._compiled:
                return None
            self._compiled.move_to_end(form)
            return self._compiled[form].deep_copy()

    def _keep(self, form: AnswerForm, compiled: LLMatcher) -> LLMatcher:
        with self._lock:
            self._compiled[form] = compiled
            if len(self._compiled) > _KEPT:
                self._compiled.popitem(last=False)
            return compiled.deep_copy()

    def _compile(self, form: AnswerForm) -> LLMatcher:
        grammar = grammar_of(form)
        if self._known is None:
            self._known = _read(self._tokenizer, self._vocabulary, self._end_tokens)
        matcher = LLMatcher(self._known, grammar, log_level=0, limits=LIMITS)
        require_begin(form, matcher)
        return matcher


def restrict(logits: torch.Tensor, matchers: Sequence[AnswerMatcher | None]) -> None:
    """Leave each row of logits, in place, only the tokens that may follow in its answer."""
    rows = [row for row, one in enumerate(matchers) if one is not None]
    if not rows:
        return
    vocabulary = logits.shape[1]
    bits = allocate_token_bitmask(len(rows), vocabulary)
    for place, one in enumerate(filter(None, matchers)):
        fill_next_token_bitmask(one.matcher, bits, place)
    allowed = np.unpackbits(bits.view(np.uint8), axis=1, count=vocabulary, bitorder="little")
    forbidden = torch.from_numpy(allowed == 0).to(logits.device)
    logits[rows] = logits[rows].masked_fill(forbidden, -torch.inf)


def _read(tokenizer: Any, vocabulary: int, end_tokens: list[int] | None) -> LLTokenizer:
    """Return llguidance's own tokenizer; raises `InvalidInput` for one that it cannot read."""
    data = json.loads(tokenizer.backend_tokenizer.to_str())
    data["truncation"] = data["padding"] = None
    try:
        known = LLTokenizer(json.dumps(data), n_vocab=vocabulary, eos_token=end_tokens)
        added = tokenizer.added_tokens_decoder.values()
        if any(_is_taken_for_special(token) for token in added):
            words: Any = _Words(tokenizer, known)
            known = LLTokenizer(words, eos_token=end_tokens or known.eos_tokens)
    except ValueError as error:
        raise InvalidInput(f"no form can be asked of this model's answers: {error}") from error
    return known


def _is_taken_for_special(token: Any) -> bool:
    """Return whether llguidance would keep a token such as `<tool_call>` out of all texts."""
    return not token.special and token.content.startswith("<") and token.content.endswith(">")


class _Words:
    """A tokenizer as llguidance asks for it, in which only special tokens are special."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: Any, known: LLTokenizer) -> None:
        self._encode = tokenizer.backend_tokenizer.encode
        self.eos_token_id = known.eos_token
        self.tokens = [known.decode_bytes([id_]) for id_ in range(known.vocab_size)]
        self.special_token_ids = [
            id_ for id_, token in tokenizer.added_tokens_decoder.items() if token.special
        ]

    def __call__(self, text: str) -> list[int]:
        ids: list[int] = self._encode(text, add_special_tokens=False).ids
        return ids
