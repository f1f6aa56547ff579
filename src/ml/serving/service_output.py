"""`POST /service_output`: from the bytes of a request to its reply, by way of the workflow."""

from __future__ import annotations

import codecs
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, ClassVar

from ml.errors import InternalError, InvalidInput, ServiceError
from ml.infernet.json_text import to_json
from ml.infernet.message import (
    InfernetInput,
    InfernetInputSource,
    JobLocation,
    OnchainOutput,
    parse_message,
)
from ml.serving.endpoint import Headers
from ml.serving.reply import STREAM_HEADERS, TEXT, Reply, error_reply
from ml.workflows.accepted import Accepted, set_takes_jobs
from ml.workflows.inference.base_inference_workflow import BaseInferenceWorkflow

__all__ = ["SERVICE_OUTPUT_PATH", "ServiceOutput"]

SERVICE_OUTPUT_PATH = "/service_output"
#: Bodies up to this size are parsed on the event loop: a thread hop would take longer.
_SMALL_BODY_BYTES = 32 * 1024
_NO_PROOFS = (
    "requires_proof: this workflow makes no proofs; ask without one, or configure one that does: "
    "TorchInferenceWorkflow with proof_artifact, or EZKLProofWorkflow"
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

    async def answer(self, body: bytes, headers: Headers) -> Reply:
        """Return the reply in the form that the message's destination needs.

        With `Accept: text/plain`, an off-chain answer that is a string comes as it is, without
        JSON's quotes.

        Raises a `ServiceError` for what the caller can change, and whatever the workflow raises.
        """
        if len(body) <= _SMALL_BODY_BYTES:
            message = parse_message(body)
        else:
            message = await self._workflow.in_thread(parse_message, body)
        set_takes_jobs(self.gives_jobs and message.goes_to is JobLocation.OFFCHAIN)
        match message.goes_to:
            case JobLocation.OFFCHAIN:
                prefers_text = headers.get(b"accept", b"").startswith(b"text/plain")
                return await self._run_offchain(message, prefers_text)
            case JobLocation.ONCHAIN:
                return Reply(200, to_json((await self._run_onchain(message)).to_json()))
            case JobLocation.STREAM:
                return await self._stream(message)

    async def accepted(self, accepted: Accepted) -> Reply:
        """Return the reply that tells where a job is found."""
        raise InternalError("The workflow made a job, and this service has no address for it.")

    def refusal(self, error: ServiceError) -> Reply:
        """Return the one error form, which the node recognises by its `code`."""
        return error_reply(error)

    async def _run_offchain(self, message: InfernetInput, prefers_text: bool) -> Reply:
        if message.requires_proof and not self._workflow.always_proves:
            return await self._prove_offchain(message)

        def encode(input_data: Any, output: Any) -> Reply | Accepted:
            if isinstance(output, Accepted):
                return output
            output = self._workflow.encode_offchain(output, input_data)
            if prefers_text and isinstance(output, str):
                return Reply(200, output.encode(errors="replace"), TEXT)
            return Reply(200, to_json(output))

        reply: Reply | Accepted = await self._workflow.run(lambda: self._decode(message), encode)
        return await self.accepted(reply) if isinstance(reply, Accepted) else reply

    async def _prove_offchain(self, message: InfernetInput) -> Reply:
        workflow = self._workflow
        self._require_proofs()
        # Behind the run: a proof is no part of a batch, whose other requests would wait for it.
        ran = await workflow.run(lambda: self._decode(message), lambda *answered: answered)
        if isinstance(ran[1], Accepted):
            return await self.accepted(ran[1])
        answer = await workflow.answer_with_proof(*ran)
        return Reply(200, await workflow.in_thread(to_json, answer))

    async def _run_onchain(self, message: InfernetInput) -> OnchainOutput:
        workflow = self._workflow
        if message.requires_proof:
            self._require_proofs()

        def encode(input_data: Any, output: Any) -> tuple[Any, Any, OnchainOutput]:
            raw_output = workflow.encode_onchain(output, input_data)
            answer = OnchainOutput(raw_input=message.input_bytes(), raw_output=raw_output)
            return input_data, output, answer

        input_data, output, answer = await workflow.run(lambda: self._decode(message), encode)
        if message.requires_proof:
            proof = await workflow.generate_proof(input_data, output)
            answer = replace(answer, proof=proof)
        return answer

    async def _stream(self, message: InfernetInput) -> Reply:
        if message.requires_proof and not self._workflow.always_proves:
            self._require_proofs()
            raise InvalidInput(_NO_PROOFS_IN_STREAMS)
        input_data = await self._workflow.in_thread(self._decode, message)
        pieces = _whole_characters(self._workflow.stream(input_data))
        # The status is only sent with the first piece, so that a failure before it has its own.
        first = await anext(pieces, b"")
        return Reply(200, _with_first(first, pieces), TEXT, list(STREAM_HEADERS))

    def _require_proofs(self) -> None:
        if not self._workflow.can_prove:
            raise InvalidInput(_NO_PROOFS)

    def _decode(self, message: InfernetInput) -> Any:
        if message.source == InfernetInputSource.CHAIN:
            return self._workflow.decode_onchain(bytes.fromhex(message.data))
        return self._workflow.decode_offchain(message.data)


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


async def _with_first(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(pieces) as closing_pieces:  # type: ignore[type-var]
        yield first
        async for piece in closing_pieces:
            yield piece
