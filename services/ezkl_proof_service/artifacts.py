"""`/artifacts` and `/verify`: what is proved with, and checks of proofs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field
from quart import Response, request
from quart_schema import document_request

from ezkl_patches import Proof, decode_verify_calldata
from ml.errors import InvalidInput
from ml.proving.artifact import Artifact
from ml.proving.failures import ProofRefused
from ml.serving.client_request import ClientRequest
from ml.workflows.proof.ezkl_proof_workflow import EZKLProofWorkflow

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp


class VerifyRequest(ClientRequest):
    """The body of `POST /verify`."""

    artifact: str = Field(default="", description="An artifact's name or id; the first by default")
    calldata: str = Field(description="The calldata of verifyProof, in hex, as an answer has it")


def add_artifacts(app: ServiceApp, workflow: EZKLProofWorkflow) -> None:
    """Register the addresses."""

    @app.get("/artifacts")
    async def artifacts() -> dict[str, Any]:
        """Return the artifacts, with sizes, shapes and the cost of a proof."""
        app.health.require_loaded()
        return {"artifacts": [_view(prover.artifact) for prover in workflow.provers]}

    @app.get("/artifacts/<name>")
    async def artifact(name: str) -> dict[str, Any]:
        """Return an artifact's whole manifest."""
        app.health.require_loaded()
        return workflow.prover_for(name).artifact.manifest.model_dump(mode="json")

    @app.get("/artifacts/<name>/verifier.sol")
    async def verifier(name: str) -> Response:
        """Return the Solidity source of an artifact's verifier contract."""
        app.health.require_loaded()
        source = await workflow.in_thread(
            lambda: workflow.prover_for(name).artifact.verifier_source
        )
        return Response(source, content_type="text/plain; charset=utf-8")

    @app.post("/verify")
    @document_request(VerifyRequest)
    async def verify() -> dict[str, Any]:
        """Check a proof against an artifact."""
        app.health.require_loaded()
        asked = VerifyRequest.read(await request.get_data())
        prover = workflow.prover_for(asked.artifact)
        view = {"artifact": prover.artifact.manifest.id}
        try:
            values = await workflow.in_thread(prover.verify, _proof(asked.calldata))
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
    return {**manifest, "verifier": f"/artifacts/{manifest['name']}/verifier.sol"}
