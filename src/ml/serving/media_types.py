"""What a body may be: JSON, unless a view says otherwise; and who wants a page.

A page of any site can make a browser send a form or a plain text without asking first, JSON not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

from quart import Quart
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from ml.errors import UnsupportedMediaType
from ml.serving.endpoint import Headers

__all__ = ["media_type", "require_json", "require_media_type", "takes", "wants_page"]

_View = TypeVar("_View", bound=Callable[..., Any])


def takes(*media_types: str) -> Callable[[_View], _View]:
    """Let a view take bodies of these types, and of no other."""

    def mark(view: _View) -> _View:
        view.media_types = frozenset(name.encode() for name in media_types)  # type: ignore[attr-defined]
        return view

    return mark


def require_json(headers: Headers, *, or_one_of: Collection[bytes] = ()) -> None:
    """Raise `UnsupportedMediaType` unless the body is JSON, or says nothing of what it is.

    `or_one_of` are other types that an address takes.
    """
    kind = media_type(headers)
    if kind in or_one_of or kind == b"application/json":
        return
    if kind.startswith(b"application/") and kind.endswith(b"+json"):
        return
    if or_one_of:
        names = ", ".join(name.decode() for name in or_one_of)
        raise UnsupportedMediaType(
            f"Send the body as JSON with 'Content-Type: application/json', or as one of {names}."
        )
    raise UnsupportedMediaType


def require_media_type(app: Quart, path: str, method: str, headers: Headers) -> None:
    """Raise `UnsupportedMediaType` unless the view at an address takes such a body."""
    try:
        rule, _ = app.url_map.bind("").match(path, method, return_rule=True)
    except (HTTPException, RequestRedirect):
        return  # which Quart answers
    taken = getattr(app.view_functions.get(rule.endpoint), "media_types", None)
    if taken is None:
        require_json(headers)
    elif media_type(headers) not in taken:
        names = " or ".join(sorted(name.decode() for name in taken))
        raise UnsupportedMediaType(f"Send the body as 'Content-Type: {names}'.")


def wants_page(accept: bytes) -> bool:
    """Return whether `Accept` is that of a browser that opens a page."""
    return b"text/html" in accept


def media_type(headers: Headers) -> bytes:
    """Return what a body is; JSON where nothing is said."""
    return headers.get(b"content-type", b"application/json").partition(b";")[0].strip().lower()
