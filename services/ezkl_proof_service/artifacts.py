"""`/artifacts` and `/verify`: what is proved with, and checks of proofs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field
from quart import Response, request
from quart_schema import document_request, document_response

from ezkl_patches import Proof, PublicValues, decode_verify_calldata
from ml.caller import is_cancelled
from ml.errors import InvalidInput, NotFound
from ml.proving.artifact import (
    SETTINGS,
    VERIFIER,
    VERIFIER_ABI,
    VERIFIER_CODE,
    VERIFYING_KEY,
    Artifact,
)
from ml.proving.failures import ProofRefused
from ml.proving.manifest import Manifest
from ml.proving.prover import Prover
from ml.serving.answers import FileContent
from ml.serving.client_request import ClientRequest
from ml.workflows.proof.ezkl_proof_workflow import EZKLProofWorkflow

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

#: The files that whoever checks proofs may want; the proving key is none of them.
_CONTENT_TYPES = {
    VERIFIER: "text/plain; charset=utf-8",
    VERIFIER_CODE: "text/plain; charset=utf-8",
    VERIFIER_ABI: "application/json",
    SETTINGS: "application/json",
    VERIFYING_KEY: "application/octet-stream",
}


class VerifyRequest(ClientRequest):
    """The body of `POST /verify`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"artifact": "iris", "calldata": "0x1e8e1e13"}]}
    )

    artifact: str = Field(default="", description="An artifact's name or id; the first by default")
    calldata: str = Field(description="The calldata of verifyProof, in hex, as an answer has it")


class ArtifactRecord(BaseModel, extra="allow"):
    """An artifact: its manifest, without the list of files."""

    id: str
    name: str
    verifier: str = Field(description="The address of the verifier contract's source")


class ArtifactList(BaseModel):
    """What is proved with."""

    artifacts: list[ArtifactRecord]


class ArtifactFile(FileContent):
    """The file as it is: a text, JSON, or a key's bytes."""

    media_types: ClassVar[tuple[str, ...]] = (
        "text/plain",
        "application/json",
        "application/octet-stream",
    )


class ShownValues(BaseModel):
    """What a proof tells everybody."""

    inputs: list[Any]
    outputs: list[Any]


class Verdict(BaseModel):
    """Whether a proof holds, and why not."""

    artifact: str
    valid: bool
    reason: str | None
    public_values: ShownValues | None = None


def add_artifacts(app: ServiceApp, workflow: EZKLProofWorkflow) -> None:
    """Register the addresses."""

    @app.get("/artifacts")
    @document_response(ArtifactList)
    async def artifacts() -> dict[str, Any]:
        """Return the artifacts, with sizes, shapes and the cost of a proof."""
        return {"artifacts": [_view(prover.artifact) for prover in workflow.provers]}

    @app.get("/artifacts/<name>")
    @document_response(Manifest)
    async def artifact(name: str) -> dict[str, Any]:
        """Return an artifact's whole manifest."""
        return workflow.prover_for(name).artifact.manifest.model_dump(mode="json")

    @app.get("/artifacts/<name>/<file>")
    @document_response(ArtifactFile)
    async def artifact_file(name: str, file: str) -> Response:
        """Return what a check of proofs needs: the verifier's source, code and ABI, settings, key.

        `verifier.bin` is the code that deploys the verifier, in hex. It has no constructor and
        holds no address, so it is the same on every chain.
        """
        artifact = workflow.prover_for(name).artifact
        if file not in _CONTENT_TYPES:
            raise NotFound(f"{file[:200]!r} is none of {', '.join(_CONTENT_TYPES)}")
        data = await workflow.in_thread(artifact.read, file)
        return Response(data, content_type=_CONTENT_TYPES[file])

    def check(prover: Prover, calldata: str) -> PublicValues:
        seconds = app.settings.request_timeout_seconds
        return prover.verify(_proof(calldata), seconds=seconds, is_cancelled=is_cancelled)

    @app.post("/verify")
    @document_request(VerifyRequest)
    @document_response(Verdict)
    async def verify() -> dict[str, Any]:
        """Check a proof against an artifact."""
        asked = VerifyRequest.read(await request.get_data())
        prover = workflow.prover_for(asked.artifact)
        view = {"artifact": prover.artifact.manifest.id}
        try:
            values = await workflow.in_thread(check, prover, asked.calldata)
        except ProofRefused as refused:
            return {**view, "valid": False, "reason": refused.description}
        public = {"inputs": values.inputs, "outputs": values.outputs}
        return {**view, "valid": True, "reason": None, "public_values": public}


def _proof(calldata: str) -> Proof:
    try:
        return decode_verify_calldata(bytes.fromhex(calldata.removeprefix("0x")))
    except ValueError as error:
        raise InvalidInput(f"calldata: this is none of verifyProof: {error}") from None


def _view(artifact: Artifact) -> dict[str, Any]:
    manifest = artifact.manifest.model_dump(mode="json", exclude={"files"})
    return {**manifest, "verifier": f"/artifacts/{manifest['name']}/{VERIFIER}"}
