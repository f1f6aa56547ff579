"""A trainer service of which this process schedules the jobs, and a browser that looks at it.

A module has one browser, and with it one event loop for all of its tests.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from ml.jobs.process import Process
from ml.jobs.scheduler import lease_name
from ml.jobs.store import JobStore
from tests.browser.dashboard import Dashboard, Jobs
from tests.support.processes import Server, clean_environment, free_port

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
#: It looks for nothing on the network of its own.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

OpenDashboard = Callable[..., Awaitable[Dashboard]]
StartService = Callable[[], Server]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            # In front of the mark that the plugin gave it.
            item.add_marker(pytest.mark.asyncio(loop_scope="module"), append=False)


class Trainer:
    """A trainer service with folders of its own, which can be started again on the same port."""

    def __init__(self, root: Path, **settings: str) -> None:
        self.input, self.output, self.working = (root / name for name in ("in", "out", "work"))
        for folder in (self.input, self.output, self.working):
            folder.mkdir(parents=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = settings

    @property
    def store_url(self) -> str:
        return f"sqlite:///{self.working}/jobs.sqlite"

    def server(self) -> Server:
        """Return the process, to be entered and waited for."""
        paths = {"INPUT_PATH": self.input, "OUTPUT_PATH": self.output, "WORKING_PATH": self.working}
        environment = clean_environment(
            OMP_NUM_THREADS="1", **{name: str(path) for name, path in paths.items()}
        )
        command = ["serve", "unsloth_trainer_service", f"--bind=127.0.0.1:{self.port}"]
        return Server(
            [*command, "--workers=1"], port=self.port, environment=environment | self.settings
        )


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    return Trainer(tmp_path)


@asynccontextmanager
async def jobs_of(trainer: Trainer) -> AsyncIterator[Jobs]:
    """The service's store. This process holds the lease of the scheduler that leads.

    So the service runs no job by itself: what happens to them is up to the test.
    """
    async with JobStore(trainer.store_url) as store:
        process = Process.numbered(os.getpid())
        lease, name = lease_name(process.host), f"{process}/test"
        assert await store.acquire_lease(lease, name, 600) == name
        with Jobs(store, trainer.working / "jobs") as jobs:
            yield jobs


@pytest_asyncio.fixture(loop_scope="module")
async def jobs(trainer: Trainer) -> AsyncIterator[Jobs]:
    async with jobs_of(trainer) as jobs:
        yield jobs


@pytest.fixture
def start_service(trainer: Trainer) -> Iterator[StartService]:
    """Start the service and wait until it is ready; it outlives the pages that look at it."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(trainer.server()).wait_ready()


@pytest.fixture
def service(start_service: StartService, jobs: Jobs) -> Server:
    return start_service()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium to look at pages with; Debian has a package chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def open_dashboard(
    trainer: Trainer, browser: Browser, start_service: StartService
) -> AsyncIterator[OpenDashboard]:
    """Open the page in a window of its own.

    At the end no page has asked for anything elsewhere, and none has complained, unless the test
    has taken that from its `complaints`.
    """
    opened: list[Dashboard] = []
    async with AsyncExitStack() as stack:

        async def open_one(
            address: str = "", *, path: str = "/dashboard", **options: Any
        ) -> Dashboard:
            size = {"width": 1440, "height": 1000}
            context = await browser.new_context(**{"viewport": size, **options})
            stack.push_async_callback(context.close)
            dashboard = Dashboard(await context.new_page(), trainer.url)
            await dashboard.page.goto(f"{trainer.url}{path}{address}")
            opened.append(dashboard)
            return dashboard

        yield open_one
    for dashboard in opened:
        assert dashboard.requests
        elsewhere = [
            url for url in dashboard.requests if not url.startswith((trainer.url, "data:"))
        ]
        assert not elsewhere
        assert not dashboard.complaints
