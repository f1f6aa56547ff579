"""Our words for how tokens are chosen in vLLM's, and its tokens in ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ml.generation.answer_form import AnswerForm
from ml.generation.answer_grammar import grammar_of
from ml.generation.request import SamplingParameters, Token

__all__ = ["sampling_params", "scoring_params", "token_of"]

_LOWEST_TEMPERATURE = 1e-2  # vLLM's own floor for sampling


def sampling_params(parameters: SamplingParameters, *, room: int, end_tokens: Sequence[int]) -> Any:
    """Return vLLM's `SamplingParams`, for an answer of at most `room` tokens."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    sampled = parameters.temperature > 0 and parameters.top_p > 0
    chosen: dict[str, Any] = {"temperature": 0.0}
    if sampled:
        chosen = {
            "temperature": max(parameters.temperature, _LOWEST_TEMPERATURE),
            "top_p": parameters.top_p,
            "top_k": parameters.top_k,
            "min_p": parameters.min_p,
            "seed": parameters.seed,
        }
    return SamplingParams(
        max_tokens=min(parameters.max_new_tokens, room),
        repetition_penalty=parameters.repetition_penalty,
        frequency_penalty=parameters.frequency_penalty,
        presence_penalty=parameters.presence_penalty,
        logit_bias=dict(parameters.logit_bias) or None,
        ignore_eos=parameters.ignore_eos,
        stop_token_ids=None if parameters.ignore_eos else list(end_tokens),
        # Beside the chosen token's own.
        logprobs=parameters.top_logprobs if parameters.logprobs else None,
        structured_outputs=_structured(parameters.form),
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        **chosen,
    )


def _structured(form: AnswerForm | None) -> Any:
    """Return a form in vLLM's words; it asks llguidance there, as the engine transformers does."""
    from vllm.sampling_params import StructuredOutputsParams

    return None if form is None else StructuredOutputsParams(grammar=grammar_of(form))


def scoring_params(top_logprobs: int) -> Any:
    """Return vLLM's `SamplingParams` for the logprobs of a prompt."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        max_tokens=1,
        temperature=0.0,
        prompt_logprobs=top_logprobs,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def token_of(id_: int, logprobs: Mapping[int, Any] | None, top_logprobs: int) -> Token:
    """Return a token with its logprob, if it is told, and the likeliest ones in its place."""
    if logprobs is None:
        return Token(id_)
    ranked = sorted(logprobs.items(), key=lambda one: one[1].rank)
    top = tuple((other, one.logprob) for other, one in ranked[:top_logprobs])
    return Token(id_, logprobs[id_].logprob, top)
