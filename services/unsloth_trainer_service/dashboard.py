"""The dashboard: a page that lists the jobs and draws their progress as it comes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from quart import redirect, request
from quart_schema import document_response
from werkzeug.wrappers import Response as BaseResponse

from ml.serving.pages.page import Page, add_files, add_page
from unsloth_trainer_service.answers import WhereDashboard

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp
    from unsloth_trainer_service.app import Settings

_STATIC = Path(__file__).parent / "static"


def dashboard_url(app: ServiceApp) -> str:
    """Return where a client of this request finds the dashboard."""
    settings = cast("Settings", app.settings)
    return settings.dashboard_url or f"{request.host_url.rstrip('/')}/dashboard"


def add_dashboard(app: ServiceApp, settings: Settings) -> None:
    """Register the page, its files, and what tells where it is."""

    @document_response(WhereDashboard)
    async def where() -> dict[str, Any]:
        """Return the dashboard to a browser, and to others where it is."""
        return {"dashboard_url": dashboard_url(app), "jobs_url": "/jobs"}

    about = "Watch trainings as they go, compare them, stop them and go on with them."
    add_page(app, Page("/dashboard", "Runs", "dashboard.html", about), others=where)
    add_files(app, "/dashboard", _STATIC, *_chart_files())

    @app.before_request
    async def page_at_root() -> BaseResponse | None:
        port = (request.scope.get("server") or (None, None))[1]
        if request.path == "/" and request.method == "GET" and port == settings.dashboard_port:
            return redirect("dashboard")
        return None


def _chart_files() -> list[Path]:
    """Return those of uPlot, as the package youplot carries it."""
    spec = find_spec("youplot")  # found, not imported: only its files are wanted
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("youplot is not installed", name="youplot")
    folder = Path(spec.origin).parent / "vendor"
    return [folder / "uplot.iife.min.js", folder / "uplot.min.css"]
