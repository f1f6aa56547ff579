"""Bearer keys: one check at the entry, for all that runs the model or is not on the public list."""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from pydantic import SecretStr

from ml.errors import Unauthorized

__all__ = ["PUBLIC_PATHS", "Keys"]

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


class Keys:
    """The keys that open a service; with none, it is open to all."""

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        self._keys = [key.get_secret_value().encode() for key in keys]

    def check(self, authorization: bytes) -> None:
        """Raise `Unauthorized` unless the header holds a key, or none is asked for.

        Every key is compared in full, so that the time taken tells nothing.
        """
        if not self._keys:
            return
        scheme, _, given = authorization.partition(b" ")
        found = 0
        for key in self._keys:
            found |= hmac.compare_digest(given.strip(), key)
        if not found or scheme.lower() != b"bearer":
            raise Unauthorized
