"""The message that an Infernet node posts to a container, and the on-chain form of the reply.

Source: the behaviour of the public Infernet Node 1.4.0 (and 1.0.0, 0.2.0), `POST /service_output`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic.functional_validators import BeforeValidator

from ml.errors import InvalidInput, describe_faults
from ml.json_text import read_json

__all__ = [
    "InfernetInput",
    "InfernetInputSource",
    "JobLocation",
    "OnchainOutput",
    "parse_message",
]

_HEX = re.compile(r"[a-fA-F0-9]*\Z")

_REFUSED = "the container before this one refused: "
_REFUSAL_KEYS = {"code", "name", "description"}
_REFUSAL_CODE = re.compile(r"[45]\d\d\Z", re.ASCII)
_MOST_OF_A_REFUSAL = 1000


class InfernetInputSource(IntEnum):
    """Where a request comes from."""

    #: A contract: `data` is the hex of ABI-encoded bytes.
    CHAIN = 0
    #: A web client, or the container before this one in a chain of containers.
    OFFCHAIN = 1


class JobLocation(IntEnum):
    """Where the reply goes."""

    #: A contract: the reply has the five hex fields of `OnchainOutput`.
    ONCHAIN = 0
    #: A web client or the next container: the reply is JSON.
    OFFCHAIN = 1
    #: A web client that reads the reply as it is made.
    STREAM = 2


def _only_numbers(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("give a number")
    return value


class InfernetInput(BaseModel):
    """A request as the node sends it; `destination` is the source's own side where it is absent."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    source: Annotated[InfernetInputSource, BeforeValidator(_only_numbers)] = Field(
        description="0 for CHAIN, 1 for OFFCHAIN"
    )
    data: Any = Field(
        description="CHAIN: hex without 0x, may be empty. OFFCHAIN: what the workflow reads, "
        "an object in most cases; in a chain of containers the previous reply.",
        json_schema_extra={
            "anyOf": [
                {"type": "string", "pattern": "^[a-fA-F0-9]*$"},
                {"type": "object", "additionalProperties": True},
                {},
            ]
        },
    )
    destination: Annotated[JobLocation, BeforeValidator(_only_numbers)] | None = Field(
        default=None,
        description="0 for ONCHAIN, 1 for OFFCHAIN, 2 for STREAM; the source's side by default",
    )
    requires_proof: bool | None = Field(
        default=False, description="A verifier waits for a proof of this answer"
    )

    @field_validator("data")
    @classmethod
    def _hex_for_chain(cls, data: Any, info: ValidationInfo) -> Any:
        if info.data.get("source") != InfernetInputSource.CHAIN:
            return data
        if not isinstance(data, str):
            raise ValueError("a CHAIN request (source 0) carries a hex string, not JSON data")
        data = data.strip()
        if not _HEX.match(data):
            raise ValueError("hex must match ^[a-fA-F0-9]+$ (no 0x, no other characters)")
        if len(data) % 2:
            raise ValueError("hex must have an even number of digits")
        return data

    @property
    def goes_to(self) -> JobLocation:
        """Return the destination, taken from the source where none is given."""
        return JobLocation(self.source) if self.destination is None else self.destination

    @property
    def is_for_next_hop(self) -> bool:
        """Return whether the reply surely goes to the next container of a chain.

        A middle hop cannot be told from a job of a web client.
        """
        return self.source == InfernetInputSource.CHAIN and self.goes_to is JobLocation.OFFCHAIN

    @property
    def takes_proof(self) -> bool:
        """Return whether the reply has a place for a proof.

        The node asks every hop of a chain for one and keeps the last hop's; a contract gets none
        that it did not ask for.
        """
        if self.goes_to is JobLocation.ONCHAIN:
            return bool(self.requires_proof)
        return not self.is_for_next_hop

    def input_bytes(self) -> bytes:
        """Return what an on-chain answer echoes as its input.

        The request's own bytes for CHAIN; the UTF-8 JSON text of `data` for OFFCHAIN, as in a
        delegated subscription.
        """
        if self.source == InfernetInputSource.CHAIN:
            return bytes.fromhex(self.data)
        return json.dumps(self.data, separators=(",", ":"), ensure_ascii=False).encode(
            "utf-8", "surrogatepass"
        )


@dataclass(frozen=True, slots=True)
class OnchainOutput:
    """What a contract receives: `abi.encode(bytes raw, bytes processed)` for input and output.

    The node wants plain hex in each field: `0x` or an odd length would crash its task.
    """

    raw_input: bytes = b""
    processed_input: bytes = b""
    raw_output: bytes = b""
    processed_output: bytes = b""
    proof: bytes = b""

    def to_json(self) -> dict[str, str]:
        """Return the five keys with plain lower-case hex; never a `code`, which means an error."""
        return {
            "raw_input": self.raw_input.hex(),
            "processed_input": self.processed_input.hex(),
            "raw_output": self.raw_output.hex(),
            "processed_output": self.processed_output.hex(),
            "proof": self.proof.hex(),
        }


def parse_message(body: bytes) -> InfernetInput:
    """Read a request body.

    Raises `InvalidInput` naming the field for anything else than a valid message: broken JSON,
    NaN, nesting over 200 levels, a missing or wrong field, hex of odd length. What the container
    before this one refused is refused with its words.
    """
    try:
        message = InfernetInput.model_validate(read_json(body))
    except ValidationError as error:
        raise InvalidInput(describe_faults(error)) from None
    except ValueError as error:
        raise InvalidInput(_describe_json_fault(body, error)) from None
    _require_no_refusal(message.data)
    return message


def _require_no_refusal(data: Any) -> None:
    """Raise `InvalidInput` if the data is what a container of this kind refuses with.

    The node hands that on to the next hop, whose refusal is all that is seen of the job. Only the
    exact form counts: other data with such keys may be what a workflow reads.
    """
    if not isinstance(data, dict) or data.keys() != _REFUSAL_KEYS:
        return
    if not all(isinstance(text, str) for text in data.values()):
        return
    if not _REFUSAL_CODE.match(data["code"]):
        return
    description = data["description"][:_MOST_OF_A_REFUSAL]
    if not description.startswith(_REFUSED):  # it says itself which of the containers it was
        description = f"{_REFUSED}{description} ({data['code']} {data['name'][:40]})"
    raise InvalidInput(description)


def _describe_json_fault(body: bytes, error: ValueError) -> str:
    if not body.strip():
        return "body: empty; send a JSON object with 'source' and 'data'"
    if "recursion limit" in str(error):
        return f"data: nested too deeply ({error})"
    where = _find_non_finite(body) if re.search(rb"NaN|Infinity", body) else None
    if where:
        return f"{where}: NaN and Infinity are not JSON numbers"
    return f"body: not valid JSON: {error}"


def _find_non_finite(body: bytes) -> str | None:
    """Return the name of the first field that holds a bare NaN or Infinity, such as data.values."""
    marker = object()
    try:
        document = json.loads(body, parse_constant=lambda _: marker)
    except (ValueError, RecursionError):
        return None
    path: list[str] = []

    def search(value: Any) -> bool:
        if value is marker:
            return True
        if isinstance(value, dict):
            for key, item in value.items():
                path.append(str(key))
                if search(item):
                    return True
                path.pop()
        return isinstance(value, list) and any(search(item) for item in value)

    return ".".join(path) if search(document) else None
