"""A request in the words of OpenVINO GenAI."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from ml.generation.answer_form import AnswerForm, JsonAnswer, RegexAnswer, TaggedAnswer
from ml.generation.held_schemas import require_held
from ml.generation.json_grammar import UnknownToGrammar, json_grammar
from ml.generation.request import SamplingParameters

__all__ = ["config_fields", "guessing_fields", "is_sampled", "new_config"]

#: Tokens at the end of what was written that are looked for in the prompt, at most.
_NGRAM = 3
#: Tokens that a draft model guesses for a step.
_DRAFTED = 4


def config_fields(
    parameters: SamplingParameters, *, room: int, end_tokens: Sequence[int]
) -> dict[str, Any]:
    """Return the fields of the library's GenerationConfig, but for `form`, which stays as it is.

    `room` is how many tokens an answer may have at most. An answer of a form ends with it, also
    where `ignore_eos` is set.
    """
    fields: dict[str, Any] = {
        "max_new_tokens": min(parameters.max_new_tokens, room),
        "logprobs": int(parameters.logprobs),  # of the chosen token alone
        "stop_token_ids": set(end_tokens),
        "ignore_eos": (parameters.ignore_eos and parameters.form is None) or not end_tokens,
        "repetition_penalty": parameters.repetition_penalty,
        "frequency_penalty": parameters.frequency_penalty,
        "presence_penalty": parameters.presence_penalty,
    }
    if end_tokens:
        fields["eos_token_id"] = end_tokens[0]
    if parameters.form is not None:
        fields["form"] = parameters.form
    if is_sampled(parameters):
        seed = parameters.seed
        fields |= {
            "do_sample": True,
            "temperature": parameters.temperature,
            "top_p": parameters.top_p,
            "min_p": parameters.min_p,
            "rng_seed": random.getrandbits(32) if seed is None else seed,
        }
        if parameters.top_k:
            fields["top_k"] = parameters.top_k
    return fields


def is_sampled(parameters: SamplingParameters) -> bool:
    """Return whether another token than the likeliest can be chosen."""
    return parameters.temperature > 0 and parameters.top_p > 0 and parameters.min_p < 1


def guessing_fields(prompt_lookup: int | None, drafts: bool) -> dict[str, Any]:
    """Return what each request has to say where tokens are guessed before they are made."""
    if prompt_lookup is not None:
        return {"num_assistant_tokens": prompt_lookup, "max_ngram_size": _NGRAM}
    return {"num_assistant_tokens": _DRAFTED} if drafts else {}


def new_config(fields: dict[str, Any]) -> Any:
    """Return the library's GenerationConfig of such fields."""
    from openvino_genai import GenerationConfig  # type: ignore[import-untyped]

    known = {name: value for name, value in fields.items() if name != "form"}
    if (form := fields.get("form")) is not None:
        known["structured_output_config"] = _structured_output(form)
    return GenerationConfig(**known)


def _structured_output(form: AnswerForm) -> Any:
    from openvino_genai import StructuredOutputConfig as Config

    match form:
        case JsonAnswer(schema):
            content = _json_content(schema)
            if isinstance(content, Config.EBNF):
                return Config(grammar=content.value)
            return Config(json_schema=schema)
        case RegexAnswer(pattern):
            return Config(regex=pattern)
        case TaggedAnswer():
            tags = [Config.Tag(t.begin, _json_content(t.schema), t.end) for t in form.tags]
            triggered = Config.TriggeredTags(
                triggers=[form.trigger],
                tags=tags,
                at_least_one=form.required,
                stop_after_first=not form.several,
            )
            return Config(structural_tags_config=triggered)


def _json_content(schema: str) -> Any:
    from openvino_genai import StructuredOutputConfig as Config

    try:
        return Config.EBNF(json_grammar(schema))
    except UnknownToGrammar:
        require_held(schema)
        return Config.JSONSchema(schema)
