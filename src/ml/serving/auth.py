"""Bearer keys: one check at the entry, for all that runs the model or is not on the public list."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence

from pydantic import SecretStr

from ml.errors import Unauthorized
from ml.serving.endpoint import Headers
from ml.serving.media_types import wants_page

__all__ = ["BROWSER_CHALLENGE", "PUBLIC_PATHS", "Keys", "is_public"]

#: Makes a browser ask for a name and a password, once for all pages.
BROWSER_CHALLENGE = (b"www-authenticate", b'Basic realm="API key as password", charset="UTF-8"')

#: What is read without a key: nothing here reveals or costs anything. The node asks for
#: /service-resources without its bearer, and probes of orchestrators have none.
PUBLIC_PATHS = frozenset(
    {
        "/",
        "/health",
        "/health/live",
        "/health/ready",
        "/service-resources",
        "/openapi.json",
        "/docs",
        "/redoc",
        "/assets/docs/swagger-ui-bundle.js",
        "/assets/docs/swagger-ui.css",
        "/assets/docs/redoc.standalone.js",
        "/favicon.ico",
    }
)


def is_public(path: str, headers: Headers) -> bool:
    """Return whether a read needs no key.

    The page at `/` does, as all others that ask the service for more: a browser asks for it there.
    """
    return path in PUBLIC_PATHS and not (path == "/" and wants_page(headers.get(b"accept", b"")))


class Keys:
    """The keys that open a service; with none, it is open to all."""

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        self._keys = [key.get_secret_value().encode() for key in keys]

    @property
    def are_asked_for(self) -> bool:
        """Whether there are keys."""
        return bool(self._keys)

    def check(self, authorization: bytes) -> None:
        """Raise `Unauthorized` unless the header holds a key, or none is asked for.

        A browser sends the key as the password of `Basic`, for pages and event streams too. Every
        key is compared in full, so that the time taken tells nothing.
        """
        if not self._keys:
            return
        scheme, _, given = authorization.partition(b" ")
        if scheme.lower() == b"basic":
            given = _password(given)
        elif scheme.lower() != b"bearer":
            raise Unauthorized
        found = 0
        for key in self._keys:
            found |= hmac.compare_digest(given.strip(), key)
        if not found:
            raise Unauthorized


def _password(credentials: bytes) -> bytes:
    """Return the password of RFC 7617 credentials, nothing if they are broken."""
    try:
        return base64.b64decode(credentials.strip(), validate=True).partition(b":")[2]
    except ValueError:
        return b""
