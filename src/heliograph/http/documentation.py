"""The interface's own documentation: pages, scripts and styles, all served from here."""

import html
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from fastapi import FastAPI, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope

from heliograph.http import dashboard
from heliograph.http.access import Limits, stranger
from heliograph.http.answers import Answer
from heliograph.http.front import Direct
from heliograph.http.static_files import STATIC, Folder

_Answering: TypeAlias = Callable[[Request], Awaitable[Response]]

# The pages' own styles are made by their scripts, and Redoc searches in a worker; nothing else
# runs that does not come from here, and nothing is fetched from elsewhere.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src blob:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS = {"content-security-policy": POLICY}
FILES = Folder(STATIC, POLICY.encode(), b"public, max-age=3600")


def install(app: FastAPI, document: Callable[[str], bytes]) -> None:
    """Add the pages to the application, and OpenAPI's document, which is JSON.

    It is called with the folder, if any, in which a proxy shows the server.
    """

    async def openapi(request: Request) -> Response:
        return Answer(200, document(request.scope.get("root_path", "")))

    app.router.routes += [
        Route("/", _counted(_to_first_page)),
        Route("/docs", _counted(_page("docs"))),
        Route("/redoc", _counted(_page("redoc"))),
        Route("/openapi.json", _counted(openapi)),
    ]


def files(limits: Limits) -> Direct:
    """Return what answers all below `/static/`."""

    async def answer(scope: Scope, _receive: Receive) -> Answer:
        limits.read.take(stranger(scope), scope)
        return await FILES.answer(scope["path_params"]["path"], dict(scope["headers"]))

    return answer


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


async def _to_first_page(request: Request) -> Response:
    """Lead browsers to the dashboard, and programs to what they can read."""
    is_browser = "text/html" in request.headers.get("accept", "")
    page = f"{dashboard.PATH}/" if is_browser else "/docs"
    location = request.scope.get("root_path", "") + page
    return RedirectResponse(location, headers={"vary": "accept"})
