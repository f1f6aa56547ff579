"""Which addresses answer while there is no loaded workflow: what is public, and what says so.

All others are refused in one place, so that no view can forget it; for addresses that run the
model, which wait instead, see `ml.serving.entry`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from quart import request

from ml.serving.auth import PUBLIC_PATHS

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

__all__ = ["is_always_answered", "needs_no_workflow", "require_workflow"]

View = TypeVar("View", bound=Callable[..., Any])
_MARK = "needs_no_workflow"


def needs_no_workflow(view: View) -> View:
    """Let a view answer also while the workflow loads and after it failed to."""
    setattr(view, _MARK, True)
    return view


def is_always_answered(app: ServiceApp, endpoint: str) -> bool:
    """Return whether a view says itself that it needs no workflow."""
    return getattr(app.view_functions[endpoint], _MARK, False)


def require_workflow(app: ServiceApp) -> None:
    """Refuse requests to all other views, with `NotReady`, unless the workflow is loaded."""

    @app.before_request
    async def require_loaded() -> None:
        rule = request.url_rule
        if rule is None or rule.rule in PUBLIC_PATHS:
            return
        if not is_always_answered(app, rule.endpoint):
            app.health.require_loaded()
