"""What the log says about a refused request: why, without what the caller sent.

A description may quote the request: a name in quotes, a number, a model server's own words. Left
out of the log are all quoted parts, and whatever stands in the request's body as well; where the
body is too long to be compared, only the field's name is kept. The error's class says what kind of
failure it is in any case.
"""

from __future__ import annotations

import re
from http import HTTPStatus

from ml.errors import ServiceError, error_body

__all__ = ["words_for_the_log"]

_STATUSES = frozenset(HTTPStatus)
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|“[^”]*”|'.*\Z|\".*\Z", re.DOTALL)
#: The place of a fault, as in "data.values.3: …" or "params[0]: …".
_PLACE = re.compile(r"[A-Za-z_][\w.\[\]-]{0,80}: ")
#: Shorter ones tell nothing.
_NUMBER = re.compile(r"\d[\d.,_]{3,}")
#: A run of this many characters that also stands in the body was taken from there.
_RUN = 8
_LEFT_OUT = "…"


def words_for_the_log(status: int, error: object, body: bytes | None) -> dict[str, str]:
    """Return a failure's code, name, class and description; nothing where there is none.

    `body` is the request's, or None where it is too long to be compared.
    """
    if status not in _STATUSES or status < HTTPStatus.BAD_REQUEST:
        return {}
    words = error_body(status, "")
    del words["description"]
    if isinstance(error, ServiceError):
        words["error"] = type(error).__name__
        own = error.description == error.default_description  # nothing of a request is in it
        words["description"] = error.description if own else without_values(error.description, body)
    return words


def without_values(description: str, body: bytes | None) -> str:
    """Return a description without what it quotes."""
    found = _PLACE.match(description)
    place = found.group() if found else ""
    rest = description[len(place) :]
    if body is None:
        return place + _LEFT_OUT
    sent = body.decode("utf-8", "replace")
    rest = _QUOTED.sub(_LEFT_OUT, rest)
    rest = _NUMBER.sub(lambda match: _LEFT_OUT if match.group() in sent else match.group(), rest)
    return place + _without_runs(rest, sent)


def _without_runs(text: str, sent: str) -> str:
    kept = [True] * len(text)
    for start in range(len(text) - _RUN + 1):
        if text[start : start + _RUN] in sent:
            kept[start : start + _RUN] = [False] * _RUN
    pieces: list[str] = []
    for character, keep in zip(text, kept, strict=True):
        if keep:
            pieces.append(character)
        elif not pieces or pieces[-1] != _LEFT_OUT:
            pieces.append(_LEFT_OUT)
    return "".join(pieces)
