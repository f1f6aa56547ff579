"""Choosing the next token of each row of a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ml.generation.request import SamplingParameters, Token

__all__ = ["choose", "new_generator"]


def new_generator(parameters: SamplingParameters) -> torch.Generator:
    """Return the source of randomness of one request."""
    generator = torch.Generator()
    if parameters.seed is None:
        generator.seed()
    else:
        generator.manual_seed(parameters.seed)
    return generator


def choose(
    logits: torch.Tensor, requests: Sequence[tuple[SamplingParameters, torch.Generator]]
) -> list[Token | None]:
    """Return a token for each row of logits, shape `(rows, vocabulary)`.

    None stands for a row whose logits are not finite, which has no token.
    """
    logits = logits.float()
    ids = logits.argmax(dim=-1).tolist()
    totals = logits.logsumexp(dim=-1)
    healthy = totals.isfinite().tolist()
    for row, (parameters, generator) in enumerate(requests):
        if healthy[row] and parameters.temperature > 0:
            ids[row] = _sample(logits[row].cpu(), parameters, generator)
    chosen = logits.gather(1, torch.tensor(ids, device=logits.device)[:, None])[:, 0]
    logprobs = (chosen - totals).tolist()
    return [
        Token(id_, logprob) if ok and math.isfinite(logprob) else None
        for id_, logprob, ok in zip(ids, logprobs, healthy, strict=True)
    ]


def _sample(
    logits: torch.Tensor, parameters: SamplingParameters, generator: torch.Generator
) -> int:
    logits = (logits - logits.max()) / parameters.temperature
    if not parameters.top_k and parameters.top_p >= 1:
        return int(torch.multinomial(logits.softmax(dim=-1), 1, generator=generator))
    kept = min(parameters.top_k or logits.numel(), logits.numel())
    logits, ids = logits.topk(kept)  # sorted, likeliest first
    probabilities = logits.softmax(dim=-1)
    # Nucleus: the smallest set whose probabilities reach top_p, the likeliest always among them.
    before = probabilities.cumsum(dim=-1) - probabilities
    probabilities[1:][before[1:] >= parameters.top_p] = 0
    return int(ids[torch.multinomial(probabilities, 1, generator=generator)])
