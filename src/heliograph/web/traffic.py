"""Counts HTTP requests by route and class of status, for the metrics."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heliograph.errors import ErrorCode

UNMATCHED = "unmatched"


class Traffic:
    """How many requests each route has answered, and how."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, int], int] = {}
        # Before any route, by the code of the answer.
        self.refused_requests: dict[ErrorCode, int] = {}

    def refuse(self, code: ErrorCode) -> None:
        """Count a request that was refused before any route."""
        self.refused_requests[code] = self.refused_requests.get(code, 0) + 1

    def count(self, template: str, status: int) -> None:
        """Count an answer; `template` is the route's path with its parameters' names."""
        name = (template, status // 100)
        self.requests[name] = self.requests.get(name, 0) + 1


class CountedTraffic:
    """ASGI layer that counts the answers of the routes below it, except the hot ones' own."""

    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self._app = app
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and count its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")
                template = getattr(route, "path", UNMATCHED)
                self._traffic.count(template, message["status"])
            await send(message)

        await self._app(scope, receive, counted)
