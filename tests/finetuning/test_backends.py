"""Which backend is taken, and how one says that it cannot be used."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from ml.errors import UnprocessableInput
from ml.finetuning.backends.choice import choose_backend
from ml.finetuning.backends.unsloth_backend import UnslothBackend
from ml.finetuning.request import TrainingParameters
from tests.support.processes import clean_environment

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


@no_gpu
def test_auto_takes_trl_where_no_gpu_is_and_says_why() -> None:
    choice = choose_backend(TrainingParameters())
    assert choice.backend.name == "trl"
    assert choice.reason.startswith("auto: Unsloth cannot be used here: ")


def test_trl_is_taken_when_it_is_named() -> None:
    choice = choose_backend(TrainingParameters(backend="trl"))
    assert (choice.backend.name, choice.reason) == ("trl", "the request names it")


@no_gpu
def test_unsloth_without_a_gpu_is_refused_in_words() -> None:
    refusal = UnslothBackend().refusal(TrainingParameters())
    assert refusal is not None
    assert "not installed" in refusal or "CUDA GPU" in refusal
    with pytest.raises(UnprocessableInput, match="'unsloth' cannot be used here: "):
        choose_backend(TrainingParameters(backend="unsloth"))


@no_gpu
def test_unsloth_that_is_installed_needs_a_gpu(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A package of that name is enough for the question; it is not imported for it."""
    folder = tmp_path_factory.mktemp("installed")
    (folder / "unsloth").mkdir()
    (folder / "unsloth" / "__init__.py").write_text("raise ImportError('needs a GPU')")
    code = (
        "from ml.finetuning.backends.unsloth_backend import UnslothBackend\n"
        "from ml.finetuning.request import TrainingParameters\n"
        "print(UnslothBackend().refusal(TrainingParameters()))"
    )
    environment = clean_environment() | {"PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "it needs a CUDA GPU, and this machine shows none"


def test_choosing_a_backend_imports_nothing_that_unsloth_must_precede() -> None:
    code = (
        "import sys, ml.finetuning.job\n"
        "from ml.finetuning.backends.choice import choose_backend\n"
        "from ml.finetuning.request import TrainingParameters\n"
        "choose_backend(TrainingParameters())\n"
        "print(*{'transformers', 'trl', 'peft', 'unsloth'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ""
