"""Requests that have to come over TLS: HTTP_REDIRECT and HSTS_SECONDS.

A layer that is there only where one of them is set, and tested by itself: so it is a file of its
own.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from heliograph.errors import ErrorCode, HeliographError
from heliograph.http.access import SAFE_METHODS, Limits, is_encrypted
from heliograph.http.added_headers import adding
from heliograph.http.answers import DECIDED, Answer
from heliograph.http.foreign_pages import host_name, is_local
from heliograph.settings import Settings

HTTPS_PORT = 443


class Encrypted:
    """ASGI layer that leads what comes without TLS to where there is, and has browsers keep to it.

    What changes something is refused instead: its credential and its data have been sent in
    clear, and whoever sends so has to see that. What comes from this machine goes on as it is.
    """

    def __init__(self, app: ASGIApp, settings: Settings, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._redirects = settings.http_redirect
        port = settings.https_listen[0].port if settings.https_listen else HTTPS_PORT
        self._port = b"" if port == HTTPS_PORT else b":%d" % port
        seconds = settings.hsts_seconds
        # Without includeSubDomains: other hosts of the name are others' affair.
        self._told = [(b"strict-transport-security", b"max-age=%d" % seconds)] if seconds else ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or lead it elsewhere."""
        if scope["type"] in ("http", "websocket"):
            if is_encrypted(scope):
                if self._told and scope["type"] == "http":
                    scope, send = adding(scope, send, self._told)
            elif self._redirects and not is_local(scope):
                limited = self._limits.refused(scope)
                scope = {**scope, DECIDED: limited or self._decide(scope)}
        await self._app(scope, receive, send)

    def _decide(self, scope: Scope) -> Answer | HeliographError:
        if scope["type"] == "http" and scope["method"] in SAFE_METHODS:
            return self._lead(scope)
        return HeliographError(
            ErrorCode.FORBIDDEN, "This server is used over HTTPS; what was sent was not encrypted"
        )

    def _lead(self, scope: Scope) -> Answer:
        # Of a request with one Host; its server sees to that, and to what characters it has.
        host = host_name(dict(scope["headers"]).get(b"host", b"")).encode("latin-1")
        path = scope.get("raw_path") or scope["path"].encode()
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        return Answer(308, b"", [(b"location", b"https://" + host + self._port + path + query)])
