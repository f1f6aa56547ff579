"""The dashboard: a page that lists the jobs and draws their progress as it comes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from quart import Response, redirect, request, send_file
from quart_schema import hide
from werkzeug.wrappers import Response as BaseResponse

from ml.errors import NotFound
from ml.serving.availability import needs_no_workflow

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp
    from unsloth_trainer_service.app import Settings

_STATIC = Path(__file__).parent / "static"
#: The files of the page; it names them relative to itself, and so works behind a prefix.
_FILES = ("dashboard.css", "dashboard.js", "api.js", "chart.js", "run.js", "words.js")
#: uPlot, as the package youplot carries it. Their content changes with their version alone.
_CHART_FILES = ("uplot.iife.min.js", "uplot.min.css")
_DAY_SECONDS = 86400


def dashboard_url(app: ServiceApp) -> str:
    """Return where a client of this request finds the dashboard."""
    settings = cast("Settings", app.settings)
    return settings.dashboard_url or f"{request.host_url.rstrip('/')}/dashboard"


def add_dashboard(app: ServiceApp, settings: Settings) -> None:
    """Register the page, its files, and what tells where it is."""

    @app.get("/dashboard")
    @needs_no_workflow
    async def dashboard() -> Response | dict[str, Any]:
        """Return the dashboard to a browser, and to others where it is."""
        if "text/html" in request.headers.get("Accept", ""):
            return await _own_file("dashboard.html")
        return {"dashboard_url": dashboard_url(app), "jobs_url": "/jobs"}

    @app.before_request
    async def page_at_root() -> BaseResponse | None:
        port = (request.scope.get("server") or (None, None))[1]
        if request.path == "/" and request.method == "GET" and port == settings.dashboard_port:
            # Not the page itself: / is public, and a browser asks for a key at /dashboard alone.
            return redirect("dashboard")
        return None

    @app.get("/dashboard/<name>")
    @needs_no_workflow
    @hide
    async def dashboard_file(name: str) -> Response:
        if name in _FILES:
            return await _own_file(name)
        if name in _CHART_FILES:
            return await send_file(_chart_file(name), cache_timeout=_DAY_SECONDS)
        raise NotFound


async def _own_file(name: str) -> Response:
    # A browser asks again each time whether it changed, so that page and script fit together.
    response = await send_file(_STATIC / name, conditional=True, cache_timeout=0)
    response.vary.add("Accept")  # /dashboard is JSON to others
    return response


def _chart_file(name: str) -> Path:
    spec = find_spec("youplot")  # found, not imported: only its files are wanted
    if spec is None or spec.origin is None:
        raise FileNotFoundError("youplot is not installed")
    return Path(spec.origin).parent / "vendor" / name
