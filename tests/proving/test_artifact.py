"""A folder of artifacts is checked before ezkl sees any of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ml.errors import ConfigurationError
from ml.proving.artifact import FILES, Artifact, file_record
from ml.proving.failures import ArtifactFault
from ml.proving.prover import Prover
from ml.proving.worker import Worker
from tests.support.circuits import copy_of, iris_artifact


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return copy_of(iris_artifact(), tmp_path)


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def accept(folder: Path, name: str) -> None:
    """Let the manifest say of a file what it is now."""
    record = file_record(folder / name).model_dump()
    edit(folder / "manifest.json", lambda manifest: manifest["files"].update({name: record}))


def test_the_manifest_says_what_the_circuit_is() -> None:
    artifact = Artifact(iris_artifact())
    manifest = artifact.manifest
    settings = json.loads((artifact.folder / "settings.json").read_text())
    assert manifest.id == f"iris-{manifest.files['vk.key'].sha256[:12]}"
    assert manifest.ezkl_version == settings["version"] == "23.0.5"
    assert [(t.shape, t.dtype, t.scale) for t in manifest.inputs] == [((1, 4), "F32", 13)]
    assert [t.shape for t in manifest.outputs] == [(1, 3)]
    assert [t.scale for t in manifest.outputs] == settings["model_output_scales"]
    assert manifest.logrows == settings["run_args"]["logrows"]
    assert set(manifest.files) == set(FILES)
    assert artifact.answers_for("iris")
    assert artifact.answers_for(manifest.id)
    assert not artifact.answers_for("")


def test_a_small_model_has_a_small_circuit() -> None:
    manifest = Artifact(iris_artifact()).manifest
    assert manifest.logrows <= 10
    assert manifest.files["pk.key"].size_bytes < 10_000_000
    assert manifest.memory_bytes < 100_000_000


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_altered_or_cut_or_is_missing_is_named(folder: Path, name: str) -> None:
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(ConfigurationError, match=f"{name} of the artifact .* sha256"):
        Artifact(folder)
    path.write_bytes(whole[:-1])
    with pytest.raises(ConfigurationError, match=f"{name} of the artifact .* bytes, not the"):
        Artifact(folder)
    path.unlink()
    with pytest.raises(ConfigurationError, match=f"{name}: No such file"):
        Artifact(folder)


def test_a_verifiers_code_is_compared_with_the_manifest_where_it_has_one(folder: Path) -> None:
    code = folder / "verifier.bin"
    code.write_text("6000\n")
    assert "verifier.bin" not in Artifact(folder).manifest.files
    accept(folder, code.name)
    artifact = Artifact(folder)
    assert artifact.read(code.name) == b"6000\n"
    code.write_text("6001\n")
    with pytest.raises(ArtifactFault, match=r"verifier\.bin of the artifact .* sha256"):
        artifact.read(code.name)
    with pytest.raises(ConfigurationError, match=r"verifier\.bin of the artifact .* sha256"):
        Artifact(folder)


def test_a_manifest_from_before_verifiers_were_compiled_is_read(folder: Path) -> None:
    edit(folder / "manifest.json", lambda manifest: manifest.pop("verifier_compiler"))
    assert Artifact(folder).manifest.verifier_compiler is None


def test_an_artifact_of_another_version_of_ezkl_is_refused(folder: Path) -> None:
    """Its compiled model would abort the process."""
    edit(folder / "manifest.json", lambda manifest: manifest.update(ezkl_version="22.0.1"))
    with pytest.raises(ConfigurationError, match=r"of ezkl 22\.0\.1, which ezkl 23\.0\.5 cannot"):
        Artifact(folder)


def test_settings_of_another_version_of_ezkl_are_refused(folder: Path) -> None:
    edit(folder / "settings.json", lambda settings: settings.update(version="22.0.1"))
    accept(folder, "settings.json")
    with pytest.raises(ConfigurationError, match=r"settings\.json is of ezkl 22\.0\.1"):
        Artifact(folder)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda manifest: manifest.pop("proof_bytes"), "proof_bytes: Field required"),
        (lambda manifest: manifest.update(format=2), "format: "),
        (lambda manifest: manifest.update(id="../x"), "id: "),
        (lambda manifest: manifest["files"].pop("vk.key"), "the manifest lacks vk.key"),
    ],
)
def test_a_manifest_that_cannot_be_used_says_why(
    folder: Path, change: Callable[[dict[str, Any]], Any], match: str
) -> None:
    edit(folder / "manifest.json", change)
    with pytest.raises(ConfigurationError, match=match):
        Artifact(folder)


def test_a_folder_without_a_manifest_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no proving artifact"):
        Artifact(tmp_path)


def test_a_foreign_srs_is_found_before_the_first_request(folder: Path) -> None:
    other = iris_artifact(("hashed", "fixed", "public"))
    (folder / "kzg.srs").write_bytes((other / "kzg.srs").read_bytes())
    accept(folder, "kzg.srs")
    with (
        Worker() as worker,
        pytest.raises(ConfigurationError, match=r"iris-.*: The fresh proof does not hold"),
    ):
        Prover(Artifact(folder), worker).require_usable(seconds=60)


def test_an_artifact_that_needs_more_memory_than_there_may_be_is_refused_with_numbers() -> None:
    with Worker() as worker, pytest.raises(ConfigurationError, match="over the limit of 1000000"):
        Prover(Artifact(iris_artifact()), worker).require_usable(
            memory_limit_bytes=1_000_000, seconds=60
        )
