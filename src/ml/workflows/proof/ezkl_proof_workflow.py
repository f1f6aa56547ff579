"""Answers tensors with a circuit of ezkl, and proves the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import get_args

from pydantic import field_validator

from ml.caller import is_cancelled, seconds_left, takes_jobs, takes_proof
from ml.errors import ConfigurationError, InternalError, InvalidInput, NotFound
from ml.infernet.tensor_request import decode_torch_input
from ml.jobs.job import Job
from ml.json_text import JsonObject
from ml.models.tensor_model import Array
from ml.proving.answer import DTYPE_NAMES, answer_document
from ml.proving.artifact import Artifact
from ml.proving.line import DoesNotFit, Line
from ml.proving.proof_jobs import ProofJobs
from ml.proving.prover import ProvedAnswer, Prover
from ml.proving.provers import start_provers
from ml.workflows.accepted import Accepted
from ml.workflows.arguments import (
    JobArguments,
    Location,
    Positive,
    PositiveCount,
    checked_arguments,
)
from ml.workflows.inference.base_classic_ml_inference_workflow import (
    BaseClassicMLInferenceWorkflow,
)
from ml.workflows.inference.tensor_input import DtypeName, TakenTensor
from ml.workflows.inference.tensor_output import TensorOutput
from ml.workflows.inference.workflow_input import validated
from ml.workflows.proof.proof_input import JobQuestion, OnchainProofInput, ProofInput

__all__ = ["CircuitAnswer", "EZKLArguments", "EZKLProofWorkflow"]


#: A tensor with the prover of its circuit, or which job is asked for.
Question = JobQuestion | tuple[ProofInput | OnchainProofInput, Prover]


@dataclass(frozen=True, eq=False)
class CircuitAnswer:
    """What a circuit answered, and the proof of it where one was made."""

    prover: Prover
    outputs: tuple[Array, ...]
    proved: ProvedAnswer | None = None

    @property
    def calldata(self) -> bytes:
        """What the verifier contract is called with, `verifyProof(bytes,uint256[])`."""
        if self.proved is None:
            raise InternalError("A proof is asked for of an answer that was given without one.")
        return self.proved.calldata

    def answer_with(self, answer: object) -> object:
        """Return the off-chain answer, which holds its proof already."""
        return answer


class EZKLArguments(JobArguments):
    """The folders of artifacts, and what proofs of them may cost."""

    artifacts: tuple[Location, ...]
    proof_seconds: Positive = 600.0
    memory_limit_bytes: PositiveCount | None = None
    working_path: Location | None = None

    @field_validator("artifacts", mode="before")
    @classmethod
    def _has_some(cls, artifacts: tuple[object, ...]) -> tuple[object, ...]:
        if not artifacts:
            raise ValueError("give the paths of one or more folders")
        return artifacts


class EZKLProofWorkflow(BaseClassicMLInferenceWorkflow):
    """Answers with the circuits of folders that `python -m ml.proving.artifacts` built.

        EZKLProofWorkflow("artifacts/iris", "artifacts/credit")

    A request names an artifact as its `model_id`, by name or id; the first is the default. Input
    is a tensor as in the classic service. Off chain, the answer is `{"artifact", "outputs",
    "proof", "calldata", "public_values", "seconds"}`; `calldata` is what the artifact's verifier
    contract is called with. On chain, the answer is the output as a vector, and `proof` that
    calldata if a proof is asked for. Where an answer has no place for a proof, the circuit is only
    run: the answer is the output, as the classic service has it.

    `proof_seconds` bounds one proof, beside the request's own deadline; `memory_limit_bytes` the
    process that proves. With `working_path` a proof that is expected to take longer is a job, where
    the caller takes one (`ml.caller.takes_jobs`); without, and for all others, it is refused at
    once. The input `{"job_id": …}` then asks for a job. The other arguments are those of jobs.

    Raises `ConfigurationError` for arguments that cannot work; `setup()` raises it for artifacts
    that are damaged, of another version of ezkl, or whose own input cannot be proved.
    """

    extra = "ezkl"
    about = "Answers numbers with a model, and proves that this very model gave the answer."
    input_model = ProofInput
    proves_unasked = True

    def __init__(self, *artifacts: str | PathLike[str], **arguments: object) -> None:
        super().__init__()
        checked = checked_arguments(EZKLArguments, artifacts=artifacts, **arguments)
        self.folders = [Path(folder) for folder in checked.artifacts]
        self._arguments = checked
        self.provers: list[Prover] = []
        #: Told the seconds of each stage of a proof.
        self.observer: Callable[[Mapping[str, float]], None] = lambda _: None
        self._line = Line()
        self.jobs: ProofJobs | None = None
        if checked.working_path is not None:
            self.jobs = ProofJobs(
                # Not the path itself: a trainer that shares it would take proofs for its own jobs.
                Path(checked.working_path) / "proofs",
                self.folders,
                checked,
                memory_limit_bytes=checked.memory_limit_bytes,
                proved=lambda seconds: self.observer(seconds),
            )

    async def do_setup(self) -> None:
        """Check the artifacts, start the process, and prove each artifact's own input."""
        provers = await self.in_thread(self._usable_provers)
        try:
            if self.jobs is not None:
                await self.jobs.open()
        except BaseException:
            await self.do_close()
            raise
        self.provers = provers

    async def do_close(self) -> None:
        """Interrupt the jobs that run, and end the process."""
        self.provers = []
        try:
            if self.jobs is not None:
                await self.jobs.close()
        finally:
            await self.in_thread(self._worker.close)

    def _usable_provers(self) -> list[Prover]:
        artifacts = [Artifact(folder) for folder in self.folders]
        names = [artifact.manifest.name for artifact in artifacts]
        if len(set(names)) < len(names):
            raise ConfigurationError(f"artifacts: two have one name: {', '.join(sorted(names))}")
        self._worker, provers = start_provers(
            artifacts,
            seconds=self._arguments.proof_seconds,
            memory_limit_bytes=self._arguments.memory_limit_bytes,
            # Those of long ones are jobs: nobody shall wait for one at the start.
            proves_long_ones=self.jobs is None,
        )
        return provers

    def prover_for(self, model_id: str) -> Prover:
        """Return the prover of an artifact, the first for "". Raises `NotFound`."""
        for prover in self.provers:
            if not model_id or prover.artifact.answers_for(model_id):
                return prover
        known = ", ".join(prover.artifact.manifest.name for prover in self.provers)
        raise NotFound(f"there is no artifact {model_id[:200]!r}; give one of {known}")

    def do_preprocessing(self, input_data: object) -> Question:
        """Return the input and its prover; scripts may give a dict with `dtype` and `values`."""
        if isinstance(input_data, JobQuestion | ProofInput | OnchainProofInput):
            given = input_data
        else:
            given = self.decode_offchain(input_data)
        return given if isinstance(given, JobQuestion) else (given, self.prover_for(given.model_id))

    async def do_run_model(self, preprocessed_data: Question) -> CircuitAnswer | Accepted:
        """Return the circuit's answer, or a job that proves it where it takes too long.

        One run of the worker gives the answer and, where the caller takes it, its proof.

        Raises `InvalidInput` for a shape, dtype or number that the circuit does not take, and
        `DoesNotFit` for a proof that is expected to take too long and cannot be a job.
        """
        if isinstance(preprocessed_data, JobQuestion):
            return Accepted(await self._job(preprocessed_data))
        input_data, prover = preprocessed_data
        if not takes_proof():
            return await self.in_thread(self._compute, prover, input_data.values)
        try:
            with self._place(prover):
                return await self.in_thread(self._prove, prover, input_data.values)
        except DoesNotFit:
            if self.jobs is None or not takes_jobs():
                raise
        return Accepted(await self.submit(input_data))

    async def submit(self, input_data: ProofInput | OnchainProofInput) -> Job:
        """Queue a proof as a job. Raises as `do_run_model` does, and `NotFound`."""
        self._require_setup()
        if self.jobs is None:
            raise ConfigurationError("proofs are jobs only where the workflow has a working_path")
        return await self.jobs.submit(self.prover_for(input_data.model_id), [input_data.values])

    def do_postprocessing(self, input_data: object, output_data: object) -> object:
        """Return the answer as it is."""
        return output_data

    def do_generate_proof(self, input_data: object, output: CircuitAnswer) -> CircuitAnswer:
        """Return the answer, which was proved as it was made."""
        return output

    def decode_offchain(self, data: object) -> JobQuestion | ProofInput:
        """Return a tensor, or which job is asked for."""
        if isinstance(data, dict) and data.keys() == {"job_id"}:
            return validated(JobQuestion, data)
        return validated(ProofInput, data)

    def encode_offchain(self, output: CircuitAnswer, input_data: object) -> object:
        """Return the answer with its proof, as `answer_document` has it, or the outputs alone."""
        if output.proved is None:
            return super().encode_offchain(_tensors(output.outputs), input_data)
        return answer_document(output.prover.artifact.manifest, output.proved)

    def decode_onchain(self, data: bytes) -> OnchainProofInput:
        """Return the tensor of a tensor request or of a legacy `int256[]`: one row, double.

        Raises `InvalidInput` for anything else and `NotFound` for an artifact that is not here.
        """
        request = decode_torch_input(data)
        self.prover_for(request.model_id)
        return OnchainProofInput.from_request(request)

    def encode_onchain_input(self, data: object) -> bytes:
        """Return a tensor request, with the artifact's name or id as its model's."""
        tensor = self.decode_offchain(data)
        if not isinstance(tensor, ProofInput):
            raise InvalidInput("data.job_id: contracts are told of no jobs")
        return tensor.request(tensor.model_id).encode()

    def taken_tensor(self) -> TakenTensor | None:
        """Return the input of the circuit, if there is one circuit with one input."""
        inputs = [record for prover in self.provers for record in prover.artifact.manifest.inputs]
        if len(inputs) != 1:
            return None
        [record] = inputs
        own = DTYPE_NAMES[record.dtype]
        others = (name for name in get_args(DtypeName) if name != own)
        return TakenTensor((own, *others), record.shape)

    def encode_onchain(self, output: CircuitAnswer, input_data: object) -> bytes:
        """Return the output as a vector, in the arithmetic that the request asked for."""
        return super().encode_onchain(_tensors(output.outputs), input_data)

    def supports_model(self, model_id: str) -> bool:
        """Return whether an artifact has this name or id."""
        return any(prover.artifact.answers_for(model_id) for prover in self.provers)

    def compute_capability(self) -> JsonObject:
        """Return this workflow's entry in the `/service-resources` document."""
        names = [prover.artifact.manifest.name for prover in self.provers]
        return {"id": "ml", "type": "ezkl", "task": ["proof"], "models": names}

    async def _job(self, question: JobQuestion) -> Job:
        if self.jobs is None or not takes_jobs():
            raise InvalidInput("data.job_id: only a web client of a service that has jobs is told")
        return await self.jobs.store.get(question.job_id)

    def _compute(self, prover: Prover, tensor: Array) -> CircuitAnswer:
        outputs = prover.run([tensor], seconds=self._seconds(), is_cancelled=is_cancelled)
        return CircuitAnswer(prover, outputs)

    def _prove(self, prover: Prover, tensor: Array) -> CircuitAnswer:
        proved = prover.prove([tensor], seconds=self._seconds(), is_cancelled=is_cancelled)
        self.observer(proved.seconds)
        return CircuitAnswer(prover, proved.outputs, proved)

    def _place(self, prover: Prover) -> AbstractContextManager[None]:
        return self._line.place(prover.expected_seconds, self._seconds())

    def _seconds(self) -> float:
        return min(self._arguments.proof_seconds, seconds_left())


def _tensors(outputs: tuple[Array, ...]) -> TensorOutput | list[TensorOutput]:
    tensors = [TensorOutput.of(output) for output in outputs]
    return tensors[0] if len(tensors) == 1 else tensors
