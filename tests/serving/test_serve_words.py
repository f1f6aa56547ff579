"""What `serve` says before a service runs: which there are, their settings, what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ml import __version__
from ml.errors import ConfigurationError
from ml.serving.env_example import env_example
from ml.serving.services import find_service, service_names, settings_of
from tests.support.processes import ROOT, clean_environment
from tests.support.services import SERVICES


def serve(*options: str, directory: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / "serve", *options],
        env=clean_environment(),
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_services_are_those_of_the_checkout() -> None:
    assert service_names() == SERVICES
    assert serve("--list").stdout.split() == SERVICES


def test_help_names_the_services_and_version_the_version() -> None:
    told = serve("--help").stdout
    assert all(name in told for name in SERVICES)
    assert serve("--version").stdout.split() == ["infernet-ml-services", __version__]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("classic", "classic_ml_inference_service"),
        ("classic_ml", "classic_ml_inference_service"),
        ("llm", "llm_inference_service"),
        ("llm_inference", "llm_inference_service"),
        ("tgi", "tgi_client_inference_service"),
        ("trainer", "unsloth_trainer_service"),
        ("unsloth", "unsloth_trainer_service"),
        ("ezkl", "ezkl_proof_service"),
        ("ezkl_proof_service", "ezkl_proof_service"),
        ("ezkl_proof_service:create_app", "ezkl_proof_service:create_app"),
        ("tests.support.job_service:create_app", "tests.support.job_service:create_app"),
    ],
)
def test_words_of_one_services_name_mean_it(text: str, name: str) -> None:
    assert find_service(text) == name


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("trianer", "did you mean 'trainer'?"),
        ("llm_inference_servce", "did you mean 'llm_inference_service'?"),
        ("inference", "'inference' may mean classic_ml_inference_service or llm_inference_service"),
        ("", "no such service"),
        ("..", "no such service"),
    ],
)
def test_other_words_are_answered_with_the_services(text: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        find_service(text)
    assert told in str(caught.value)
    assert all(name in str(caught.value) for name in SERVICES)


@pytest.mark.parametrize("name", SERVICES)
def test_the_example_is_what_print_env_makes_of_the_settings(name: str) -> None:
    example = (ROOT / "services" / name / ".env.example").read_text()
    assert example == env_example(name, settings_of(name))


@pytest.mark.parametrize("name", SERVICES)
def test_every_setting_of_the_example_has_a_description_and_its_default(name: str) -> None:
    settings = settings_of(name)
    lines = env_example(name, settings).splitlines()
    for field, variable in settings.variables().items():
        numbers = [
            n for n, line in enumerate(lines) if line.lstrip("# ").startswith(f"{variable}=")
        ]
        assert numbers, variable
        assert lines[numbers[0] - 1].startswith("# "), variable
        assert "None" not in lines[numbers[0] - 1]
        default = settings.model_fields[field].default
        if isinstance(default, int | float) and lines[numbers[0]].startswith("#"):
            assert lines[numbers[0]].endswith(f"={default}")


WITHOUT_EXTRAS = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from ml.serving.services import service_names, settings_of
print(*[settings_of(name).prefix() for name in service_names()])
"""


def test_settings_are_shown_without_any_extra() -> None:
    extras = "aiohttp aiosqlite alembic ezkl huggingface_hub httpx sqlalchemy tenacity torch trl"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, f"{extras} transformers"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert len(done.stdout.split()) == len(SERVICES), done.stderr


def test_print_env_needs_no_checkout(tmp_path: Path) -> None:
    done = serve("llm", "--print-env", directory=tmp_path)
    assert done.returncode == 0
    assert done.stdout == (ROOT / "services/llm_inference_service/.env.example").read_text()
    assert serve("json", "--print-env").returncode == 2


@pytest.mark.parametrize(
    ("service", "variable"),
    [
        ("classic", 'CLASSIC_INF_WORKFLOW_KW_ARGS={"model_source": '),
        ("tgi", 'TGI_INF_WORKFLOW_POSITIONAL_ARGS=["http://'),
        ("ezkl", 'EZKL_WORKFLOW_POSITIONAL_ARGS=["artifacts/'),
    ],
)
def test_a_service_without_what_it_needs_names_the_variable_and_an_example(
    service: str, variable: str
) -> None:
    done = serve(service, "--bind=127.0.0.1:0")
    assert done.returncode == 2
    assert f"for example {variable}" in done.stderr
    assert "--print-env" in done.stderr
    assert "Traceback" not in done.stderr
