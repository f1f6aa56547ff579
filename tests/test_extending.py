"""The recipes of docs/extending.md are followed here, word for word where they can be."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ml import errors
from ml.finetuning.backends.backend import Backend
from ml.finetuning.data import formats
from ml.finetuning.data.example import Turn
from ml.finetuning.data.row import RowFault
from ml.jobs import executors
from ml.jobs.engine import JobEngine
from ml.jobs.executors import choice
from ml.jobs.job import JobState
from ml.jobs.settings import JobSettings
from ml.models import formats as formats_of_models
from ml.models.formats import engines
from ml.serving.env_example import env_example
from ml.serving.services import find_service, settings_of
from ml.workflows.inference.model_file_inference_workflow import ModelFileInferenceWorkflow
from tests.support import step_job
from tests.support.jobs import job_at_step, job_in
from tests.support.processes import ROOT
from tests.support.requests import eventually, is_error, post

DOCUMENT = (ROOT / "docs" / "extending.md").read_text()
#: Each recipe by its heading.
RECIPES = {
    part.partition("\n")[0]: part for part in re.split(r"^## ", DOCUMENT, flags=re.MULTILINE)[1:]
}
#: A file of a table, and what is to be done there.
ROWS = re.findall(r"^\| `([^`]+)` \| (.+) \|$", DOCUMENT, re.MULTILINE)
_BLOCK = re.compile(
    r"^```\w+\n(?:#|//|<!--) (?:in )?(?:\w+ of )?(\S+)(?: -->)?\n(.*?)^```",
    re.MULTILINE | re.DOTALL,
)


def blocks(recipe: str) -> dict[str, str]:
    """Return a recipe's code by the file that it is of."""
    return dict(_BLOCK.findall(RECIPES[recipe]))


MADE = {file for recipe in RECIPES for file in blocks(recipe)}


@pytest.mark.parametrize(("file", "to_do"), ROWS)
def test_a_file_of_a_recipe_is_there_and_has_what_is_named(file: str, to_do: str) -> None:
    if "shout_service" in file or (file in MADE and not (ROOT / file).exists()):
        return  # the recipe makes it
    text = (ROOT / file).read_text()
    for name in re.findall(r"`([A-Za-z_]\w*)`", to_do):
        assert name in text, name


def test_every_path_and_name_of_the_document_is_there() -> None:
    for path in re.findall(r"`((?:src|docs|docker|tests|services)/[\w./]+)`", DOCUMENT):
        assert (ROOT / path).exists() or "shout_service" in path or path in MADE, path
    for name, path in re.findall(r"`(\w+)` in `(src/[\w./]+)`", DOCUMENT):
        assert name in (ROOT / path).read_text(), (name, path)
    for heading in RECIPES:
        assert f"(#{heading.lower().replace(' ', '-')})" in DOCUMENT
    assert len(RECIPES) == 10


@pytest.fixture
def shout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the service of the recipes, in which modules are found."""
    files = blocks("A service") | blocks("A route") | blocks("A page")
    for name, code in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    monkeypatch.syspath_prepend(tmp_path / "services")
    yield tmp_path / "services" / "shout_service"
    for name in [name for name in sys.modules if name.partition(".")[0] == "shout_service"]:
        del sys.modules[name]


async def answer_of(app: Any, text: str) -> str:
    await eventually(lambda: app.health.state == "ready")
    return (await (await post(app, text)).get_data()).decode()


def create() -> Any:
    return importlib.import_module("shout_service").create_app()


async def test_a_service_is_found_started_and_asked(shout: Path) -> None:
    assert find_service("shout") == "shout_service"
    assert "\n# SHOUT_MAX_IN_FLIGHT=" in env_example("shout_service", settings_of("shout_service"))
    app = create()
    async with app.test_app():
        assert await answer_of(app, "hello") == '"HELLO"'


async def test_a_route_answers_and_asks_for_a_key(
    shout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOUT_API_KEYS", "a-key")
    app = create()
    importlib.import_module("shout_service.volume").add_volume(app)
    async with app.test_app():
        await eventually(lambda: app.health.state == "ready")
        client = app.test_client()
        assert (await client.post("/volume", json="Hello")).status_code == 401
        key = {"Authorization": "Bearer a-key"}
        reply = await client.post("/volume", json="Hello", headers=key)
        assert await reply.get_json() == {"capitals": 1}
        document = await (await client.get("/openapi.json", headers=key)).get_json()
        assert "capitals" in document["paths"]["/volume"]["post"]["summary"]


@pytest.mark.parametrize(("given", "answer"), [("2", '"HELLO!!"'), (None, '"HELLO!"')])
async def test_a_setting_reaches_the_workflow_and_is_shown(
    shout: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, answer: str
) -> None:
    add_setting(shout)
    if given is not None:
        monkeypatch.setenv("SHOUT_MARKS", given)
    shown = env_example("shout_service", settings_of("shout_service"))
    assert "# Exclamation marks behind an answer\n# SHOUT_MARKS=1\n" in shown
    app = create()
    async with app.test_app():
        assert await answer_of(app, "hello") == answer


def test_a_setting_is_checked_at_the_start(
    shout: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    add_setting(shout)
    monkeypatch.setenv("SHOUT_MARKS", "10")
    with pytest.raises(SystemExit) as ended:
        create()
    assert ended.value.code == 2
    assert "SHOUT_MARKS: Input should be less than or equal to 9" in capfd.readouterr().err


def add_setting(shout: Path) -> None:
    [code] = blocks("A setting").values()
    file = shout / "app.py"
    head, line, tail = file.read_text().partition('    workflow_class: str = "')
    first, end, rest = tail.partition("\n")
    imports = "from typing import Any\nfrom pydantic import Field\n"
    file.write_text(f"{imports}{head}{line}{first}{end}{code}{rest}")


async def test_an_error_is_answered_with_its_status_and_sentence(shout: Path) -> None:
    [code] = blocks("An error").values()
    too_quiet = added_to(errors, code)["TooQuiet"]
    assert issubclass(too_quiet, errors.ServiceError)
    app = create()

    @app.get("/silence")
    async def silence() -> None:
        raise too_quiet

    async with app.test_app():
        await eventually(lambda: app.health.state == "ready")
        reply = await app.test_client().get("/silence")
        assert await is_error(reply, 422) == "There is nothing to shout: give a text."


def test_a_form_of_training_data_is_recognised_and_read(monkeypatch: pytest.MonkeyPatch) -> None:
    [code] = blocks("A form of training data").values()
    faq = added_to(formats, code)["FAQ"]
    monkeypatch.setitem(formats.FORMATS, faq.name, faq)
    assert formats.detect_format([faq.sample]) is faq
    question, answer = faq.meaning({**faq.sample, "system": ""}).turns
    assert question == Turn("user", "What is the capital of France?", trained=False)
    assert answer == Turn("assistant", "Paris.", trained=True)
    with pytest.raises(RowFault) as fault:
        faq.meaning({"faq_question": "Why?"})
    assert fault.value.pointer == "/faq_answer"


def test_a_trainer_backend_has_all_that_jobs_ask_of_one() -> None:
    [code] = blocks("A trainer backend").values()
    namespace: dict[str, Any] = {"__name__": "adagrad_backend"}
    exec(code, namespace)  # noqa: S102
    backend = namespace["AdagradBackend"]()
    members = {*vars(Backend), *Backend.__annotations__}
    assert not [name for name in members if name[0] != "_" and not hasattr(backend, name)]
    assert (backend.name, backend.optimizer) == ("adagrad", "adagrad")


async def test_an_executor_is_chosen_by_its_name_and_runs_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = blocks("An executor of jobs")
    (tmp_path / "nice.py").write_text(code["src/ml/jobs/executors/nice.py"])
    monkeypatch.setattr(executors, "__path__", [*executors.__path__, str(tmp_path)])
    line = code["src/ml/jobs/executors/choice.py"]
    [(name, known)] = eval(f"{{{line}}}", vars(choice)).items()  # noqa: S307
    monkeypatch.setitem(choice.EXECUTORS, name, known)
    engine = JobEngine(tmp_path / "jobs", JobSettings(executor="nice"))
    await engine.open()
    await engine.start()
    try:
        await engine.store.create(step_job.KIND, {"steps": 2}, "short")
        await engine.store.create(step_job.KIND, {"steps": 100_000, "pause_seconds": 0.05}, "long")
        assert (await job_in(engine.store, "short", JobState.SUCCEEDED)).result is not None
        await job_at_step(engine.store, "long", 1)
    finally:
        await engine.close()
        sys.modules.pop("ml.jobs.executors.nice", None)
    await engine.open()
    assert (await engine.store.get("long")).state is JobState.INTERRUPTED
    await engine.close()


async def test_a_page_is_shown_in_the_navigation_with_its_files(shout: Path) -> None:
    app = create()
    importlib.import_module("shout_service.loudness").add_loudness(app)
    async with app.test_app():
        client = app.test_client()
        page = await client.get("/loudness", headers={"Accept": "text/html"})
        text = await page.get_data(as_text=True)
        assert 'href="loudness" title="See how loud a text is." aria-current="page"' in text
        for address in re.findall(r'(?:src|href)="((?:loudness|assets)/[^"]+)"', text):
            assert (await client.get(f"/{address}")).status_code == 200, address
        script = await (await client.get("/loudness/loudness.js")).get_data(as_text=True)
        for name, address in re.findall(r'import \{ (\w+) \} from "\.\.(/[^"]+)"', script):
            shared = await (await client.get(address)).get_data(as_text=True)
            assert f"export async function {name}" in shared or f"export function {name}" in shared


async def test_a_model_format_is_found_by_its_ending_and_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = blocks("A model format")
    load = added_to(formats_of_models, code["src/ml/models/formats/linear_file.py"])["load_linear"]
    line = code["src/ml/models/formats/engines.py"]
    [(name, engine)] = eval(f"{{{line}}}", {**vars(engines), "load_linear": load}).items()  # noqa: S307
    monkeypatch.setitem(engines.ENGINES, name, engine)
    np.savez(tmp_path / "model.npz", weights=np.eye(2), bias=np.ones(2))
    workflow = ModelFileInferenceWorkflow(tmp_path / "model.npz")
    await workflow.setup()
    assert workflow.example_input() == {"dtype": "double", "values": [[0.0, 0.0]]}
    answer = await workflow.inference({"dtype": "double", "values": [[1, 2]]})
    assert answer.array.tolist() == [[2.0, 3.0]]
    (tmp_path / "model.npz").write_bytes(b"PK no archive")
    with pytest.raises(
        errors.ConfigurationError, match=r"model\.npz: cannot be loaded as a linear"
    ):
        await ModelFileInferenceWorkflow(tmp_path / "model.npz").setup()


def added_to(module: ModuleType, code: str) -> dict[str, Any]:
    """Return what a module would have with this code at its end."""
    namespace = dict(vars(module))
    exec(code, namespace)  # noqa: S102
    return namespace
