"""Requests to every route of an application: right ones, spoiled."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from urllib.parse import quote

from tests.fuzz.asgi import Ask
from tests.fuzz.services import Target
from tests.fuzz.values import odd_bytes, odd_text, odd_value, spoiled_json

__all__ = ["requests_to"]

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
_MORE_WITH_BODIES = 6
_PARAMETERS = ("limit", "after", "status", "model_id", "order", "metadata", "stream", "x")
_HEADERS: dict[bytes, tuple[bytes, ...]] = {
    b"accept": (b"text/plain", b"text/html", b"text/event-stream", b"*/*;q=0", b"\xff"),
    b"accept-encoding": (b"gzip", b"identity;q=0"),
    b"authorization": (b"Bearer x", b"Basic !", b"Basic eDp5", b"", b"\xff\xfe"),
    b"connection": (b"close", b"upgrade"),
    b"content-encoding": (b"gzip", b"br"),
    b"content-length": (b"-1", b"x", b"99999999999999999999"),
    b"content-type": (
        *(b"text/plain", b"", b"application/json; charset=utf-16", b"multipart/form-data"),
        *(b"multipart/form-data; boundary=x", b"application/x-www-form-urlencoded", b"\xff"),
    ),
    b"cookie": (b"a=b; a=c", b"\xff"),
    b"expect": (b"100-continue",),
    b"if-modified-since": (b"never",),
    b"last-event-id": (b"0", b"-1", b"9" * 30, b"\xff"),
    b"origin": (b"null", b"http://evil.example"),
    b"range": (b"bytes=0-0", b"bytes=9-1", b"bytes=x"),
    b"sec-fetch-site": (b"cross-site", b"same-origin"),
    b"transfer-encoding": (b"chunked",),
    b"x-request-id": (b"\xff", b"a b", b"x" * 200),
}
_FORM = (
    b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n%s\r\n--x--\r\n'
)


def requests_to(target: Target, random: Random, count: int) -> Iterator[Ask]:
    """Yield so many requests; each route gets its share, those that read a body a larger one."""
    found = target.app.url_map.iter_rules()
    rules = sorted((rule.rule, sorted(rule.methods or ())) for rule in found)
    rules += [rule for rule in rules if rule[0] in target.bodies] * _MORE_WITH_BODIES
    for number in range(count):
        rule, methods = rules[number % len(rules)]
        method = random.choice(methods if random.random() < 0.95 else _METHODS)
        path = _path(target, random, rule)
        headers = [(b"content-type", b"application/json")]
        body = _body(target, random, rule) if method not in ("GET", "HEAD") else b""
        if rule == "/v1/files" and method == "POST" and random.random() < 0.8:
            headers = [(b"content-type", b"multipart/form-data; boundary=x")]
            name = random.choice((b"rows.jsonl", odd_text(random).encode(errors="replace")))
            body = _FORM % (name, random.choice((b'{"text": "a"}\n', odd_bytes(random))))
        yield Ask(method, path, _query(random), tuple(_spoiled_headers(random, headers)), body)


def _path(target: Target, random: Random, rule: str) -> str:
    parts = []
    for part in rule.split("/"):
        if part.startswith("<"):
            part = random.choice(target.ids) if random.random() < 0.7 else odd_text(random)
            part = quote(part, safe="", errors="replace")
        parts.append(part)
    path = "/".join(parts)
    return random.choice((f"/{path}", f"{path}/", path.upper())) if random.random() < 0.05 else path


def _query(random: Random) -> bytes:
    if random.random() < 0.6:
        return b""
    name = random.choice(_PARAMETERS)
    value = random.choice(("1", odd_text(random)))
    return f"{name}={quote(value, errors='replace')}".encode() + random.choice(
        (b"", b"&%ff=%", b"&")
    )


def _body(target: Target, random: Random, rule: str) -> bytes:
    if random.random() < 0.1:
        return odd_bytes(random)
    known = target.bodies.get(rule, [])
    value = random.choice(known) if known else odd_value(random)
    return spoiled_json(random, value)


def _spoiled_headers(
    random: Random, headers: list[tuple[bytes, bytes]]
) -> Iterator[tuple[bytes, bytes]]:
    if random.random() < 0.3:
        name = random.choice(sorted(_HEADERS))
        headers = [*headers, (name, random.choice(_HEADERS[name]))]
        if random.random() < 0.5:  # in place of the right one
            headers = [(n, v) for n, v in headers[:-1] if n != name] + headers[-1:]
    yield from headers
