"""What stays open: streams and sockets, answered without going through FastAPI.

A layer that FastAPI adds would be run through for each event of each viewer.
"""

from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from heliograph.web.access import Access
from heliograph.web.activity import Activity
from heliograph.web.limits import Limits
from heliograph.web.realtime import Realtime
from heliograph.web.replay import Replay
from heliograph.web.services import Services
from heliograph.web.streams import NetworkStream, Stream
from heliograph.web.traffic import Traffic
from heliograph.web.watching import Watchers


class LiveRoutes:
    """ASGI layer that answers what stays open and passes on the rest."""

    def __init__(
        self, services: Services, access: Access, limits: Limits, traffic: Traffic
    ) -> None:
        watchers, replay = Watchers(services, access, limits), Replay(services)
        activity = Activity(services.store, services.registry)
        self.streams = [
            kind(services, watchers, replay, activity, traffic) for kind in (Stream, NetworkStream)
        ]
        realtime = Realtime(services, watchers, access)
        self._routes: dict[str, list[tuple[str, ASGIApp]]] = {
            "http": [(stream.template, stream) for stream in self.streams],
            "websocket": [(realtime.template, realtime), (realtime.everything, realtime)],
        }
        self._patterns = {
            kind: [(compile_path(template)[0], route) for template, route in routes]
            for kind, routes in self._routes.items()
        }
        self.rest: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        kind = scope["type"]
        if kind == "websocket" or (kind == "http" and scope["method"] == "GET"):
            path: str = scope["path"]
            if root := scope.get("root_path", ""):
                path = path.removeprefix(root)
            for pattern, route in self._patterns[kind]:
                if match := pattern.match(path):
                    scope["path_params"] = match.groupdict()
                    await route(scope, receive, send)
                    return
        if self.rest is not None:
            await self.rest(scope, receive, send)
