"""Builds a folder of proving artifacts from an ONNX model, stage by stage."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ezkl_patches import Proof
from ml.errors import ConfigurationError, ServiceError
from ml.proving import artifact, build_tasks, tasks
from ml.proving.artifact import EZKL_VERSION, circuit_files, file_record, require_ezkl
from ml.proving.calibration import first_input, read_calibration
from ml.proving.cost import estimated_memory_bytes
from ml.proving.manifest import Manifest, TensorRecord, Visibilities, is_name
from ml.proving.native import RunArguments
from ml.proving.srs import SrsSource
from ml.proving.tasks import ProvedDocument
from ml.proving.verifier_code import VerifierCompiler
from ml.proving.worker import Worker

__all__ = ["BuildRequest", "Told", "build"]

#: Told each finished stage, its seconds, and a remark.
Told = Callable[[str, float, str], None]


@dataclass(frozen=True)
class BuildRequest:
    """What to build.

    Attributes:
        calibration: a JSON file, see `ml.proving.calibration`.
        folder: where the artifact goes; it must not exist, and appears whole or not at all.
        target: what calibration saves, "resources" or "accuracy".
        compiler: the verifier's; None: its source is all there will be.
        memory_limit_bytes: a circuit that is estimated to need more is refused, and the process
            gets no more.
    """

    model: Path
    calibration: Path
    folder: Path
    name: str
    srs: SrsSource
    visibility: Visibilities
    target: str = "resources"
    memory_limit_bytes: int | None = None
    compiler: VerifierCompiler | None = None


def build(request: BuildRequest, told: Told) -> Manifest:
    """Return the manifest of the artifact that was built, with one proof made and checked.

    Raises `ConfigurationError` that says why it cannot be built and, where it is known, the fix.
    """
    require_ezkl()
    if not is_name(request.name):
        raise ConfigurationError(
            f"name: {request.name!r}: use letters, digits, '.', '_' and '-', at most 80 of them"
        )
    if request.folder.exists():
        raise ConfigurationError(f"{request.folder} exists; give a new folder or remove it")
    if not request.model.is_file():
        raise ConfigurationError(f"{request.model}: no such file")
    request.srs.check()
    if request.compiler is not None:
        request.compiler.check()
    request.folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=request.folder.parent, prefix=".building-") as scratch:
        folder = Path(scratch, "artifact")
        folder.mkdir()
        try:
            manifest = _Build(request, folder, told).run()
        except ServiceError as error:
            raise ConfigurationError(f"{request.model.name}: {error.description}") from error
        folder.rename(request.folder)
    return manifest


class _Build:
    def __init__(self, request: BuildRequest, folder: Path, told: Told) -> None:
        self.request = request
        self.folder = folder
        self.files = circuit_files(folder)
        self.told = told
        self.remark = ""
        self.verifier_compiler: str | None = None

    def run(self) -> Manifest:
        limit = self.request.memory_limit_bytes
        offline = self.request.srs.kind != "public"
        with Worker(memory_limit_bytes=limit, offline=offline) as worker:
            with self._stage("settings"):
                shapes = self._inspect(worker)["model_instance_shapes"]
                settings = self._calibrate(worker)
            with self._stage("compile"):
                worker.run(partial(build_tasks.compile_circuit, self.request.model, self.files))
            logrows = settings["run_args"]["logrows"]
            with self._stage("srs"):
                self.remark = self.request.srs.put(self.files.srs, logrows, worker)
            with self._stage("setup"):
                worker.run(partial(build_tasks.make_keys, self.files))
                self.remark = f"proving key of {self._megabytes(self.files.proving_key)}"
            with self._stage("verifier"):
                self._make_verifier(worker)
        # A fresh process, so that the memory is a proof's, not that of the setup.
        with Worker(memory_limit_bytes=limit) as worker, self._stage("self-test"):
            document = (self.folder / artifact.SELF_TEST).read_text()
            proved = worker.run(partial(tasks.prove, self.files, document))
            self.remark = f"one proof in {sum(proved.seconds.values()):.2f} s"
        manifest = self._manifest(settings, shapes, proved)
        manifest.write(self.folder)
        return manifest

    def _inspect(self, worker: Worker) -> dict[str, Any]:
        """Return the settings of a public circuit, once the calibration data fits to them."""
        request = self.request
        columns = read_calibration(request.calibration)
        settings = worker.run(partial(build_tasks.inspect_model, request.model))
        if "Bool" in settings["input_types"]:
            raise ConfigurationError(
                f"{request.model.name}: it takes booleans, for which ezkl has no circuit: take "
                "numbers and compare them in forward"
            )
        shapes = settings["model_instance_shapes"][: len(settings["input_types"])]
        document = {"input_data": first_input(columns, list(map(math.prod, shapes)))}
        (self.folder / artifact.SELF_TEST).write_text(json.dumps(document))
        return settings

    def _calibrate(self, worker: Worker) -> dict[str, Any]:
        request, visibility = self.request, self.request.visibility
        settings = worker.run(
            partial(
                build_tasks.choose_settings,
                request.model,
                request.calibration,
                RunArguments(visibility.input, visibility.param, visibility.output),
                request.target,
            )
        )
        self.files.settings.write_text(json.dumps(settings))
        self._refuse_what_does_not_fit(settings)
        return settings

    def _refuse_what_does_not_fit(self, settings: dict[str, Any]) -> None:
        needed, limit = estimated_memory_bytes(settings), self.request.memory_limit_bytes
        arguments = settings["run_args"]
        self.remark = (
            f"2^{arguments['logrows']} rows, digits of {arguments['decomp_base']} × "
            f"{arguments['decomp_legs']}, about {needed / 1e6:.0f} MB for a proof"
        )
        if limit is not None and needed > limit:
            raise ConfigurationError(
                f"{self.request.model.name}: a circuit of {self.remark}, over the limit of "
                f"{limit / 1e6:.0f} MB"
            )

    def _make_verifier(self, worker: Worker) -> None:
        source = self.folder / artifact.VERIFIER
        worker.run(partial(build_tasks.write_verifier, self.files, source))
        if self.request.compiler is None:
            return
        compiled = (self.folder / name for name in artifact.COMPILED)
        self.verifier_compiler, self.remark = self.request.compiler.put(source, *compiled)

    def _manifest(
        self, settings: dict[str, Any], shapes: list[list[int]], proved: ProvedDocument
    ) -> Manifest:
        arguments = settings["run_args"]
        compiled = artifact.COMPILED if self.verifier_compiler is not None else ()
        files = {name: file_record(self.folder / name) for name in (*artifact.FILES, *compiled)}
        tensors = [
            TensorRecord(shape=tuple(shape), dtype=dtype, scale=scale)
            for shape, dtype, scale in zip(
                shapes,
                settings["input_types"] + settings["output_types"],
                settings["model_input_scales"] + settings["model_output_scales"],
                strict=True,
            )
        ]
        inputs = len(settings["input_types"])
        return Manifest(
            id=f"{self.request.name}-{files[artifact.VERIFYING_KEY].sha256[:12]}",
            name=self.request.name,
            ezkl_version=EZKL_VERSION,
            model_sha256=file_record(self.request.model).sha256,
            srs=self.request.srs.kind,
            inputs=tuple(tensors[:inputs]),
            outputs=tuple(tensors[inputs:]),
            visibility=self.request.visibility,
            logrows=arguments["logrows"],
            decomp_base=arguments["decomp_base"],
            decomp_legs=arguments["decomp_legs"],
            proof_bytes=len(Proof.from_dict(proved.proof).proof),
            proof_seconds=round(sum(proved.seconds.values()), 3),
            memory_bytes=proved.peak_memory_bytes,
            verifier_compiler=self.verifier_compiler,
            files=files,
        )

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        self.remark = ""
        began = time.monotonic()
        yield
        self.told(name, time.monotonic() - began, self.remark)

    def _megabytes(self, path: Path) -> str:
        return f"{path.stat().st_size / 1e6:.1f} MB"
