"""Answers tensors with a circuit of ezkl, and proves the answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ml.deadline import seconds_left
from ml.errors import ConfigurationError, InternalError, NotFound
from ml.infernet.tensor_request import decode_torch_input
from ml.proving.artifact import Artifact
from ml.proving.prover import ProvedAnswer, Prover
from ml.proving.worker import Worker
from ml.workflows.cancellation import is_cancelled
from ml.workflows.inference.base_classic_ml_inference_workflow import (
    BaseClassicMLInferenceWorkflow,
)
from ml.workflows.inference.tensor_input import TensorInput
from ml.workflows.inference.tensor_output import tensor_form
from ml.workflows.proof.proof_input import OnchainProofInput, ProofInput

__all__ = ["CircuitAnswer", "EZKLProofWorkflow"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class CircuitAnswer:
    """What a circuit answered, and the proof of it once there is one."""

    prover: Prover
    tensor: Array
    outputs: tuple[Array, ...]
    proved: ProvedAnswer | None = None


class EZKLProofWorkflow(BaseClassicMLInferenceWorkflow):
    """Answers with the circuits of folders that `python -m ml.proving.artifacts` built.

        EZKLProofWorkflow("artifacts/iris", "artifacts/credit")

    A request names an artifact as its `model_id`, by name or id; the first is the default. Input
    is a tensor as in the classic service. Off chain, the answer is `{"artifact", "outputs",
    "proof", "calldata", "public_values", "seconds"}`; `calldata` is what the artifact's verifier
    contract is called with. On chain, the answer is the output as a vector, and `proof` that
    calldata if a proof is asked for.

    `proof_seconds` bounds one proof, beside the request's own deadline; `memory_limit_bytes` the
    process that proves. Raises `ConfigurationError` for arguments that cannot work; `setup()`
    raises it for artifacts that are damaged, of another version of ezkl, or whose own input
    cannot be proved.
    """

    input_model = ProofInput

    def __init__(
        self,
        *artifacts: str | PathLike[str],
        proof_seconds: float = 600.0,
        memory_limit_bytes: int | None = None,
    ) -> None:
        super().__init__()
        if not artifacts or not all(isinstance(folder, str | PathLike) for folder in artifacts):
            raise ConfigurationError("artifacts: give the paths of one or more folders")
        if not _is_number(proof_seconds) or not 0 < proof_seconds < math.inf:
            raise ConfigurationError(f"proof_seconds: give a positive number, not {proof_seconds}")
        if memory_limit_bytes is not None and (
            not _is_number(memory_limit_bytes) or memory_limit_bytes <= 0
        ):
            raise ConfigurationError(f"memory_limit_bytes: not {memory_limit_bytes}")
        self.folders = [Path(folder) for folder in artifacts]
        self._proof_seconds = proof_seconds
        self._memory_limit_bytes = memory_limit_bytes
        self.provers: list[Prover] = []

    def do_setup(self) -> None:
        """Check the artifacts, start the process, and prove each artifact's own input."""
        artifacts = [Artifact(folder) for folder in self.folders]
        names = [artifact.manifest.name for artifact in artifacts]
        if len(set(names)) < len(names):
            raise ConfigurationError(f"artifacts: two have one name: {', '.join(sorted(names))}")
        self._worker = Worker(memory_limit_bytes=self._memory_limit_bytes)
        provers = [Prover(artifact, self._worker) for artifact in artifacts]
        try:
            for prover in provers:
                prover.require_usable(
                    memory_limit_bytes=self._memory_limit_bytes, seconds=self._proof_seconds
                )
        except BaseException:
            self._worker.close()
            raise
        self.provers = provers

    def do_close(self) -> None:
        """End the process."""
        self.provers = []
        self._worker.close()

    def prover_for(self, model_id: str) -> Prover:
        """Return the prover of an artifact, the first for "". Raises `NotFound`."""
        for prover in self.provers:
            if not model_id or prover.artifact.answers_for(model_id):
                return prover
        known = ", ".join(prover.artifact.manifest.name for prover in self.provers)
        raise NotFound(f"model_id: {model_id[:200]!r} is none of {known}")

    def do_preprocessing(self, input_data: Any) -> Any:
        """Return the input and its prover; scripts may give a dict with `dtype` and `values`."""
        if not isinstance(input_data, TensorInput):
            input_data = self.decode_offchain(input_data)
        return input_data, self.prover_for(input_data.model_id)

    def do_run_model(self, preprocessed_data: Any) -> CircuitAnswer:
        """Return the circuit's answer.

        It is proved at once where the input came off chain, whose answer has the proof in it. For
        a contract the circuit is only run: it may not have asked for a proof.

        Raises `InvalidInput` for a shape, dtype or number that the circuit does not take.
        """
        input_data, prover = preprocessed_data
        tensor = input_data.values
        if not isinstance(input_data, OnchainProofInput):
            proved = self._prove(prover, tensor)
            return CircuitAnswer(prover, tensor, proved.outputs, proved)
        outputs = prover.run([tensor], seconds=self._seconds(), is_cancelled=is_cancelled)
        return CircuitAnswer(prover, tensor, outputs)

    def do_postprocessing(self, input_data: Any, output_data: CircuitAnswer) -> CircuitAnswer:
        """Return the answer as it is."""
        return output_data

    def do_generate_proof(self, input_data: Any, output: CircuitAnswer) -> bytes:
        """Return the calldata of the verifier contract, `verifyProof(bytes,uint256[])`."""
        return self._proved(output).calldata

    def encode_offchain(self, output: CircuitAnswer, input_data: Any) -> dict[str, Any]:
        """Return the answer with its proof; hex begins with 0x, as Ethereum's tools have it."""
        proved = self._proved(output)
        values = proved.public_values
        return {
            "artifact": output.prover.artifact.manifest.id,
            "outputs": _forms(output.outputs),
            "proof": _hex(proved.proof.proof),
            "calldata": _hex(proved.calldata),
            "public_values": {
                "instances": [_word(instance) for instance in proved.proof.instances],
                "inputs": values.inputs,
                "outputs": values.outputs,
                "input_hashes": [_word(value) for value in values.input_hashes],
                "parameter_hash": _word(values.parameter_hash),
                "output_hashes": [_word(value) for value in values.output_hashes],
            },
            "seconds": {name: round(value, 4) for name, value in proved.seconds.items()},
        }

    def decode_onchain(self, data: bytes) -> OnchainProofInput:
        """Return the tensor of a tensor request or of a legacy `int256[]`: one row, double.

        Raises `InvalidInput` for anything else and `NotFound` for an artifact that is not here.
        """
        request = decode_torch_input(data)
        self.prover_for(request.model_id)
        return OnchainProofInput.from_request(request)

    def encode_onchain(self, output: CircuitAnswer, input_data: Any) -> bytes:
        """Return the output as a vector, in the arithmetic that the request asked for."""
        return super().encode_onchain(_forms(output.outputs), input_data)

    def supports_model(self, model_id: str) -> bool:
        """Return whether an artifact has this name or id."""
        return any(prover.artifact.answers_for(model_id) for prover in self.provers)

    def compute_capability(self) -> dict[str, Any]:
        """Return this workflow's entry in the `/service-resources` document."""
        names = [prover.artifact.manifest.name for prover in self.provers]
        return {"id": "ml", "type": "ezkl", "task": ["proof"], "models": names}

    def _proved(self, answer: CircuitAnswer) -> ProvedAnswer:
        if answer.proved is not None:
            return answer.proved
        proved = self._prove(answer.prover, answer.tensor)
        if not all(map(np.array_equal, proved.outputs, answer.outputs)):
            raise InternalError("The proof is of another answer than the one that was given.")
        return proved

    def _prove(self, prover: Prover, tensor: Array) -> ProvedAnswer:
        return prover.prove([tensor], seconds=self._seconds(), is_cancelled=is_cancelled)

    def _seconds(self) -> float:
        return min(self._proof_seconds, seconds_left())


def _forms(outputs: tuple[Array, ...]) -> Any:
    forms = [tensor_form(output) for output in outputs]
    return forms[0] if len(forms) == 1 else forms


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _word(element: int | None) -> str | None:
    return None if element is None else _hex(element.to_bytes(32, "big"))
