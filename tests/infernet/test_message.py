"""What a node sends is read, and what is wrong is refused with the field's name."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ml.errors import InvalidInput
from ml.infernet.message import (
    InfernetInput,
    InfernetInputSource,
    JobLocation,
    OnchainOutput,
    parse_message,
)

# What the node's documents show for the classic service, shortened to three of its 69 numbers.
DOCUMENT_EXAMPLE = (
    rb'{"source": 1, "data":{"bot":"\ud83d\ude0c\nIm not interested in buying your shares, '
    rb'but Im excited","dtype":"double","values":[[0.40234944224357605,0.1991768330335617,'
    rb"0.00097266974626109]]}}"
)
HEX = "7b226d"


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def refusal(content: bytes) -> str:
    with pytest.raises(InvalidInput) as caught:
        parse_message(content)
    return caught.value.description


@pytest.mark.parametrize(
    ("fields", "destination"),
    [
        pytest.param(
            {"source": 1, "destination": 1, "data": {"a": 1}, "requires_proof": False},
            JobLocation.OFFCHAIN,
            id="off-chain",
        ),
        pytest.param(
            {"source": 1, "destination": 2, "data": {"a": 1}}, JobLocation.STREAM, id="stream"
        ),
        pytest.param(
            {"source": 0, "destination": 0, "data": HEX, "requires_proof": False},
            JobLocation.ONCHAIN,
            id="callback",
        ),
        pytest.param(
            {"source": 0, "destination": 0, "data": "", "requires_proof": False},
            JobLocation.ONCHAIN,
            id="subscription-without-input",
        ),
        pytest.param(
            {"source": 0, "destination": 0, "data": HEX, "requires_proof": True},
            JobLocation.ONCHAIN,
            id="with-verifier",
        ),
        pytest.param(
            {"source": 1, "destination": 0, "data": {"a": 1}, "requires_proof": False},
            JobLocation.ONCHAIN,
            id="delegated",
        ),
        pytest.param(
            {"source": 0, "destination": 1, "data": HEX, "requires_proof": False},
            JobLocation.OFFCHAIN,
            id="first-of-an-on-chain-chain",
        ),
        pytest.param({"source": 0, "data": HEX}, JobLocation.ONCHAIN, id="old-node-chain"),
        pytest.param({"source": 1, "data": {}}, JobLocation.OFFCHAIN, id="old-node-offchain"),
        pytest.param(
            {"source": 1, "data": {}, "destination": None, "requires_proof": None},
            JobLocation.OFFCHAIN,
            id="nulls-for-what-may-be-absent",
        ),
    ],
)
def test_every_form_of_the_node_is_read(fields: dict[str, Any], destination: JobLocation) -> None:
    message = parse_message(body(**fields))
    assert message.source == fields["source"]
    assert message.data == fields["data"]
    assert message.goes_to is destination
    assert bool(message.requires_proof) is bool(fields.get("requires_proof"))


@pytest.mark.parametrize("data", ["text", "", [1, [2]], None, 1.5, True, {"code": "400"}])
def test_a_chained_hop_carries_any_json(data: Any) -> None:
    assert parse_message(body(source=1, destination=1, data=data)).data == data


def test_the_documents_example_is_read() -> None:
    message = parse_message(DOCUMENT_EXAMPLE)
    assert message.source is InfernetInputSource.OFFCHAIN
    assert message.data["bot"].startswith("\U0001f60c\nIm not")
    assert message.data["values"] == [
        [0.40234944224357605, 0.1991768330335617, 0.00097266974626109]
    ]


def test_upper_case_hex_and_spaces_around_it_are_read() -> None:
    assert parse_message(body(source=0, data=" AbCd\n")).input_bytes() == b"\xab\xcd"


def test_fields_of_a_later_node_are_ignored() -> None:
    assert parse_message(body(source=1, data={}, priority="high")).data == {}


@pytest.mark.parametrize(
    ("content", "field", "text"),
    [
        (body(source=0, data="abc"), "data", "even"),
        (body(source=0, data="0xabcd"), "data", "0x"),
        (body(source=0, data="zz"), "data", "hex"),
        (body(source=0, data="ab\u0661\u0661"), "data", "hex"),
        (body(source=0, data={"a": 1}), "data", "hex string"),
        (body(source=0, data=None), "data", "hex string"),
        (body(source=0, data=[1]), "data", "hex string"),
        (body(source=1), "data", "required"),
        (body(data={}), "source", "required"),
        (body(source=2, data={}), "source", "0 or 1"),
        (body(source=-1, data={}), "source", "0 or 1"),
        (body(source="1", data={}), "source", "number"),
        (body(source=True, data={}), "source", "number"),
        (body(source=1.5, data={}), "source", "number"),
        (body(source=None, data={}), "source", "number"),
        (body(source=1, data={}, destination=3), "destination", "0, 1 or 2"),
        (body(source=1, data={}, destination="chain"), "destination", "number"),
        (body(source=1, data={}, requires_proof="perhaps"), "requires_proof", "boolean"),
        (b'{"source": 1, "data": {"a": NaN}}', "data.a", "NaN"),
        (b'{"source": 1, "data": {"a": [1, {"b": -Infinity}]}}', "data.a.b", "Infinity"),
        (b'{"source": NaN, "data": {}}', "source", "NaN"),
        (b"", "body", "empty"),
        (b" \n", "body", "empty"),
        (b"{", "body", "JSON"),
        (b"\xff\xfe", "body", "JSON"),
        (b'{"source": 1, "data": "\xff"}', "body", "JSON"),
        (b'{"source": 1, "data": {}} and more', "body", "JSON"),
        (b'{"source": 1, "data": "\\ud83d"}', "body", "JSON"),
    ],
)
def test_what_is_wrong_is_refused_by_the_fields_name(content: bytes, field: str, text: str) -> None:
    described = refusal(content)
    assert described.startswith(f"{field}: ")
    assert text in described


@pytest.mark.parametrize("content", [b"[]", b"1", b"null", b'"text"', b"[[1]]"])
def test_a_body_that_is_no_object_is_refused(content: bytes) -> None:
    assert refusal(content)


def test_all_faults_are_named_at_once() -> None:
    described = refusal(body(source="x", destination=9))
    assert all(f"{field}: " in described for field in ("source", "destination", "data"))


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_absurd_nesting_is_refused_and_not_a_crash(opening: bytes) -> None:
    described = refusal(b'{"source": 1, "data": ' + opening * 100_000)
    assert described.startswith("data: nested too deeply")


def test_nesting_that_people_use_is_read() -> None:
    data: Any = 1
    for _ in range(100):
        data = [data]
    assert parse_message(body(source=1, data=data)).data == data


def test_a_refusal_does_not_repeat_what_was_sent() -> None:
    assert "secret" not in refusal(body(source="secret", data={}, destination="secret"))


def test_the_echo_of_a_chain_request_is_its_bytes() -> None:
    assert parse_message(body(source=0, data=HEX)).input_bytes() == bytes.fromhex(HEX)
    assert parse_message(body(source=0, data="")).input_bytes() == b""


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_the_echo_of_a_delegated_request_is_the_json_text_of_its_data(data: Any) -> None:
    message = InfernetInput(source=InfernetInputSource.OFFCHAIN, data=data)
    assert json.loads(message.input_bytes()) == data


def test_a_message_cannot_be_changed() -> None:
    message = parse_message(body(source=1, data={}))
    with pytest.raises(ValidationError):
        message.data = "other"


def test_the_json_schema_has_the_documents_pattern() -> None:
    schema = json.dumps(InfernetInput.model_json_schema())
    assert re.search(r"\^\[a-fA-F0-9\]", schema)


def test_an_on_chain_answer_is_five_fields_of_plain_hex() -> None:
    answer = OnchainOutput(raw_input=b"\x01", raw_output=b"\xab\xcd", proof=b"\xff").to_json()
    assert answer == {
        "raw_input": "01",
        "processed_input": "",
        "raw_output": "abcd",
        "processed_output": "",
        "proof": "ff",
    }


REFUSED = {"code": "400", "name": "Bad Request", "description": "values: no"}


def test_what_the_container_before_refused_is_refused_with_its_words() -> None:
    described = refusal(body(source=1, data=REFUSED))
    assert described == "the container before this one refused: values: no (400 Bad Request)"
    long = refusal(body(source=1, data=REFUSED | {"description": "x" * 100_000}))
    assert len(long) < 1200


@pytest.mark.parametrize(
    "data",
    [
        REFUSED | {"code": "200"},
        REFUSED | {"code": 400},
        REFUSED | {"code": "A-7"},
        REFUSED | {"description": None},
        REFUSED | {"more": 1},
        {"code": "400", "name": "Bad Request"},
        {"error": REFUSED},
        [REFUSED],
    ],
)
def test_data_that_only_resembles_a_refusal_is_read(data: Any) -> None:
    assert parse_message(body(source=1, data=data)).data == data


@pytest.mark.parametrize(
    ("source", "destination", "required", "takes"),
    [
        (0, None, True, True), (0, None, False, False), (0, 0, None, False),
        (0, 1, True, False), (0, 1, False, False), (0, 2, True, True),
        (1, 0, True, True), (1, 0, False, False), (1, 1, True, True), (1, None, False, True),
    ],
)  # fmt: skip
def test_a_reply_has_a_place_for_a_proof_unless_the_next_container_gets_it(
    source: int, destination: int | None, required: bool, takes: bool
) -> None:
    message = InfernetInput(
        source=InfernetInputSource(source),
        data="",
        destination=destination,
        requires_proof=required,
    )
    assert message.takes_proof is takes
