"""How likely a model finds the tokens of a prompt, read piece by piece beside the running batch."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import torch
from transformers import DynamicCache

from ml.errors import InternalError
from ml.generation.adapter_leases import Lease
from ml.generation.request import Token
from ml.generation.sampling import likeliest

__all__ = ["Scoring"]

#: What the logits of a piece of a prompt may take.
_LOGITS_BYTES = 32 * 2**20
#: Pieces have a multiple of it: oneDNN keeps a kernel of some MB for each number of rows.
_MULTIPLE = 8


class Scoring:
    """One prompt on its way through a model, with a cache of its own.

    `result` gets the tokens behind the prompt's first, or the `error`; who cancels it ends the
    scoring.
    """

    def __init__(
        self, prompt: Sequence[int], *, top_logprobs: int = 0, adapter: Lease | None = None
    ) -> None:
        self.result: Future[list[Token]] = Future()
        self.error: Exception | None = None
        self.adapter = adapter
        self._prompt = list(prompt)
        self._top_logprobs = top_logprobs
        self._tokens: list[Token] = []
        self._cache: DynamicCache | None = None

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to read."""
        is_through = len(self._tokens) == len(self._prompt) - 1
        return is_through or self.error is not None or self.result.cancelled()

    def read_on(self, model: Any) -> None:
        """Read the next piece of the prompt. Raises `InternalError` for logits that are none."""
        if self._cache is None:
            self._cache = DynamicCache(config=model.config.get_text_config())
        first, last = len(self._tokens), len(self._prompt) - 1  # whose logits tell of none
        width = min(_widest_piece(model), -(-(last - first) // _MULTIPLE) * _MULTIPLE)
        piece = self._prompt[first : min(first + width, last)]
        padded = piece + [0] * (
            width - len(piece)
        )  # behind the last piece, where it changes nothing
        output = model(
            input_ids=torch.tensor([padded], device=model.device),
            past_key_values=self._cache,
            use_cache=True,
        )
        self._take(output.logits[0, : len(piece)].float())

    def _take(self, logits: torch.Tensor) -> None:
        first = len(self._tokens) + 1
        ids = self._prompt[first : first + len(logits)]
        totals = logits.logsumexp(dim=-1)
        chosen = logits.gather(1, torch.tensor(ids, device=logits.device)[:, None])[:, 0] - totals
        if not bool(chosen.isfinite().all()):
            raise InternalError("The logits are not finite.")
        tops = likeliest(logits, totals, self._top_logprobs)
        self._tokens += map(Token, ids, chosen.tolist(), tops)

    def end(self) -> None:
        """Give the result, once the scoring is over."""
        if self.adapter is not None:
            self.adapter.close()
        if not self.result.set_running_or_notify_cancel():
            return
        if self.error is not None:
            self.result.set_exception(self.error)
        else:
            self.result.set_result(self._tokens)


def _widest_piece(model: Any) -> int:
    vocabulary: int = model.get_input_embeddings().num_embeddings
    return max(_LOGITS_BYTES // (4 * vocabulary) // _MULTIPLE, 1) * _MULTIPLE
