"""Whether two forms of one model say the same.

Both are asked the same prompts. Greedy texts may part at a near-tie that rounding decides, so what
counts is the divergence: the mean Kullback-Leibler divergence, in nats, of the next token's
distributions along the first one's own greedy answers. Rounding weights to 16 bits gives about
0.002, to 8 about 0.003, to 5 about 0.06, to 4 up to 0.7 in a small model, and a lost adapter gives
around 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ml.finetuning.asking import greedy, question
from ml.models.gguf_weights import GGUFType, bits_of

__all__ = ["Observation", "compare", "most_divergence", "observe", "probe_prompts"]

_MOST_DIVERGENCE, _MOST_OF_FEW_BITS = 0.1, 1.0
_NEW_TOKENS = 12
_LONGEST_PROMPT = 256
_QUESTIONS = ("What is the capital of France?", "Write one sentence about the sea.")


@dataclass(frozen=True)
class Observation:
    """What a model says to some prompts.

    Attributes:
        prompts: token ids.
        answers: the greedy tokens after each prompt.
        distributions: for each prompt the log-probabilities along its answer, a float32 tensor of
            shape `(tokens, vocabulary)`.
    """

    prompts: list[list[int]]
    answers: list[list[int]]
    distributions: list[Any]


def most_divergence(weights: GGUFType | None) -> float:
    """Return with how much more a form, of such weights, is not the same model any more."""
    return _MOST_OF_FEW_BITS if weights is not None and bits_of(weights) < 8 else _MOST_DIVERGENCE


def probe_prompts(tokenizer: Any, examples: Sequence[Any] = ()) -> list[list[int]]:
    """Return two fixed questions, and the beginnings of two examples that were trained on.

    Without examples, as when the data of a training is gone by now, there are the questions alone.
    """
    prompts = [question(tokenizer, text) for text in _QUESTIONS]
    for example in (examples[0], examples[len(examples) - 1]) if len(examples) else ():
        ids, labels = example["input_ids"], example["labels"]
        trained = next(index for index, label in enumerate(labels) if label != -100)
        prompts.append(ids[: trained or (len(ids) + 1) // 2][-_LONGEST_PROMPT:])
    return prompts


def observe(model: Any, prompts: list[list[int]]) -> Observation:
    """Ask a model: what it answers, and how likely it finds each token of that."""
    import torch

    with torch.inference_mode():
        answers = [greedy(model, prompt, _NEW_TOKENS) for prompt in prompts]
    return Observation(prompts, answers, distributions(model, prompts, answers))


def distributions(model: Any, prompts: list[list[int]], answers: list[list[int]]) -> list[Any]:
    """Return the log-probabilities of a model along given answers."""
    import torch

    with torch.inference_mode():
        return [
            _logits(model, prompt + answer)[-len(answer) - 1 : -1].log_softmax(-1)
            for prompt, answer in zip(prompts, answers, strict=True)
        ]


def _logits(model: Any, ids: list[int]) -> Any:
    import torch

    inputs = torch.tensor([ids], device=model.device)
    return model(input_ids=inputs, use_cache=False).logits[0].float().cpu()


def compare(adapter: Observation, model: Any, *, texts: bool = True) -> dict[str, Any]:
    """Return how much a model is like the one observed.

    `agreement` is the share of tokens that both find likeliest, `divergence` is in nats, and with
    `texts` there are `identical_texts`, of so many `prompts`.
    """
    import torch

    same, tokens, divergence = 0, 0, 0.0
    found = distributions(model, adapter.prompts, adapter.answers)
    for one, two in zip(adapter.distributions, found, strict=True):
        shared = min(one.shape[-1], two.shape[-1])  # one may have a padded vocabulary
        one, two = one[:, :shared], two[:, :shared]
        same += int((one.argmax(-1) == two.argmax(-1)).sum())
        tokens += len(one)
        divergence += float((one.exp() * (one - two)).sum())
    alike = {
        "agreement": round(same / tokens, 4),
        "divergence": round(max(divergence / tokens, 0.0), 6),
    }
    if not texts:
        return alike
    with torch.inference_mode():
        answers = [greedy(model, prompt, _NEW_TOKENS) for prompt in adapter.prompts]
    identical = sum(one == two for one, two in zip(adapter.answers, answers, strict=True))
    return {**alike, "identical_texts": identical, "prompts": len(answers)}
