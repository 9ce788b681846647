"""The interface's own documentation: pages, scripts and styles, all served from here."""

import functools
import html
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from heliograph.http.access import stranger
from heliograph.http.answers import Answer

_Answering: TypeAlias = Callable[[Request], Awaitable[Response]]

STATIC = Path(__file__).parent / "static"
# The pages' own styles are made by their scripts, and Redoc searches in a worker; nothing else
# runs that does not come from here, and nothing is fetched from elsewhere.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src blob:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS = {"content-security-policy": POLICY}
CACHED = {**PAGE_HEADERS, "cache-control": "public, max-age=3600"}
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".png": "image/png"}


def install(app: FastAPI, document: Callable[[str], bytes]) -> None:
    """Add the pages to the application, and OpenAPI's document, which is JSON.

    It is called with the folder, if any, in which a proxy shows the server.
    """

    async def openapi(request: Request) -> Response:
        return Answer(200, document(request.scope.get("root_path", "")))

    async def static(request: Request) -> Response:
        path = _files().get(request.path_params["path"])
        if path is None:
            raise HTTPException(404)
        return FileResponse(path, headers=CACHED, media_type=MEDIA_TYPES[path.suffix])

    app.router.routes += [
        Route("/", _counted(_to_documentation)),
        Route("/docs", _counted(_page("docs"))),
        Route("/redoc", _counted(_page("redoc"))),
        Route("/openapi.json", _counted(openapi)),
        Route("/static/{path:path}", _counted(static)),
    ]


@functools.cache
def _files() -> dict[str, Path]:
    """Return what is served beside the pages, by its path."""
    return {
        path.relative_to(STATIC).as_posix(): path
        for path in STATIC.rglob("*")
        if path.suffix in MEDIA_TYPES
    }


def _counted(answer: _Answering) -> _Answering:
    """Return the same, counted as the reads of strangers are."""

    async def counted(request: Request) -> Response:
        limits = request.app.state.services.access.limits
        limits.read.take(stranger(request.scope), request.scope)
        return await answer(request)

    return counted


def _page(name: str) -> _Answering:
    template = (STATIC / "pages" / f"{name}.html").read_text("utf-8")

    async def page(request: Request) -> Response:
        root = html.escape(request.scope.get("root_path", ""))
        return HTMLResponse(template.replace("{root}", root), headers=PAGE_HEADERS)

    return page


async def _to_documentation(request: Request) -> Response:
    return RedirectResponse(request.scope.get("root_path", "") + "/docs")
