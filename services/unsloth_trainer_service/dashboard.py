"""The dashboard: a page that lists the jobs and draws their progress as it comes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from quart import Response, request, send_file
from quart_schema import hide

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp
    from unsloth_trainer_service.app import Settings

_STATIC = Path(__file__).parent / "static"
_FILES = ("dashboard.css", "dashboard.js")


def dashboard_url(app: ServiceApp) -> str:
    """Return where a client of this request finds the dashboard."""
    settings = cast("Settings", app.settings)
    return settings.dashboard_url or f"{request.host_url.rstrip('/')}/dashboard"


def add_dashboard(app: ServiceApp, settings: Settings) -> None:
    """Register the page, its files, and what tells where it is."""

    @app.get("/dashboard")
    async def dashboard() -> Response | dict[str, Any]:
        """Return the dashboard to a browser, and to others where it is."""
        if "text/html" in request.headers.get("Accept", ""):
            return await send_file(_STATIC / "dashboard.html")
        return {"dashboard_url": dashboard_url(app), "jobs_url": "/jobs"}

    @app.before_request
    async def page_at_root() -> Response | None:
        port = (request.scope.get("server") or (None, None))[1]
        if request.path == "/" and request.method == "GET" and port == settings.dashboard_port:
            return await send_file(_STATIC / "dashboard.html")
        return None

    @app.get("/dashboard/<name>")
    @hide
    async def dashboard_file(name: str) -> Response:
        return await send_file(_file(name), cache_timeout=3600)


def _file(name: str) -> Path:
    """Return one of the page's own files, or of the chart library's. Others do not exist."""
    if name in _FILES:
        return _STATIC / name
    spec = find_spec("youplot")
    if name in ("uPlot.iife.min.js", "uPlot.min.css") and spec is not None and spec.origin:
        found = next(Path(spec.origin).parent.rglob(name), None)
        if found is not None:
            return found
    from ml.errors import NotFound

    raise NotFound
