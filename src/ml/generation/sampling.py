"""Choosing the next token of each row of a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ml.generation.answer_matcher import AnswerMatcher, restrict
from ml.generation.request import SamplingParameters, Token
from ml.generation.token_weights import TokenWeights, weigh

__all__ = ["Sampler", "choose"]

#: So many of the likeliest tokens are sorted; all of them only where these do not decide.
_LIKELIEST = 512
_LOWEST_TEMPERATURE = 1e-30


class Sampler:
    """How the tokens of one request are chosen, and what that depends on."""

    def __init__(
        self,
        parameters: SamplingParameters,
        prompt: Sequence[int],
        matcher: AnswerMatcher | None = None,
    ) -> None:
        self.parameters = parameters
        self.matcher = matcher
        self.weights = TokenWeights.of(parameters, prompt)
        self._random = torch.Generator()
        if parameters.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(parameters.seed)

    @property
    def changes_logits(self) -> bool:
        """Whether tokens are chosen by other logits than the model's."""
        return self.weights is not None or self.matcher is not None

    @property
    def is_complete(self) -> bool:
        """Whether the answer has all of its form."""
        return self.matcher is not None and self.matcher.is_complete

    @property
    def fault(self) -> Exception | None:
        """Why no token can be chosen, if the logits are not to blame."""
        return self.matcher.fault if self.matcher is not None else None

    def draw(self) -> float:
        """Return a random number in [0, 1), another one each time."""
        return float(torch.rand((), generator=self._random, dtype=torch.float64))

    def accept(self, token_id: int) -> None:
        """Take account of a token that was chosen."""
        if self.weights is not None:
            self.weights.count(token_id)
        if self.matcher is not None:
            self.matcher.accept(token_id)


def choose(logits: torch.Tensor, samplers: Sequence[Sampler]) -> list[Token | None]:
    """Return a token for each row of logits, shape `(rows, vocabulary)`.

    None stands for a row whose logits are not finite, or whose sampler has a fault.
    """
    logits = logits.float()
    totals = logits.logsumexp(dim=-1)
    weighed = _weighed(logits, samplers)
    healthy = [
        finite and sampler.fault is None
        for finite, sampler in zip(totals.isfinite().tolist(), samplers, strict=True)
    ]
    ids = weighed.argmax(dim=-1).tolist()
    sampled = [row for row, ok in enumerate(healthy) if ok and samplers[row].parameters.temperature]
    if sampled:
        drawn = _sample(weighed[sampled], [samplers[row] for row in sampled])
        for row, id_ in zip(sampled, drawn, strict=True):
            ids[row] = id_
    chosen = logits.gather(1, torch.tensor(ids, device=logits.device)[:, None])[:, 0]
    logprobs = (chosen - totals).tolist()
    tops = _tops(logits, totals, samplers)
    tokens = [
        Token(id_, logprob, top) if ok and math.isfinite(logprob) else None
        for id_, logprob, top, ok in zip(ids, logprobs, tops, healthy, strict=True)
    ]
    for sampler, token in zip(samplers, tokens, strict=True):
        if token is not None:
            sampler.accept(token.id)
    return tokens


def likeliest(
    logits: torch.Tensor, totals: torch.Tensor, number: int
) -> list[tuple[tuple[int, float], ...]]:
    """Return the likeliest tokens of each row with their logprobs; `totals` is its logsumexp."""
    values, ids = logits.topk(min(number, logits.shape[1]))
    logprobs = (values - totals[:, None]).tolist()
    return [tuple(zip(*row, strict=True)) for row in zip(ids.tolist(), logprobs, strict=True)]


def _tops(
    logits: torch.Tensor, totals: torch.Tensor, samplers: Sequence[Sampler]
) -> list[tuple[tuple[int, float], ...]]:
    numbers = [sampler.parameters.top_logprobs for sampler in samplers]
    if not any(numbers):
        return [()] * len(numbers)
    most = likeliest(logits, totals, max(numbers))
    return [top[:number] for top, number in zip(most, numbers, strict=True)]


def _weighed(logits: torch.Tensor, samplers: Sequence[Sampler]) -> torch.Tensor:
    """Return the logits that tokens are chosen by: the model's own where nobody changes them."""
    if not any(sampler.changes_logits for sampler in samplers):
        return logits
    logits = logits.clone()
    weigh(logits, [sampler.weights for sampler in samplers])
    restrict(logits, [sampler.matcher for sampler in samplers])
    return logits


def _sample(logits: torch.Tensor, samplers: Sequence[Sampler]) -> list[int]:
    """Return a token for each row."""
    asked = [sampler.parameters for sampler in samplers]
    draws = torch.tensor([s.draw() for s in samplers], dtype=torch.float64, device=logits.device)
    everything = logits.shape[1]
    few = min(max(one.top_k + 1 if one.top_k else _LIKELIEST for one in asked), everything)
    ids, decided = _decide(logits, asked, draws, few)
    rest = [row for row, done in enumerate(decided) if not done]
    if rest:
        more, _ = _decide(logits[rest], [asked[row] for row in rest], draws[rest], everything)
        for row, id_ in zip(rest, more, strict=True):
            ids[row] = id_
    return ids


def _decide(
    logits: torch.Tensor, asked: Sequence[SamplingParameters], draws: torch.Tensor, number: int
) -> tuple[list[int], list[bool]]:
    """Return a token for each row, and whether the likeliest so many tokens decide which it is.

    The tokens that are kept share [0, 1), likeliest first, and the one that `draws` hits is taken.
    """
    values, ids = logits.topk(number)  # sorted
    probabilities = (_cooled(values, values, asked) - _totals(logits, values, asked)).exp().double()
    reached = probabilities.cumsum(dim=1)
    kept = _kept(probabilities, reached, asked).sum(dim=1)
    mass = reached.gather(1, kept[:, None] - 1)[:, 0]
    keeps_all = torch.tensor([_keeps_all(one) for one in asked], device=logits.device)
    # What is kept goes on behind these, where all is.
    targets = torch.where(keeps_all & (number < logits.shape[1]), draws, draws * mass)
    places = torch.minimum((reached <= targets[:, None]).sum(dim=1), kept - 1)
    decided = torch.where(keeps_all, targets < mass, kept < number)
    return ids.gather(1, places[:, None])[:, 0].tolist(), decided.tolist()


def _cooled(
    logits: torch.Tensor, sorted_: torch.Tensor, asked: Sequence[SamplingParameters]
) -> torch.Tensor:
    """Return logits divided by their temperatures; the likeliest becomes 0, whichever it is."""
    temperatures = torch.tensor([one.temperature for one in asked], device=logits.device)
    return (logits - sorted_[:, :1]) / temperatures.clamp(min=_LOWEST_TEMPERATURE)[:, None]


def _totals(
    logits: torch.Tensor, sorted_: torch.Tensor, asked: Sequence[SamplingParameters]
) -> torch.Tensor:
    """Return the logsumexp of each row; with top_k, of what is sorted, which is enough then."""
    totals = _cooled(sorted_, sorted_, asked).logsumexp(dim=1, keepdim=True)
    whole = [row for row, one in enumerate(asked) if not one.top_k]
    if whole:
        rows = _cooled(logits[whole], sorted_[whole], [asked[row] for row in whole])
        totals[whole] = rows.logsumexp(dim=1, keepdim=True)
    return totals


def _keeps_all(asked: SamplingParameters) -> bool:
    return not asked.top_k and asked.top_p >= 1 and asked.min_p <= 0


def _kept(
    probabilities: torch.Tensor, reached: torch.Tensor, asked: Sequence[SamplingParameters]
) -> torch.Tensor:
    """Return which of the tokens, likeliest first, may be taken; the first always may.

    Of the `top_k` likeliest the fewest whose probabilities reach `top_p`, without those that are
    less likely than `min_p` times the first.
    """
    number, device = probabilities.shape[1], probabilities.device
    most = [min(one.top_k or number, number) for one in asked]
    ends = torch.tensor(most, device=device)[:, None]
    # Without top_k all tokens share the probability, also those that are not here.
    parts = reached.gather(1, ends - 1)
    parts[[not one.top_k for one in asked]] = 1
    top_p = torch.tensor([one.top_p for one in asked], device=device)[:, None]
    min_p = torch.tensor([one.min_p for one in asked], device=device)[:, None]
    kept = torch.arange(number, device=device) < ends
    kept &= (reached - probabilities < top_p * parts) | (top_p >= 1)
    kept &= probabilities >= min_p * probabilities[:, :1]
    kept[:, 0] = True
    return kept
