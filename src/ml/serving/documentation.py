"""/openapi.json, /docs and /redoc, with their scripts served by us and not by a CDN."""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
import re
from collections.abc import Awaitable, Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast

from quart import Response, request
from quart.json.provider import DefaultJSONProvider
from quart_schema import Info, QuartSchema, hide
from quart_schema.openapi import HttpSecurityScheme

from ml.serving.api_document import ApiDocument

if TYPE_CHECKING:
    from ml.serving.app import ServiceApp

__all__ = ["add_documentation"]

#: File name under /assets/docs/ -> the installed package and the file in it.
_ASSETS = {
    "swagger-ui-bundle.js": (
        "flask_openapi_swagger",
        "templates/swagger/js/swagger-ui-bundle.js",
    ),
    "swagger-ui.css": ("flask_openapi_swagger", "templates/swagger/css/swagger-ui.css"),
    "redoc.standalone.js": ("flask_openapi_redoc", "templates/redoc/js/redoc.standalone.js"),
}
#: redoc shows its maker's logo from elsewhere; here it is its name.
_FOREIGN_LOGO = re.compile(rb"https://cdn\.redoc\.ly/redoc/[\w-]+\.svg")
_OWN_LOGO = (
    b"data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='48' height='16'>"
    b"<text y='12' font-size='12' font-family='sans-serif'>Redoc</text></svg>"
)
_REDOC_PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <title>{title}</title>
  <style>body {{ margin: 0; padding: 0; }}</style>
</head>
<body>
  <redoc spec-url="/openapi.json" disable-telemetry="true"></redoc>
  <script type="module" src="/assets/docs/redoc.standalone.js"></script>
</body>
</html>
"""
#: The pages load nothing from elsewhere and send nothing there.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; worker-src 'self' blob:; frame-ancestors 'none'"
)


def add_documentation(app: ServiceApp) -> None:
    """Register the pages and their scripts."""
    app.config.update(
        QUART_SCHEMA_SWAGGER_JS_URL="/assets/docs/swagger-ui-bundle.js",
        QUART_SCHEMA_SWAGGER_CSS_URL="/assets/docs/swagger-ui.css",
    )
    QuartSchema(
        app,
        redoc_ui_path=None,  # its page is for redoc 2
        scalar_ui_path=None,
        info=Info(
            title=app.name, version=app.service_version, description=app.workflow.description
        ),
        openapi_provider_class=ApiDocument,
        security_schemes={"bearer": HttpSecurityScheme(scheme="bearer")},
        security=[{"bearer": []}],
    )

    # Fields come in their author's order, in forms and documents too.
    cast(DefaultJSONProvider, app.json).sort_keys = False

    for name in _ASSETS:
        app.add_url_rule(f"/assets/docs/{name}", f"docs_asset_{name}", _sender(name))

    @app.get("/redoc")
    @hide
    async def redoc_ui() -> Response:
        return Response(_REDOC_PAGE.format(title=app.name), content_type="text/html")

    @app.after_request
    async def restrict(response: Response) -> Response:
        if response.mimetype == "text/html":
            response.headers.setdefault("Content-Security-Policy", _POLICY)
        return response


def _sender(name: str) -> Callable[[], Awaitable[Response]]:
    @hide
    async def send() -> Response:
        content, etag = await asyncio.to_thread(_asset, name)
        response = Response(content, mimetype=mimetypes.guess_type(name)[0])
        response.cache_control.max_age = 86400
        response.set_etag(etag)
        return await response.make_conditional(request)

    return send


@cache
def _asset(name: str) -> tuple[bytes, str]:
    """Return the content of an asset, and a word that tells it from other versions of it."""
    package, inside = _ASSETS[name]
    spec = find_spec(package)  # found, not imported: only its files are wanted
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"{package} is not installed")
    content = (Path(spec.origin).parent / inside).read_bytes()
    content = _FOREIGN_LOGO.sub(_OWN_LOGO, content)
    return content, hashlib.sha256(content).hexdigest()
