"""Grammars of answer forms in the words of llguidance, and what they may cost."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, regex_to_lark

from ml.errors import InvalidInput
from ml.generation.answer_form import AnswerForm, JsonAnswer, RegexAnswer, TaggedAnswer
from ml.json_text import read_json

__all__ = ["LIMITS", "grammar_of", "refusal", "require_begin", "require_form"]

#: Of a form's texts together: a step under a literal text of this length takes 50 ms.
_MOST_CHARACTERS = 65_536

LIMITS = LLParserLimits(
    max_items_in_row=10_000,  # an object with 2,500 optional properties
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=200_000,  # 15 ms
    step_max_items=50_000,
    max_lexer_states=10_000,  # 2 kB each
    max_grammar_size=50_000,
    verbose_errors=False,  # which tell what the answer says so far
)

#: What llguidance says of a regular expression that matches nothing.
_NO_TEXT = "NoExtensionBias"
#: Where in a grammar of ours the fault is.
_PLACE = re.compile(r"^(ERROR: )?at \d+\(\d+\): ")

#: Models that are no good at JSON write spaces without end where they may.
_JSON_OPTIONS: dict[str, Any] = {
    "item_separator": ",",
    "key_separator": ":",
    "whitespace_pattern": r"[ ]|\n[ ]{0,16}",
    "coerce_one_of": False,
    "lenient": False,
    "json_allowed_escapes": r"nrbtf\"u",
    "json_allow_general_unicode_escapes": False,
}
if LLMatcher.validate_grammar("start: %json " + json.dumps({"x-guidance": _JSON_OPTIONS})):
    # vLLM pins an llguidance that does not know these: its JSON may have all escapes.
    for _option in ("json_allowed_escapes", "json_allow_general_unicode_escapes"):
        del _JSON_OPTIONS[_option]


def require_form(form: AnswerForm) -> None:
    """Raise `InvalidInput` for a form that no answer can have, or that costs too much."""
    require_begin(form, LLMatcher(_bytes(), grammar_of(form), log_level=0, limits=LIMITS))


def require_begin(form: AnswerForm, matcher: LLMatcher) -> None:
    """Raise `InvalidInput` for a form's new matcher that has failed, or lets nothing follow."""
    may_follow = not matcher.is_error() and any(matcher.compute_bitmask())
    if matcher.is_error():
        raise refusal(form, matcher.get_error())
    if not may_follow:
        raise InvalidInput(f"{_name(form)}: no text matches it")


def grammar_of(form: AnswerForm) -> str:
    """Return a form's grammar. Raises `InvalidInput` where its texts are none already."""
    if isinstance(form, JsonAnswer):
        _require_short(form, form.schema)
        return LLMatcher.grammar_from_lark(f"start: {_json(form.schema)}\n")
    if isinstance(form, RegexAnswer):
        _require_short(form, form.pattern)
        # `\d` and `\w` are ASCII, as in JavaScript and JSON Schemas.
        return LLMatcher.grammar_from_lark(f"start: /{regex_to_lark(form.pattern, 'dw')}/\n")
    _require_short(form, *(text for tag in form.tags for text in (tag.begin, tag.schema, tag.end)))
    return LLMatcher.grammar_from_lark(_tagged(form))


def refusal(form: AnswerForm, told: str) -> InvalidInput:
    """Return the error for a form that llguidance does not take, with what it told of it."""
    lines = told.splitlines() or [""]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    what = (errors or [_PLACE.sub("", lines[0])])[0]
    if what == _NO_TEXT:
        return InvalidInput(f"{_name(form)}: no text matches it")
    if not what or "panic" in what or "limit" in what or "too many" in what:
        what = "it is too large or too complex"
    return InvalidInput(f"{_name(form)}: no answer can be held to it: {what[:300]}")


class _Bytes:
    """A tokenizer as llguidance asks for it, whose tokens are bytes."""

    is_tokenizer_wrapper = True
    bos_token_id = None
    eos_token_id = 256
    special_token_ids = (256,)
    tokens = (*(bytes([one]) for one in range(256)), b"<end>")

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


@cache
def _bytes() -> LLTokenizer:
    tokenizer: Any = _Bytes()
    return LLTokenizer(tokenizer)


def _name(form: AnswerForm) -> str:
    if isinstance(form, RegexAnswer):
        return "the regular expression"
    return "a tool's schema" if isinstance(form, TaggedAnswer) else "the JSON Schema"


def _require_short(form: AnswerForm, *texts: str) -> None:
    length = sum(map(len, texts))
    if length > _MOST_CHARACTERS:
        raise InvalidInput(
            f"{_name(form)}: {length} characters are too many; {_MOST_CHARACTERS} may be"
        )


def _json(schema: str) -> str:
    """Return the part of a grammar for JSON of a schema."""
    try:
        read = read_json(schema)
        if isinstance(read, dict):
            # A schema may set options of its own here, which would take its keywords' effect.
            return "%json " + json.dumps(read | {"x-guidance": _JSON_OPTIONS})
    except ValueError as error:
        raise InvalidInput(f"the JSON Schema cannot be read: {error}") from error
    raise InvalidInput("a JSON Schema is an object, such as {}, which is any JSON")


def _tagged(form: TaggedAnswer) -> str:
    """Return the grammar of a text with tags; `call` is text up to a trigger, and a tag."""
    if not form.tags or not form.trigger:
        raise InvalidInput("a tagged answer has a trigger and at least one tag")
    first, more = f"{_text(form.trigger)} tag", "call* TEXT" if form.several else ""
    if not form.required:
        first, more = "", more or "call | TEXT"
    lines = [
        f"start: {first} {more}",
        r"TEXT: /(.|\n)*/",
        f"opened[lazy]: TEXT {_text(form.trigger)}",
        "call: opened tag",
        "tag: " + " | ".join(f"tag_{number}" for number in range(len(form.tags))),
    ]
    for number, tag in enumerate(form.tags):
        if not tag.begin.startswith(form.trigger):
            raise InvalidInput(f"a tag begins with {form.trigger!r}, not with {tag.begin[:100]!r}")
        rest = tag.begin.removeprefix(form.trigger)
        lines.append(f"tag_{number}: {_text(rest)} {_json(tag.schema)} {_text(tag.end)}")
    return "\n".join(lines) + "\n"


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text else ""
