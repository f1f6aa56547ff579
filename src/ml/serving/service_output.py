"""`POST /service_output`: from the bytes of a request to its reply, by way of the workflow."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from ml.caller import set_takes
from ml.errors import InternalError, InvalidInput, ServiceError
from ml.infernet.json_text import as_text, to_json
from ml.infernet.message import (
    InfernetInput,
    InfernetInputSource,
    JobLocation,
    OnchainOutput,
    parse_message,
)
from ml.serving.endpoint import Headers
from ml.serving.media_types import media_type
from ml.serving.pieces import with_first
from ml.serving.reply import STREAM_HEADERS, TEXT, Reply, error_reply
from ml.serving.wanted import Wanted
from ml.workflows.accepted import Accepted
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow

if TYPE_CHECKING:
    from ml.workflows.inference.body_formats.body_format import BodyFormat

__all__ = ["NO_PROOF", "SERVICE_OUTPUT_PATH", "ServiceOutput"]

SERVICE_OUTPUT_PATH = "/service_output"
#: The header of an answer without the proof that `requires_proof` asked for.
NO_PROOF = (b"x-proof", b"none")
#: Bodies up to this size are parsed on the event loop: a thread hop would take longer.
_SMALL_BODY_BYTES = 32 * 1024
#: What is made of bodies up to this size takes no time either.
_TINY_BODY_BYTES = 8 * 1024
_NO_PROOFS = (
    "requires_proof: this workflow makes no proofs; ask without one, or configure one that does: "
    "TorchInferenceWorkflow with proof_artifact, or EZKLProofWorkflow"
)
_NO_PROOFS_IN_BYTES = (
    "requires_proof: only JSON has a place for a proof; ask with 'Accept: application/json'"
)
_NO_PROOFS_IN_STREAMS = "requires_proof: a stream has no place for a proof; give destination 1"


class ServiceOutput:
    """Answers Infernet messages with a workflow.

    A service that has addresses for jobs sets `gives_jobs` and defines `accepted`.
    """

    #: Whether a web client is answered with a job where the workflow has no answer in time.
    gives_jobs: ClassVar[bool] = False

    def __init__(self, workflow: BaseInferenceWorkflow) -> None:
        self._workflow = workflow
        #: The parser keeps the GIL: several at once would take no less time, and the event loop
        #: would wait for all of them.
        self._parsing = asyncio.Lock()

    async def answer(self, body: bytes, headers: Headers) -> Reply:
        """Return the reply in the form that the message's destination needs.

        With `Accept: text/plain`, an off-chain answer that is a string comes as it is, without
        JSON's quotes. A body in one of the workflow's forms of bytes is the `data` of an off-chain
        message, and an off-chain answer may be wanted in one of them.

        Raises a `ServiceError` for what the caller can change, and whatever the workflow raises.
        """
        formats = self._workflow.body_formats
        wanted = Wanted.by(headers, formats)
        if given := formats.get(media_type(headers)):
            set_takes(jobs=False, proof=False)
            return await self.run_bytes(given, body, wanted, headers)
        if len(body) <= _SMALL_BODY_BYTES:
            message = parse_message(body)
        else:
            async with self._parsing:
                message = await self._workflow.in_thread(parse_message, body)
        takes_jobs = self.gives_jobs and message.goes_to is JobLocation.OFFCHAIN
        set_takes(jobs=takes_jobs and not message.is_for_next_hop, proof=message.takes_proof)
        is_small = len(body) <= _TINY_BODY_BYTES
        return await self.run(message, wanted, headers, is_small=is_small)

    async def run(
        self, message: InfernetInput, wanted: Wanted, headers: Headers, *, is_small: bool
    ) -> Reply:
        """Return the reply to a message, one `is_small` where what is made of it takes no time."""
        match message.goes_to:
            case JobLocation.OFFCHAIN:
                return await self._run_offchain(message, wanted, is_small=is_small)
            case JobLocation.ONCHAIN:
                output = await self._run_onchain(message, is_small=is_small)
                return Reply(200, to_json(output.to_json()))
            case JobLocation.STREAM:
                return await self._stream(message)

    async def accepted(self, accepted: Accepted) -> Reply:
        """Return the reply that tells where a job is found."""
        raise InternalError("The workflow made a job, and this service has no address for it.")

    def refusal(self, error: ServiceError) -> Reply:
        """Return the one error form, which the node recognises by its `code`."""
        return error_reply(error)

    async def run_bytes(
        self, given: BodyFormat, body: bytes, wanted: Wanted, headers: Headers
    ) -> Reply:
        """Return the reply to a body in one of the workflow's forms of bytes."""
        reply = await self._workflow.run(
            lambda: self._workflow.decode_offchain(given.read(body)), partial(self._reply, wanted)
        )
        return await self.accepted(reply) if isinstance(reply, Accepted) else reply

    async def _run_offchain(
        self, message: InfernetInput, wanted: Wanted, *, is_small: bool
    ) -> Reply:
        workflow, decode = self._workflow, partial(self._decode, message)
        reply: Reply | Accepted
        if self._proves(message):
            if wanted.form is not None:
                raise InvalidInput(_NO_PROOFS_IN_BYTES)
            answer, proof = await workflow.run_with_proof(decode, self._answer)
            if proof is not None:
                answer = proof.answer_with(answer)
            reply = await workflow.in_thread(_written, answer, wanted.is_text)
        else:
            encode = partial(self._reply, wanted)
            reply = await workflow.run(decode, encode, is_small=is_small)
            if message.requires_proof and isinstance(reply, Reply):
                reply.headers.append(NO_PROOF)
        return await self.accepted(reply) if isinstance(reply, Accepted) else reply

    async def _run_onchain(self, message: InfernetInput, *, is_small: bool) -> OnchainOutput:
        workflow, decode = self._workflow, partial(self._decode, message)

        def encode(input_data: Any, output: Any) -> OnchainOutput:
            raw_output = workflow.encode_onchain(output, input_data)
            return OnchainOutput(raw_input=message.input_bytes(), raw_output=raw_output)

        if not self._proves(message):
            return await workflow.run(decode, encode, is_small=is_small)
        answer, proof = await workflow.run_with_proof(decode, encode)
        return answer if proof is None else replace(answer, proof=proof.calldata)

    async def _stream(self, message: InfernetInput) -> Reply:
        if self._proves(message):
            return await self._stream_with_proof(message)
        input_data = await self._workflow.in_thread(self._decode, message)
        pieces = _whole_characters(self._workflow.stream(input_data))
        # The status is only sent with the first piece, so that a failure before it has its own.
        first = await anext(pieces, b"")
        return Reply(200, with_first(first, pieces), TEXT, list(STREAM_HEADERS))

    async def _stream_with_proof(self, message: InfernetInput) -> Reply:
        """Return the whole answer as one piece, which has a place for its proof."""
        if self._workflow.can_stream:
            raise InvalidInput(_NO_PROOFS_IN_STREAMS)
        decode = partial(self._decode, message)
        answer, proof = await self._workflow.run_with_proof(decode, self._answer)
        if proof is not None:
            answer = proof.answer_with(answer)
        text = await self._workflow.in_thread(as_text, answer)
        return Reply(200, text.encode(errors="replace"), TEXT, list(STREAM_HEADERS))

    def _reply(self, wanted: Wanted, input_data: Any, output: Any) -> Reply | Accepted:
        if wanted.form is None or isinstance(output, Accepted):
            return _written(self._answer(input_data, output), wanted.is_text)
        return Reply(200, wanted.form.write(output), wanted.form.media_type)

    def _answer(self, input_data: Any, output: Any) -> Any:
        if isinstance(output, Accepted):
            return output
        return self._workflow.encode_offchain(output, input_data)

    def _proves(self, message: InfernetInput) -> bool:
        """Return whether a proof is made because the message asks for one.

        The node asks every hop of a chain, so a reply to a next hop goes without. Raises
        `InvalidInput` where the proof would be missed: on-chain, and by who reads a stream.
        """
        if not message.requires_proof or message.is_for_next_hop:
            return False
        if not self._workflow.can_prove and message.goes_to is not JobLocation.OFFCHAIN:
            raise InvalidInput(_NO_PROOFS)
        return self._workflow.can_prove

    def _decode(self, message: InfernetInput) -> Any:
        if message.source == InfernetInputSource.CHAIN:
            return self._workflow.decode_onchain(bytes.fromhex(message.data))
        return self._workflow.decode_offchain(message.data)


def _written(answer: Any, prefers_text: bool) -> Reply | Accepted:
    if isinstance(answer, Accepted):
        return answer
    if prefers_text and isinstance(answer, str):
        return Reply(200, answer.encode(errors="replace"), TEXT)
    return Reply(200, to_json(answer))


async def _whole_characters(pieces: AsyncIterator[str | bytes]) -> AsyncIterator[bytes]:
    """Yield UTF-8 that ends on character boundaries: the node's CLI decodes each piece alone."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    async with contextlib.aclosing(pieces) as closing_pieces:  # type: ignore[type-var]
        async for piece in closing_pieces:
            text = decoder.decode(piece) if isinstance(piece, bytes) else piece
            if text:
                yield text.encode("utf-8", errors="replace")
    if rest := decoder.decode(b"", final=True):
        yield rest.encode()
