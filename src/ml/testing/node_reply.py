"""What an Infernet node makes of a container's reply.

Source: the behaviour of the public Infernet Node 1.4.0. It never looks at the HTTP status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from eth_abi.abi import encode

__all__ = ["Delivery", "NotDelivered", "Rule", "read_reply", "to_delivery"]

_JSON_TYPE = re.compile(r"application/(?:[\w.+-]+\+)?json\Z", re.IGNORECASE)
_KEYS = ("raw_input", "processed_input", "raw_output", "processed_output", "proof")


class Rule(Enum):
    """What a job and a reply have to keep, and what the node does when they do not."""

    #: A job of one container that requires a proof is for one whose config says
    #: `generates_proofs`. Else it is refused before the container is asked; chains are not.
    PROOF = "proof"
    #: There is an answer within the node's 180 seconds. Else the job fails.
    ANSWER = "answer"
    #: `Content-Type` is `application/json` or `application/*+json`. Else the job fails, body lost.
    CONTENT_TYPE = "content type"
    #: The body is JSON; NaN and Infinity pass. Else the job fails with the body as its error.
    JSON = "json"
    #: On-chain it is an object. Else the node's task crashes and the request hangs until a restart.
    OBJECT = "object"
    #: On-chain a `code` is absent, null or the string "200". Else it is an error, and is dropped.
    CODE = "code"
    #: On-chain all five keys are there. Else the node delivers the text of a Python dict, which
    #: no consumer reads.
    FIVE_KEYS = "five keys"
    #: On-chain each of the five is hex or null. Else the task crashes, as for `OBJECT`.
    HEX = "hex"


class NotDelivered(Exception):
    """A job that a node would not bring to its end, with the rule that a reply broke."""

    def __init__(self, rule: Rule, description: str) -> None:
        self.rule = rule
        self.description = description
        super().__init__(rule, description)

    def __str__(self) -> str:
        return f"{self.rule.value}: {self.description}"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a consumer contract receives.

    Attributes:
        input: `abi.encode(bytes raw_input, bytes processed_input)`.
        output: `abi.encode(bytes raw_output, bytes processed_output)`.
        proof: as the container made it; empty without one.
    """

    input: bytes
    output: bytes
    proof: bytes


def read_reply(content_type: str, body: bytes) -> Any:
    """Return a reply's JSON, None for an empty body.

    Raises:
        NotDelivered: rule CONTENT_TYPE or JSON.
    """
    media_type, _, parameters = content_type.partition(";")
    if not _JSON_TYPE.match(media_type.strip()):
        raise NotDelivered(Rule.CONTENT_TYPE, f"{content_type!r} is not application/json")
    charset = re.search(r"charset=\"?([\w.-]+)", parameters)
    try:
        text = body.strip().decode(charset[1] if charset else "utf-8")
        return json.loads(text) if text else None
    except (LookupError, ValueError, RecursionError) as error:
        raise NotDelivered(Rule.JSON, f"{error}: {body[:200]!r}") from None


def to_delivery(reply: Any) -> Delivery:
    """Return what the last container's reply brings on-chain.

    Raises:
        NotDelivered: rule OBJECT, CODE, FIVE_KEYS or HEX.
    """
    if not isinstance(reply, dict):
        raise NotDelivered(Rule.OBJECT, f"{_shorten(reply)} is no object")
    if reply.get("code") not in (None, "200"):
        raise NotDelivered(Rule.CODE, f"an error: {_shorten(reply)}")
    if missing := [key for key in _KEYS if key not in reply]:
        raise NotDelivered(Rule.FIVE_KEYS, f"no {', '.join(missing)} in {_shorten(reply)}")
    fields = [_from_hex(reply, key) for key in _KEYS]
    pair = ["bytes", "bytes"]
    return Delivery(encode(pair, fields[:2]), encode(pair, fields[2:4]), fields[4])


def _from_hex(reply: Mapping[str, Any], key: str) -> bytes:
    value = reply[key]
    if value is None:
        return b""
    if not isinstance(value, str):
        raise NotDelivered(Rule.HEX, f"{key}: {_shorten(value)} is no string")
    try:
        return bytes.fromhex(value)
    except ValueError as error:
        raise NotDelivered(Rule.HEX, f"{key}: {error}: {_shorten(value)}") from None


def _shorten(value: Any, most: int = 200) -> str:
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"
