"""Where model files come from: a hub, this machine, this package."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from ml.errors import ConfigurationError
from ml.models.source import BuiltInSource, HubSource, LocalSource

CONTENT = b"the model"
COMMIT = "a" * 40

#: What a process of its own does: the hub's library reads its settings once, when it is imported.
FETCH = """
import sys
from ml.errors import ConfigurationError, UpstreamError
from ml.models.source import HubSource
try:
    print(HubSource(*sys.argv[1:]).fetch().read_bytes().decode())
except (ConfigurationError, UpstreamError) as error:
    print(f"{type(error).__name__}: {error}")
"""


class Hub(BaseHTTPRequestHandler):
    """Speaks the part of the hub's protocol that a download needs."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        if self._answer():
            self.wfile.write(CONTENT)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base's name)
        pass

    def _answer(self) -> bool:
        if code := self._refusal():
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.end_headers()
            return False
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", '"0123456789"')
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        return True

    def _refusal(self) -> str | None:
        _, owner, name, _, revision, *file = self.path.split("/")
        if (owner, name) == ("owner", "private"):
            return None if self.headers["Authorization"] == "Bearer hf_made_up" else "RepoNotFound"
        if (owner, name) == ("owner", "gated"):
            return "GatedRepo"
        if (owner, name) != ("owner", "name"):
            return "RepoNotFound"
        if revision not in ("main", "v2"):
            return "RevisionNotFound"
        return None if file == ["model.torch"] else "EntryNotFound"


@pytest.fixture(scope="module")
def hub_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(folder: Path, *args: str, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("H")}
    done = subprocess.run(
        [sys.executable, "-c", FETCH, *args],
        env={**clean, "HF_HOME": str(folder), "HF_HUB_DISABLE_XET": "1", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_file_of_the_hub_is_downloaded_once_and_then_needs_no_hub(
    hub_url: str, tmp_path: Path
) -> None:
    assert fetch(tmp_path, "owner/name", "model.torch", HF_ENDPOINT=hub_url) == "the model"
    assert fetch(tmp_path, "owner/name", "model.torch", HF_HUB_OFFLINE="1") == "the model"


def test_a_revision_is_asked_for(hub_url: str, tmp_path: Path) -> None:
    assert fetch(tmp_path, "owner/name", "model.torch", "v2", HF_ENDPOINT=hub_url) == "the model"


@pytest.mark.parametrize("variable", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_a_private_repository_opens_with_a_token_of_the_environment(
    variable: str, hub_url: str, tmp_path: Path
) -> None:
    token = {variable: "hf_made_up"}
    answer = fetch(tmp_path, "owner/private", "model.torch", HF_ENDPOINT=hub_url, **token)
    assert answer == "the model"


@pytest.mark.parametrize(
    ("args", "answer"),
    [
        (("owner/nothing", "model.torch"), "owner/nothing:model.torch: no such repository"),
        (("owner/private", "model.torch"), "it is private: set HUGGING_FACE_HUB_TOKEN"),
        (("owner/gated", "model.torch"), "access is granted on the hub's page"),
        (("owner/name", "other.torch"), "owner/name:other.torch: the repository has no such file"),
        (("owner/name", "model.torch", "v3"), "owner/name@v3:model.torch: the repository has no"),
    ],
    ids=["repository", "private", "gated", "file", "revision"],
)
def test_what_the_hub_does_not_have_is_named(
    args: tuple[str, ...], answer: str, hub_url: str, tmp_path: Path
) -> None:
    reply = fetch(tmp_path, *args, HF_ENDPOINT=hub_url)
    assert reply.startswith("ConfigurationError: ")
    assert answer in reply


def test_without_a_hub_a_file_that_is_not_in_the_cache_is_an_upstream_error(tmp_path: Path) -> None:
    answer = fetch(tmp_path, "owner/name", "model.torch", HF_HUB_OFFLINE="1")
    assert answer.startswith("UpstreamError: owner/name:model.torch: the hub cannot be reached")


@pytest.mark.parametrize("repo_id", ["", "a/b/c", "/name", "../name", "own er/name", "owner/"])
def test_an_impossible_repository_is_refused_at_once(repo_id: str) -> None:
    with pytest.raises(ConfigurationError, match="repo_id"):
        HubSource(repo_id, "model.torch")


@pytest.mark.parametrize("filename", ["", "/model.torch", "../model.torch", "a/../../b"])
def test_an_impossible_file_name_is_refused_at_once(filename: str) -> None:
    with pytest.raises(ConfigurationError, match="filename"):
        HubSource("owner/name", filename)


def test_a_local_file_is_given_by_its_path_or_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "model.torch"
    file.write_bytes(CONTENT)
    assert LocalSource(file, "other.torch").fetch() == file
    assert LocalSource(tmp_path, "model.torch").fetch() == file


def test_a_local_path_may_begin_with_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model.torch").write_bytes(CONTENT)
    assert LocalSource(Path("~/model.torch"), "").fetch() == tmp_path / "model.torch"


def test_a_missing_local_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nothing\.torch: there is no such model file"):
        LocalSource(tmp_path / "nothing.torch", "").fetch()


def test_an_unknown_built_in_model_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="'rose'; use classifier_69, iris"):
        BuiltInSource("rose")


HUB = HubSource("owner/name", "model.torch")
TAGGED = HubSource("owner/name", "model.torch", "v2")
LOCAL = LocalSource(Path("/models/owner/name/model.torch"), "")


@pytest.mark.parametrize(
    ("source", "model_id"),
    [
        (HUB, "owner/name"),
        (HUB, "owner/name:model.torch"),
        (HUB, "owner/name:config.json,model.torch"),
        (HUB, "huggingface/owner/name"),
        (HUB, "huggingface/owner/name:model.torch"),
        (HUB, "huggingface/owner/name/main:model.torch"),
        (HUB, "model.torch"),
        (TAGGED, "huggingface/owner/name/v2:model.torch"),
        (LOCAL, "model.torch"),
        (LOCAL, "/models/owner/name/model.torch"),
        (LOCAL, "local/owner/name:model.torch"),
        (BuiltInSource("iris"), "iris"),
        (BuiltInSource("iris"), "iris.torch"),
    ],
)
def test_a_source_answers_for_its_model_in_each_form(
    source: HubSource | LocalSource | BuiltInSource, model_id: str
) -> None:
    assert source.answers_for(model_id)


@pytest.mark.parametrize(
    ("source", "model_id"),
    [
        (HUB, ""),
        (HUB, "name"),
        (HUB, "other/name"),
        (HUB, "owner/name:other.torch"),
        (HUB, "huggingface/owner/name/v2:model.torch"),
        (HUB, "arweave/owner/name"),
        (TAGGED, "owner/name/main"),
        (LOCAL, ""),
        (LOCAL, "odel.torch"),
        (LOCAL, "owner/name"),
        (LOCAL, "local/other/name:model.torch"),
        (BuiltInSource("iris"), "classifier_69"),
        (BuiltInSource("iris"), ""),
    ],
)
def test_a_source_does_not_answer_for_other_models(
    source: HubSource | LocalSource | BuiltInSource, model_id: str
) -> None:
    assert not source.answers_for(model_id)
