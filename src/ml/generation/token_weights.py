"""What requests add to and take from the logits of single tokens: biases and penalties."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Self

import torch

from ml.generation.request import SamplingParameters

__all__ = ["TokenWeights", "weigh"]


class TokenWeights:
    """The tokens whose logits one request changes, and how; all others stay as they are."""

    def __init__(self, parameters: SamplingParameters, prompt: Sequence[int]) -> None:
        self._parameters = parameters
        self._answered: Counter[int] = Counter()
        self._places: dict[int, int] = {}
        self.ids = torch.empty(0, dtype=torch.long)
        #: Of each token what is added to its logit, what its repetition penalty is, and what is
        #: taken from it then.
        self.table = torch.empty(0, 3)
        self._set({id_: (bias, 1.0, 0.0) for id_, bias in parameters.logit_bias.items()})
        if parameters.repetition_penalty != 1:
            self._repeat(prompt)

    @classmethod
    def of(cls, parameters: SamplingParameters, prompt: Sequence[int]) -> Self | None:
        """Return the weights of a request, or None where it has none."""
        penalties = parameters.frequency_penalty, parameters.presence_penalty
        if parameters.repetition_penalty == 1 and not (any(penalties) or parameters.logit_bias):
            return None
        return cls(parameters, prompt)

    def count(self, token_id: int) -> None:
        """Take account of a token of the answer."""
        self._answered[token_id] += 1
        self._repeat([token_id])

    def _repeat(self, tokens: Sequence[int]) -> None:
        given = self._parameters
        rows = {}
        for id_ in dict.fromkeys(tokens):
            times = self._answered[id_]
            taken = given.frequency_penalty * times + given.presence_penalty * bool(times)
            rows[id_] = (given.logit_bias.get(id_, 0.0), given.repetition_penalty, taken)
        self._set(rows)

    def _set(self, rows: dict[int, tuple[float, float, float]]) -> None:
        new = [id_ for id_ in rows if id_ not in self._places]
        for id_ in new:
            self._places[id_] = len(self._places)
        self.ids = torch.cat([self.ids, torch.tensor(new, dtype=torch.long)])
        self.table = torch.cat([self.table, torch.empty(len(new), 3)])
        if rows:
            self.table[[self._places[id_] for id_ in rows]] = torch.tensor(list(rows.values()))


def weigh(logits: torch.Tensor, weights: Sequence[TokenWeights | None]) -> None:
    """Change the rows of logits in place, each by its own weights, all in few operations."""
    present = [(row, one) for row, one in enumerate(weights) if one is not None]
    if not present:
        return
    rows = torch.cat([torch.full_like(one.ids, row) for row, one in present]).to(logits.device)
    ids = torch.cat([one.ids for _, one in present]).to(logits.device)
    table = torch.cat([one.table for _, one in present]).to(logits.device)
    bias, repetition, taken = table.unbind(1)
    changed = logits[rows, ids] + bias
    changed = torch.where(changed < 0, changed * repetition, changed / repetition)
    logits[rows, ids] = changed - taken
