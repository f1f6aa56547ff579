"""Keeps secrets out of what people are shown: the settings, faults in them, and the log.

Two things tell a secret: the name that it stands under, and its form within a text. A value under
a telling name is hidden whole, at any depth.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

__all__ = ["HIDDEN", "hide_arguments", "hide_in_event", "hide_in_text", "hide_secrets"]

HIDDEN = "**********"

_WORDS = (
    r"(?:access|auth|client|hub|hf|id|private|refresh|secret|session)?[_-]?"
    r"(?:api[_-]?keys?|auth|authorization|bearer|cookies?|credentials?|jwt|key|passphrase|passwd|"
    r"password|pwd|secret|session|sig|signature|token)"
)
#: Tokens that say what they are.
_OPEN_FORMS = r"\b(?:hf|sk|pk|rk|ghp|gho|glpat|xox[abps])[-_][A-Za-z0-9_-]{8,}"
#: Endings of names whose values are secrets: hf_token, X-API-Key; not tokenizer, not max_tokens.
#: Of headers, any may be one.
_SECRET_NAME = re.compile(rf"(?:^|[ _.-])(?:{_WORDS}|headers)(?: |$)")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_IN_TEXTS = (
    # the user and the password of an address
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/?#\s'\"]*@", re.IGNORECASE), rf"\1{HIDDEN}@"),
    # the same without its scheme
    (re.compile(r"((?:^|[\s'\"=]))[^\s:/@'\"]+:[^\s@/'\"]+@(?=[\w.-])"), rf"\1{HIDDEN}@"),
    # name=value: in a query, in a connection string
    (
        re.compile(
            rf"((?:^|[?#&;,\s'\"])(?:[a-z0-9]+[_.-])*{_WORDS}=)[^&;#,\s'\"]+", re.IGNORECASE
        ),
        rf"\1{HIDDEN}",
    ),
    # the value of a header
    (
        re.compile(r"\b(bearer|basic)(\s+)(?=\S*[0-9=])[a-z0-9._~+/=-]{3,}", re.IGNORECASE),
        rf"\1\2{HIDDEN}",
    ),
    (
        re.compile(r"((?:authorization|cookie)['\"]?\s*[:=,]\s*['\"]?)[^'\"\n]+", re.IGNORECASE),
        rf"\1{HIDDEN}",
    ),
    (re.compile(_OPEN_FORMS), HIDDEN),
)
#: Most texts have none of this, and are not looked at five times.
_SUSPECT = re.compile(rf"://|=|@|(?i:bearer|basic|authorization|cookie)|{_OPEN_FORMS}")


def hide_secrets(value: Any, *, under: str = "") -> Any:
    """Return plain data with its secrets hidden; `under` are the names that it stands under."""
    if isinstance(value, dict):
        return {
            key: hide_secrets(item, under=f"{under} {_plain(key)}") for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        if len(value) == 2 and isinstance(value[0], str) and _is_secret(_plain(value[0])):
            return [value[0], HIDDEN]  # a header, written as a pair
        return [hide_secrets(item, under=under) for item in value]
    if value is not None and _is_secret(under):
        return HIDDEN
    return hide_in_text(value) if isinstance(value, str) else value


def hide_arguments(values: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """Return positional arguments with their secrets hidden, by the names of their parameters."""
    named = [*names, *[""] * len(values)]
    return [
        hide_secrets(value, under=f" {_plain(name)}")
        for value, name in zip(values, named, strict=False)
    ]


def hide_in_text(text: str) -> str:
    """Return a text without what looks like a secret in it."""
    if not _SUSPECT.search(text):
        return text
    for form, instead in _IN_TEXTS:
        text = form.sub(instead, text)
    return text


def hide_in_event(_logger: Any, _method: str, event: Any) -> Any:
    """Hide secrets in the texts of a log line; a structlog processor."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = hide_in_text(value)
    return event


def _plain(name: object) -> str:
    return _CAMEL.sub("_", str(name)).lower()


def _is_secret(names: str) -> bool:
    return _SECRET_NAME.search(names) is not None
