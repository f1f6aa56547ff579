"""`POST /service_output`: what a node sends, and the reply in the form its destination needs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import MakeApp
from tests.support.requests import (
    JSON,
    OFFCHAIN,
    ONCHAIN,
    STREAM,
    abi_text,
    body,
    is_error,
    open_post,
    post,
)
from tests.support.workflows import (
    AsyncPieces,
    CountingProver,
    Echo,
    Pieces,
    Prover,
    Shout,
    StreamingProver,
    Typed,
    UnwritableProver,
    WithCode,
)

KEYS = {"raw_input", "processed_input", "raw_output", "processed_output", "proof"}


async def stream(app: Any, data: Any) -> tuple[int | None, list[bytes]]:
    """Return the status and the pieces of a stream, as they were sent."""
    async with open_post(app) as connection:
        await connection.send(body(data, destination=STREAM))
        await connection.send_complete()
        pieces = []
        while piece := await connection.receive():
            pieces.append(piece)
    return connection.status_code, pieces


# --- OFFCHAIN ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [{"a": [1, 2.5, None]}, "text", "", [1], 7, None, {"code": "500", "name": "x"}, "né"]
)
async def test_a_chained_hop_of_any_json_type_reaches_the_workflow_and_comes_back(
    make_app: MakeApp, data: Any
) -> None:
    response = await post(await make_app(Echo), data, destination=OFFCHAIN)
    assert response.status_code == 200
    assert response.content_type == "application/json"
    assert json.loads(await response.get_data()) == data


async def test_the_document_and_older_nodes_send_no_destination(make_app: MakeApp) -> None:
    app = await make_app(Shout)
    offchain = await post(app, "hello")
    assert json.loads(await offchain.get_data()) == "HELLO"
    onchain = await post(app, abi_text("hello"), source=ONCHAIN)
    assert json.loads(await onchain.get_data())["raw_output"] == abi_text("HELLO")


async def test_an_input_model_reads_the_data_and_names_what_is_wrong(make_app: MakeApp) -> None:
    app = await make_app(Typed)
    response = await post(app, {"x": 1, "y": 2, "more": True})
    assert json.loads(await response.get_data()) == {"x": 2, "y": 1}
    described = await is_error(await post(app, {"x": "secret"}), 400)
    assert "data.x: " in described
    assert "data.y: " in described
    assert "secret" not in described


async def test_numpy_is_written_as_json_and_nan_as_null(make_app: MakeApp) -> None:
    response = await post(await make_app(WithCode), {})
    assert json.loads(await response.get_data())["values"] == [1.0, None]


async def test_a_body_over_the_size_that_is_parsed_in_place_gives_the_same_answer(
    make_app: MakeApp,
) -> None:
    app = await make_app(Echo)
    data = ["x" * 1000] * 100
    assert json.loads(await (await post(app, data)).get_data()) == data
    described = await is_error(await post(app, data, source=5), 400)
    assert described.startswith("source: ")


async def test_other_json_media_types_and_none_at_all_are_read(make_app: MakeApp) -> None:
    client = (await make_app(Echo)).test_client()
    for headers in ({"Content-Type": "application/ld+json; charset=utf-8"}, {}):
        response = await client.post("/service_output", data=body(1), headers=headers)
        assert response.status_code == 200


# --- ONCHAIN ----------------------------------------------------------------------------------


async def test_an_on_chain_answer_is_five_fields_of_plain_hex_with_its_input(
    make_app: MakeApp,
) -> None:
    data = abi_text("hello")
    response = await post(
        await make_app(Shout), data, source=ONCHAIN, destination=ONCHAIN, requires_proof=False
    )
    assert response.status_code == 200
    assert json.loads(await response.get_data()) == {
        "raw_input": data,
        "processed_input": "",
        "raw_output": abi_text("HELLO"),
        "processed_output": "",
        "proof": "",
    }


async def test_a_consumer_without_input_is_answered(make_app: MakeApp) -> None:
    response = await post(await make_app(Shout), "", source=ONCHAIN, destination=ONCHAIN)
    document = json.loads(await response.get_data())
    assert document["raw_input"] == ""
    assert document["raw_output"] == abi_text("")


async def test_a_delegated_subscription_gets_its_data_back_as_json_text(make_app: MakeApp) -> None:
    data = {"text": "é", "n": [1, 2]}
    response = await post(await make_app(Echo), data, destination=ONCHAIN, requires_proof=False)
    document = json.loads(await response.get_data())
    assert set(document) == KEYS
    assert json.loads(bytes.fromhex(document["raw_input"])) == data


async def test_the_containers_of_an_on_chain_chain_answer_one_after_the_other(
    make_app: MakeApp,
) -> None:
    app = await make_app(Shout, workflow_kw_args={"ending": "!"})
    first = await post(app, abi_text("a"), source=ONCHAIN, destination=OFFCHAIN)
    text = json.loads(await first.get_data())
    middle = await post(app, text, source=OFFCHAIN, destination=OFFCHAIN)
    text = json.loads(await middle.get_data())
    last = await post(app, text, source=OFFCHAIN, destination=ONCHAIN)
    assert json.loads(await last.get_data())["raw_output"] == abi_text("A!!!")


async def test_a_success_on_chain_never_carries_a_code(make_app: MakeApp) -> None:
    app = await make_app(WithCode)
    for source, data in ((ONCHAIN, ""), (OFFCHAIN, {})):
        response = await post(app, data, source=source, destination=ONCHAIN)
        assert set(json.loads(await response.get_data())) == KEYS


@pytest.mark.parametrize(
    "data", ["ab", "00" * 31, "ff" * 64, "00" * 31 + "20" + "ff" * 32], ids=len
)
async def test_bytes_that_are_no_abi_text_are_refused(make_app: MakeApp, data: str) -> None:
    await is_error(await post(await make_app(Shout), data, source=ONCHAIN), 400)


async def test_a_proof_is_made_when_it_is_asked_for(make_app: MakeApp) -> None:
    app = await make_app(Prover)
    for wanted, proof in ((True, b"hi->HI"), (False, b"")):
        response = await post(
            app, abi_text("hi"), source=ONCHAIN, destination=ONCHAIN, requires_proof=wanted
        )
        document = json.loads(await response.get_data())
        assert bytes.fromhex(document["proof"]) == proof


async def test_a_proof_that_nobody_can_make_is_refused_with_what_to_configure(
    make_app: MakeApp,
) -> None:
    app = await make_app(Shout)
    for data, source in ((abi_text("hi"), ONCHAIN), ("hi", OFFCHAIN)):
        response = await post(app, data, source=source, destination=ONCHAIN, requires_proof=True)
        described = await is_error(response, 400)
        assert described.startswith("requires_proof: ")
        assert "proof_artifact" in described


@pytest.mark.parametrize(("data", "source"), [(abi_text("hi"), ONCHAIN), ("hi", OFFCHAIN)])
async def test_a_hop_of_a_chain_that_makes_no_proofs_answers_and_says_that_there_is_none(
    make_app: MakeApp, data: str, source: int
) -> None:
    app = await make_app(Shout)
    for wanted in (True, False):
        response = await post(app, data, source=source, destination=OFFCHAIN, requires_proof=wanted)
        assert json.loads(await response.get_data()) == "HI"
        assert response.headers.get("X-Proof") == ("none" if wanted else None)


@pytest.mark.parametrize("workflow", [Prover, CountingProver])
async def test_a_reply_to_the_next_container_is_its_input_and_costs_no_proof(
    make_app: MakeApp, workflow: type
) -> None:
    app = await make_app(workflow)
    response = await post(
        app, abi_text("hi"), source=ONCHAIN, destination=OFFCHAIN, requires_proof=True
    )
    assert json.loads(await response.get_data()) == "HI"
    assert response.headers["X-Proof"] == "none"
    if workflow is CountingProver:
        assert app.workflow.calls == ["preprocessing", "running"]


@pytest.mark.parametrize(
    ("data", "source", "destination", "wanted", "calls"),
    [
        ("hi ", OFFCHAIN, OFFCHAIN, True, ["preprocessing", "proving", "proof"]),
        ("hi ", OFFCHAIN, OFFCHAIN, False, ["preprocessing", "proving"]),
        ("hi ", OFFCHAIN, STREAM, True, ["preprocessing", "proving", "proof"]),
        ("hi ", OFFCHAIN, ONCHAIN, True, ["preprocessing", "proving", "proof"]),
        ("hi ", OFFCHAIN, ONCHAIN, False, ["preprocessing", "running"]),
        (abi_text("hi "), ONCHAIN, ONCHAIN, True, ["preprocessing", "proving", "proof"]),
        (abi_text("hi "), ONCHAIN, ONCHAIN, None, ["preprocessing", "running"]),
    ],
)
async def test_each_hook_runs_once_and_knows_whether_the_answer_takes_a_proof(
    make_app: MakeApp, data: str, source: int, destination: int, wanted: bool, calls: list[str]
) -> None:
    app = await make_app(CountingProver)
    response = await post(app, data, source=source, destination=destination, requires_proof=wanted)
    assert response.status_code == 200
    assert app.workflow.calls == calls
    proof = b"hi->HI"
    reply = await response.get_data()
    assert (proof.hex().encode() in reply) == bool(wanted)


async def test_off_chain_an_answer_comes_with_the_proof_that_is_asked_for(
    make_app: MakeApp,
) -> None:
    app = await make_app(Prover)
    response = await post(app, "hi", requires_proof=True)
    expected = {"output": "HI", "proof": "0x" + b"hi->HI".hex()}
    assert json.loads(await response.get_data()) == expected
    for wanted in (False, None):
        response = await post(app, "hi", requires_proof=wanted)
        assert json.loads(await response.get_data()) == "HI"


async def test_an_answer_that_cannot_be_written_costs_no_proof(make_app: MakeApp) -> None:
    app = await make_app(UnwritableProver)
    for destination in (OFFCHAIN, ONCHAIN, STREAM):
        response = await post(app, "hi", destination=destination, requires_proof=True)
        assert await is_error(response, 422) == "no form"
    assert app.workflow.calls == ["preprocessing", "proving"] * 3


# --- STREAM -----------------------------------------------------------------------------------


async def test_a_stream_is_sent_piece_by_piece_as_text(make_app: MakeApp) -> None:
    app = await make_app(Pieces)
    assert await stream(app, ["one ", "two ", "", "three"]) == (200, [b"one ", b"two ", b"three"])
    response = await post(app, ["a"], destination=STREAM)
    assert response.content_type == "text/plain; charset=utf-8"


async def test_an_async_stream_is_sent_piece_by_piece(make_app: MakeApp) -> None:
    pieces = ["h", "é", "\U0001f60c"]
    status, sent = await stream(await make_app(AsyncPieces), "".join(pieces))
    assert (status, sent) == (200, [piece.encode() for piece in pieces])


async def test_every_piece_ends_on_a_character_boundary(make_app: MakeApp) -> None:
    smile = "\U0001f60c".encode()
    cut = [{"bytes": smile[:1].hex()}, {"bytes": smile[1:3].hex()}, {"bytes": smile[3:].hex()}]
    assert await stream(await make_app(Pieces), ["a", *cut, "b"]) == (200, [b"a", smile, b"b"])


async def test_bytes_that_are_no_utf_8_are_replaced(make_app: MakeApp) -> None:
    status, pieces = await stream(await make_app(Pieces), [{"bytes": "61ff"}, {"bytes": "f09f"}])
    assert status == 200
    assert b"".join(pieces).decode() == "a\ufffd\ufffd"


async def test_a_chain_source_can_be_streamed(make_app: MakeApp) -> None:
    response = await post(await make_app(Shout), abi_text("hi"), source=ONCHAIN, destination=STREAM)
    assert await response.get_data() == b"HI"


async def test_a_workflow_without_a_stream_sends_its_output_as_one_piece(make_app: MakeApp) -> None:
    assert await stream(await make_app(Shout), "hi") == (200, [b"HI"])
    assert await stream(await make_app(Echo), {"a": 1}) == (200, [b'{"a":1}'])


@pytest.mark.parametrize(
    ("workflow", "match"), [(Shout, "makes no proofs"), (StreamingProver, "a stream")]
)
async def test_a_stream_is_refused_where_it_would_lack_the_proof(
    make_app: MakeApp, workflow: type, match: str
) -> None:
    response = await post(await make_app(workflow), "hi", destination=STREAM, requires_proof=True)
    assert match in await is_error(response, 400)


async def test_a_stream_that_is_the_whole_answer_holds_its_proof(make_app: MakeApp) -> None:
    response = await post(await make_app(Prover), "hi", destination=STREAM, requires_proof=True)
    assert response.content_type == "text/plain; charset=utf-8"
    expected = {"output": "HI", "proof": "0x" + b"hi->HI".hex()}
    assert json.loads(await response.get_data()) == expected


async def test_a_stream_of_nothing_is_an_empty_answer(make_app: MakeApp) -> None:
    assert await stream(await make_app(Pieces), []) == (200, [])


async def test_a_failure_before_the_first_piece_has_its_status(make_app: MakeApp) -> None:
    app = await make_app(Pieces)
    described = await is_error(await post(app, [{"fail": "input"}], destination=STREAM), 400)
    assert described == "data: not this one"
    described = await is_error(await post(app, ["", {"fail": "else"}], destination=STREAM), 500)
    assert "secret" not in described


async def test_a_stream_is_closed_at_its_end(make_app: MakeApp) -> None:
    Pieces.closed.clear()
    await stream(await make_app(Pieces), ["a"])
    assert Pieces.closed == ["plain"]


async def test_the_reply_says_how_long_it_is(make_app: MakeApp) -> None:
    response = await post(await make_app(Shout), "hello")
    assert response.headers["Content-Length"] == str(len('"HELLO"'))
    assert JSON["Content-Type"] == response.headers["Content-Type"]
