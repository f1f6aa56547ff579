"""Measures what bfloat16 and OpenVINO's weights change in the embedded model's predictions.

    python -m benchmarks.llm_quality

Reads short texts token by token (teacher-forced) and compares the distributions over the next
token with those of float32; of OpenVINO, whose engine scores the texts, the perplexity alone.
"""

from __future__ import annotations

import argparse
import asyncio
import math
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from benchmarks.figures import Figure
from benchmarks.results import recording
from ml.generation.arguments import LanguageModelArguments
from ml.generation.language_model import LanguageModel
from ml.models.causal_lm import CausalLMOptions, load_causal_lm
from ml.models.embedded_llm import EMBEDDED_LLM
from ml.models.openvino_model import Weights

#: Two in the public domain (Carroll, Lincoln), three written for this file.
TEXTS = (
    "Alice was beginning to get very tired of sitting by her sister on the bank, and of having "
    "nothing to do: once or twice she had peeped into the book her sister was reading, but it had "
    'no pictures or conversations in it, "and what is the use of a book," thought Alice, "without '
    'pictures or conversations?" So she was considering in her own mind, as well as she could, for '
    "the hot day made her feel very sleepy and stupid, whether the pleasure of making a "
    "daisy-chain would be worth the trouble of getting up and picking the daisies.",
    "Four score and seven years ago our fathers brought forth on this continent, a new nation, "
    "conceived in Liberty, and dedicated to the proposition that all men are created equal. Now we "
    "are engaged in a great civil war, testing whether that nation, or any nation so conceived and "
    "so dedicated, can long endure. We are met on a great battle-field of that war.",
    "A rainwater tank keeps a garden alive through a dry month, but only if three things are "
    "right. The pipe from the roof needs a filter that can be reached without a ladder. The lid "
    "has to close well enough that neither light nor mosquitoes get in, because light grows algae. "
    "And the overflow must lead away from the wall of the house, or the cellar will be the first "
    "place to be watered. A tank of one thousand litres is full after about twenty millimetres of "
    "rain on a roof of fifty square metres.",
    "def median(values):\n"
    '    """Return the middle value, or the mean of the two in the middle."""\n'
    "    ordered = sorted(values)\n"
    "    if not ordered:\n"
    '        raise ValueError("no values")\n'
    "    half = len(ordered) // 2\n"
    "    if len(ordered) % 2:\n"
    "        return ordered[half]\n"
    "    return (ordered[half - 1] + ordered[half]) / 2\n",
    "Question: A train leaves at 9:40 and arrives at 12:15. How long is the journey?\n"
    "Answer: From 9:40 to 10:00 are 20 minutes, from 10:00 to 12:00 are 2 hours, and from 12:00 "
    "to 12:15 are 15 minutes. Together that is 2 hours and 35 minutes.\n"
    "Question: A shop sells pencils at 3 for 2 euros. What do 12 pencils cost?\n"
    "Answer: 12 pencils are 4 times 3 pencils, so they cost 4 times 2 euros, which is 8 euros.\n",
)


@dataclass(frozen=True)
class Predictions:
    """What a model expects after every token of all texts but their last."""

    log_probabilities: torch.Tensor  # float32 [tokens, vocabulary]
    following: torch.Tensor  # int64 [tokens]: what does follow

    def perplexity(self) -> float:
        return float(cross_entropy(self.log_probabilities, self.following).exp())

    def divergence(self, reference: Predictions) -> torch.Tensor:
        """Return KL(reference || self) of every token, in nats."""
        ours, theirs = self.log_probabilities, reference.log_probabilities
        return kl_div(ours, theirs, reduction="none", log_target=True).sum(-1)

    def agreement(self, reference: Predictions) -> float:
        """Return how often the likeliest token is the same."""
        ours, theirs = self.log_probabilities.argmax(-1), reference.log_probabilities.argmax(-1)
        return float((ours == theirs).float().mean())


@torch.inference_mode()
def predictions(dtype: str) -> Predictions:
    options = CausalLMOptions.model_validate({"dtype": dtype, "device": "cpu"})
    loaded = load_causal_lm(EMBEDDED_LLM, options)
    expected, following = [], []
    for text in TEXTS:
        ids = loaded.tokenizer(text, return_tensors="pt").input_ids
        logits = loaded.model(input_ids=ids).logits[0, :-1]
        expected.append(log_softmax(logits.float(), dim=-1))
        following.append(ids[0, 1:])
    return Predictions(torch.cat(expected), torch.cat(following))


def openvino_perplexity(weights: Weights) -> float:
    """Return it by OpenVINO, which tells the probability of the tokens that do follow alone."""
    model = LanguageModel(LanguageModelArguments(engine="openvino", weights=weights))
    model.load()
    try:
        read = model.loaded.tokenizer
        prompts = [model.complete(read(text).input_ids) for text in TEXTS]
        scored = asyncio.run(model.score(prompts))
    finally:
        model.close()
    logprobs = [token.logprob for tokens in scored for token in tokens]
    return math.exp(-sum(logprobs) / len(logprobs))


def main() -> None:
    argparse.ArgumentParser(prog="benchmarks.llm_quality", description=__doc__).parse_args()
    with recording("llm_quality") as record:
        reference = predictions("float32")
        title = f"weights; {len(TEXTS)} texts, {len(reference.following)} predicted tokens"
        columns = ("perplexity", "KL(float32), mean", "99 %", "largest", "same likeliest token")
        table = record.table(title, *columns)
        for name, one in {"float32": reference, "bfloat16": predictions("bfloat16")}.items():
            divergence = one.divergence(reference)
            table.row(
                name,
                Figure.of(one.perplexity(), places=3),
                Figure.of(float(divergence.mean()), places=5),
                Figure.of(float(divergence.quantile(0.99)), places=4),
                Figure.of(float(divergence.max()), places=4),
                Figure.of(100 * one.agreement(reference), places=1, unit="%"),
            )
        for weights in ("fp16", "int8"):
            perplexity = Figure.of(openvino_perplexity(weights), places=3)
            table.row(f"openvino, {weights}", perplexity, "", "", "", "")


if __name__ == "__main__":
    main()
