"""Pages: one call registers an address, its place in the navigation and its template.

A page is a template that extends `layout.html`, with modules and styles as they are written: there
is no build step. It names everything relative to itself, and so works behind a prefix.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from markupsafe import Markup
from quart import Blueprint, Response, render_template, request, send_file
from quart_schema import hide

from ml.errors import NotFound
from ml.serving.availability import needs_no_workflow
from ml.serving.media_types import wants_page
from ml.serving.pages.modules import imported

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

__all__ = ["ASSETS_PATH", "Page", "add_files", "add_page", "prepare_pages"]

#: Below it are the files that the pages of all services share.
ASSETS_PATH = "/assets/pages"
#: Scripts and styles are files of ours; nothing is loaded from elsewhere or sent there.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Page:
    """A page of a service; `path` has one segment, because pages name each other relatively."""

    path: str
    #: Its name in the navigation.
    title: str
    #: A template of the service's own, or of `ml.serving.pages`.
    template: str
    #: What somebody does there, in a sentence: at links to it, and for search and screen readers.
    about: str

    @property
    def address(self) -> str:
        """Return what links of other pages have."""
        return self.path.removeprefix("/") or "./"


def prepare_pages(app: ServiceApp) -> None:
    """Let the templates be found, and register the files that pages share."""
    app.register_blueprint(Blueprint("pages", __name__, template_folder="templates"))
    add_files(app, ASSETS_PATH, Path(__file__).parent / "static")

    @app.template_global()
    @cache
    def module(address: str) -> Markup:
        """Return the elements that load a script, and with it what it imports."""
        script = Markup('<script src="{}" type="module"></script>').format(address)
        link = Markup('<link rel="modulepreload" href="{}">')
        return Markup("\n  ").join([script, *map(link.format, imported(app.page_files, address))])


def add_page(
    app: ServiceApp,
    page: Page,
    *,
    others: Callable[[], Awaitable[dict[str, Any]]] | None = None,
    **values: Any,
) -> None:
    """Show a page to browsers, with a link to it on all pages.

    Args:
        app: the service.
        page: what is shown.
        others: gives the JSON for clients that ask for no HTML; its docstring and marks describe
            the address in the API's document. Without it, they get the page too.
        values: what the template knows beside `page` and `service`.
    """
    app.pages.append(page)

    async def view() -> Response:
        if others is not None and not wants_page(request.headers.get("Accept", "").encode()):
            response = Response(orjson.dumps(await others()), content_type="application/json")
        else:
            text = await render_template(page.template, page=page, service=app, **values)
            response = Response(text, content_type="text/html; charset=utf-8")
            response.headers["Content-Security-Policy"] = _POLICY
            response.cache_control.no_cache = True  # page and scripts are to fit together
        response.vary.add("Accept")
        return response

    view = hide(view) if others is None else wraps(others)(view)  # described as that is
    app.add_url_rule(page.path, f"page {page.path}", needs_no_workflow(view), methods=["GET"])


def add_files(app: ServiceApp, path: str, folder: Path, *others: Path) -> None:
    """Serve the files of a folder, and others, below an address."""
    known = {file.name: file for file in (*folder.iterdir(), *others) if file.is_file()}
    app.page_files.update({f"{path}/{name}".removeprefix("/"): known[name] for name in known})

    @app.get(f"{path}/<name>", endpoint=f"files {path}")
    @needs_no_workflow
    @hide
    async def file(name: str) -> Response:
        if name not in known:
            raise NotFound
        # A browser asks again each time whether it changed, so that page and script fit together.
        return await send_file(known[name], conditional=True, cache_timeout=0)
