"""Every route stands once, under /api/v1; bare paths lead there too."""

from starlette.types import ASGIApp, Receive, Scope, Send

PREFIX = "/api/v1"
# What is not part of the interface keeps its own path.
OUTSIDE = frozenset(("/", "/docs", "/redoc", "/openapi.json", "/favicon.ico"))
FOLDERS = ("/static/", "/dashboard/")


def canonical_path(path: str) -> str:
    """Return the path under which the route stands: with the prefix, without a trailing slash."""
    if len(path) > 1 and path[-1] == "/":
        path = path[:-1]
    if path.startswith("/api/v1/") or path in OUTSIDE or path.startswith(FOLDERS):
        return path
    if path in (PREFIX, "/dashboard"):
        return path
    return PREFIX + path


class CanonicalPaths:
    """ASGI layer in front of routing, access and limits that makes every path canonical.

    The path that was asked for stays in the scope as `asked_path`, for links in answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on under its canonical path."""
        if scope["type"] in ("http", "websocket"):
            path, root = scope["path"], scope.get("root_path", "")
            if root and path.startswith(root):
                canonical = root + canonical_path(path[len(root) :] or "/")
            else:
                canonical = canonical_path(path)
            if canonical != path:
                scope = dict(scope, path=canonical, asked_path=path)
        await self._app(scope, receive, send)
