"""Services as their documents start them: `serve` with the `.env.example`."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.services.trainer import Trainer, trainer
from tests.support.finetuning import save_small_llm
from tests.support.processes import ROOT, Server, clean_environment, free_port

ServeExample = Callable[..., Server]


@pytest.fixture(scope="module")
def serve_example() -> Iterator[ServeExample]:
    """Start a service from its `.env.example`; it is ended after the module's tests."""
    with ExitStack() as stack:

        def serve(name: str, *, workers: int = 1, **settings: str) -> Server:
            port = free_port()
            command = [
                "serve",
                name,
                f"--env-file={ROOT / 'services' / name / '.env.example'}",
                f"--bind=127.0.0.1:{port}",
                f"--workers={workers}",
            ]
            server = Server(command, port=port, environment=clean_environment(**settings))
            return stack.enter_context(server).wait_ready(workers)

        yield serve


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of models that has one, named `small`."""
    root = tmp_path_factory.mktemp("models")
    save_small_llm(root / "small")
    return root


@pytest.fixture
async def service(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Trainer]:
    """The trainer's service, on these models; modules of other services have their own."""
    async with trainer(tmp_path, models, monkeypatch) as running:
        yield running


def curls_of_readme(readme: Path, url: str) -> list[str]:
    """Return the curl commands of a service's README, for a service at this address."""
    blocks = re.findall(r"^```bash\n(.*?)^```", readme.read_text(), re.MULTILINE | re.DOTALL)
    commands = [block for block in blocks if "curl" in block]
    return [re.sub(r"http://localhost:\d+", url, command) for command in commands]
