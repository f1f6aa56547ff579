"""What pages in a browser may ask of a service.

A page of any site can make its visitor's browser send requests to an address that only the visitor
reaches, with the password that the browser keeps for it. Browsers say where a request comes from:
`Origin` with each write, `Sec-Fetch-Site` at addresses they trust, and `Host` with the name that
the page used, which a page whose own name was pointed at us ("DNS rebinding") cannot hide. Programs
send none of it but `Host`, and are not concerned.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from ml.errors import Forbidden
from ml.serving.endpoint import Headers
from ml.serving.reply import TEXT, Reply

__all__ = ["READING_METHODS", "Browsers"]

#: The methods that change nothing.
READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
#: Names of private networks end so; nobody can buy one and point it here.
_PRIVATE_ENDINGS = (".localhost", ".local", ".internal", ".lan", ".home.arpa", ".svc", ".test")
_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}
_MOST_REMEMBERED = 1024
_EXPOSED = b"X-Request-ID, Retry-After"
_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"


class Browsers:
    """Decides by a request's headers."""

    def __init__(self, origins: Sequence[str], hosts: Sequence[str], *, prefix: str) -> None:
        self._origins = {origin.encode() for origin in origins}
        self._any_origin = b"*" in self._origins
        self._hosts = {host.lower() for host in hosts} | {socket.gethostname().lower()}
        self._any_host = "*" in self._hosts
        self._prefix = prefix
        self._known_hosts: dict[bytes, bool] = {}

    def require_known_host(self, headers: Headers) -> None:
        """Raise `Forbidden` where the name asked for may be anybody's.

        That is a name with a dot, unless it is of this machine or of a private network, or listed.
        """
        host = headers.get(b"host", b"")
        known = self._known_hosts.get(host)
        if known is None:
            known = self._any_host or self._is_known(host)
            if len(self._known_hosts) < _MOST_REMEMBERED:
                self._known_hosts[host] = known
        if not known:
            raise Forbidden(
                "This service has no keys and is not known by the host name of this request: add "
                f"the name to {self._prefix}ALLOWED_HOSTS, or set {self._prefix}API_KEYS."
            )

    def require_own_page(self, method: str, headers: Headers) -> None:
        """Raise `Forbidden` for a write that a page of another origin sends."""
        if method in READING_METHODS:
            return
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
        if origin is None and site is None:
            return
        if site in (b"same-origin", b"none") or (site is None and self._is_own(origin, headers)):
            return
        scheme = headers.get(b"authorization", b"").partition(b" ")[0].lower()
        # A browser adds the password that it keeps to any page's request.
        if self.allows(origin) and scheme != b"basic":
            return
        raise Forbidden(
            "A page of another origin may not send this: add its origin to "
            f"{self._prefix}ALLOWED_ORIGINS; with keys, it sends one as 'Authorization: Bearer'."
        )

    def allows(self, origin: bytes | None) -> bool:
        """Return whether pages of an origin may read answers, and write."""
        return origin is not None and (self._any_origin or origin.lower() in self._origins)

    def reply_headers(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """Return the headers that let a page read the reply."""
        origin = headers.get(b"origin")
        if not self._origins or origin is None:
            return []
        vary = [] if self._any_origin else [(b"vary", b"Origin")]
        if not self.allows(origin):
            return vary
        return [
            (b"access-control-allow-origin", b"*" if self._any_origin else origin),
            (b"access-control-expose-headers", _EXPOSED),
            *vary,
        ]

    def preflight(self, method: str, headers: Headers) -> Reply | None:
        """Return the answer to a browser that asks whether a page may send a request."""
        if method != "OPTIONS" or b"access-control-request-method" not in headers:
            return None
        if not self.allows(headers.get(b"origin")):
            return None
        reply = Reply(200, b"", TEXT)
        reply.headers += [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-max-age", b"600"),
        ]
        if wanted := headers.get(b"access-control-request-headers"):
            reply.headers.append((b"access-control-allow-headers", wanted))
        return reply

    def _is_known(self, host: bytes) -> bool:
        name = _without_port(host).decode("latin-1").lower().removesuffix(".")
        if "." not in name and ":" not in name:
            return True
        if name in self._hosts or name.endswith(_PRIVATE_ENDINGS):
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    def _is_own(self, origin: bytes | None, headers: Headers) -> bool:
        scheme, _, place = (origin or b"").lower().partition(b"://")
        port = _DEFAULT_PORTS.get(scheme, b"")
        host = headers.get(b"host", b"").lower()
        return place != b"" and place.removesuffix(port) == host.removesuffix(port)


def _without_port(host: bytes) -> bytes:
    if host.startswith(b"["):
        return host.partition(b"]")[0] + b"]"
    name, colon, port = host.rpartition(b":")
    return name if colon and port.isdigit() and b":" not in name else host
