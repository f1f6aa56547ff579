"""The form in which a web client wants an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from ml.serving.media_types import media_type
from ml.serving.reply import JSON

if TYPE_CHECKING:
    from ml.serving.endpoint import Headers
    from ml.workflows.inference.body_formats.body_format import BodyFormat

__all__ = ["Wanted"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `Accept` asks for; of no preference, what the request is itself."""

    #: One of the workflow's forms of bytes, None for JSON.
    form: BodyFormat | None
    #: Whether a text is wanted as it is, without JSON's quotes.
    is_text: bool

    @classmethod
    def by(cls, headers: Headers, formats: Mapping[bytes, BodyFormat]) -> Self:
        """Read the headers of a request to a workflow that has these forms beside JSON."""
        accept = headers.get(b"accept", b"*/*")
        given = media_type(headers)
        best = given if given in formats else JSON
        if formats and accept != b"*/*":
            offered = [name.decode() for name in dict.fromkeys((best, JSON, *formats))]
            accepted = parse_accept_header(accept.decode("latin-1"), MIMEAccept)
            best = accepted.best_match(offered, default=best.decode()).encode()
        return cls(formats.get(best), accept.startswith(b"text/plain"))
