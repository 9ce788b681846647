"""What other sites' pages can have a browser do, while no credential is asked for.

A page from anywhere runs in browsers on this network, and they reach what is on it. It can give the
server a name of its own (DNS rebinding), so that the browser takes the answers for the page's own;
and it can send requests whose answers it does not see. With ANONYMOUS_ROLE both would do what
anybody may do, so a request has to call the server by a name that no other site can have, and what
changes something must not come from another site's page.
"""

import ipaddress
import re
import socket

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from heliograph.address import is_loopback
from heliograph.errors import ErrorCode, HeliographError
from heliograph.http.access import SAFE_METHODS, another_site, is_own_page
from heliograph.http.answers import DECIDED
from heliograph.http.traffic import Traffic
from heliograph.settings import Settings

log = structlog.get_logger()

_HOST = re.compile(r"(\[[^\]]*\]|[^:]*)(:\d{1,5})?", re.ASCII)
LONGEST_SHOWN = 100
# By which proxies say for whom they ask.
FORWARDED = frozenset((b"forwarded", b"x-forwarded-for", b"x-real-ip"))


class ForeignPages:
    """ASGI layer that refuses foreign names of the server, and foreign pages."""

    def __init__(self, app: ASGIApp, settings: Settings, traffic: Traffic) -> None:
        self._app = app
        self._traffic = traffic
        # A name that it is to listen on is its own.
        self._own = own_names() | {settings.host.lower()}
        self._allowed = settings.allowed_hosts
        self._anybody_may = bool(settings.anonymous_role)
        self._everywhere = "*" in settings.anonymous_networks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        is_asked = scope["type"] in ("http", "websocket")
        refusal = self._refusal(scope) if is_asked else None
        if refusal is not None:
            if not self._traffic.refused_requests.get(refusal.code):
                log.warning("foreign request refused", reason=str(refusal.detail))
            self._traffic.refuse(refusal.code)
            scope = {**scope, DECIDED: refusal}
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> HeliographError | None:
        for name, value in scope["headers"]:
            if name == b"host" and not self._is_own(host := host_name(value)):
                shown = re.sub(r"[^!-~]", "?", host)[:LONGEST_SHOWN]
                detail = f"This server is not called {shown}; ALLOWED_HOSTS names its other names"
                return HeliographError(ErrorCode.HOST_NOT_ALLOWED, detail)
        if self._everywhere and not is_local(scope):
            # Whoever runs the application in another server may listen elsewhere than HOST says,
            # and a proxy that is not configured may pass on what comes from elsewhere.
            detail = "ANONYMOUS_NETWORKS=* is for callers on this machine"
            return HeliographError(ErrorCode.FORBIDDEN, detail)
        changes = scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS
        if self._anybody_may and changes and is_own_page(scope) is False:
            return another_site()
        return None

    def _is_own(self, host: str) -> bool:
        if host in self._own or is_ip_address(host):
            return True
        # *.example.org: each name that ends so.
        return any(
            host.endswith(name[1:]) if name.startswith("*") else host == name
            for name in self._allowed
        )


def own_names() -> frozenset[str]:
    """Return the names that this machine has where no other site can: on itself and beside it."""
    full = socket.gethostname().lower()
    first = full.partition(".")[0]
    return frozenset({"localhost", full, first, f"{first}.local"} - {"", ".local"})


def host_name(header: bytes) -> str:
    """Return the name of a `Host` header, without the port; what is none stays as it is."""
    text = header.decode("latin-1").lower()
    match = _HOST.fullmatch(text)
    return match[1].removesuffix(".") if match else text


def is_ip_address(host: str) -> bool:
    """Return whether a host is an address, as browsers write it: no site has that as its name."""
    try:
        if host.startswith("["):
            ipaddress.IPv6Address(host[1:-1])
        else:
            ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def is_local(scope: Scope) -> bool:
    """Return whether a request can have come from this machine only, by its headers."""
    if any(name in FORWARDED for name, _ in scope["headers"]):
        return False
    server = scope.get("server")
    if not server or server[1] is None:
        return True  # a socket in the file system
    return is_loopback(server[0])
