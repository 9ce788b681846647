"""CORS: what pages of CORS_ORIGINS may do here by their visitors' browsers."""

import re
from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from heliograph.http.access import OF_ALLOWED_ORIGIN, Limits
from heliograph.http.added_headers import adding
from heliograph.http.answers import DECIDED, Answer

METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
# What a page may read beside the body.
EXPOSED = (
    b"Content-Disposition, ETag, Link, Location, RateLimit, RateLimit-Policy, Retry-After,"
    b" X-Damaged-Chunks, X-Page-Truncated, X-Request-ID, X-Total-Count"
)
PREFLIGHT_SECONDS = 600
VARY = (b"vary", b"Origin")
_NAMES = re.compile(rb"[\w!#$%&'*+.^`|~, -]{1,1000}", re.ASCII)


class CrossOrigin:
    """ASGI layer for pages of other origins. What it does not know goes on as without it.

    An origin that is named here is trusted like a page of this server: its requests count with
    the session's cookie, over HTTP and for sockets, as far as the browser sends that.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str], limits: Limits) -> None:
        self._app = app
        self._origins = frozenset(origin.encode() for origin in origins)
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with what its browser has to know, or answer its preflight."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"")
        is_allowed = origin in self._origins
        if is_allowed:
            scope = {**scope, OF_ALLOWED_ORIGIN: True}
        if scope["type"] == "http":
            told = [VARY]
            if is_allowed:
                told += [
                    (b"access-control-allow-origin", origin),
                    (b"access-control-allow-credentials", b"true"),
                ]
                if scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
                    limited = self._limits.refused(scope, self._limits.read)
                    scope = {**scope, DECIDED: limited or _preflight(headers)}
                else:
                    told.append((b"access-control-expose-headers", EXPOSED))
            scope, send = adding(scope, send, told)
        await self._app(scope, receive, send)


def _preflight(headers: dict[bytes, bytes]) -> Answer:
    """Return what the browser may send; the request itself is still judged."""
    told = [
        (b"access-control-allow-methods", METHODS),
        (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
    ]
    asked = headers.get(b"access-control-request-headers", b"")
    if _NAMES.fullmatch(asked):
        told.append((b"access-control-allow-headers", asked))
    return Answer(200, b"", told)
