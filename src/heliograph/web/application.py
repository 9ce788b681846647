"""The whole HTTP application.

ForeignPages (with ANONYMOUS_ROLE or ALLOWED_HOSTS)
  ▶ CanonicalPaths ▶ Failures ▶ NetworkSensors
  ▶ hot routes
  ▶ streams and sockets
  ▶ QuickReads ▶ Probes ▶ CountedTraffic ▶ CheckedBodies ▶ FastAPI's routes
"""

import functools

from fastapi import FastAPI
from starlette.routing import Route, compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heliograph.model.records import Kind
from heliograph.version import VERSION
from heliograph.web import (
    accounts,
    aggregates,
    audit,
    broker_access,
    configurations,
    devices,
    documentation,
    errors,
    exports,
    health,
    history,
    latest,
    measurements,
    networks,
    nodes,
    openapi,
    retention,
    sensors,
)
from heliograph.web import metrics as metrics_routes
from heliograph.web.access import Access
from heliograph.web.answers import Answering
from heliograph.web.bodies import (
    RECEIVING_OTHER_BYTES,
    SINGLE_LIMIT,
    Held,
    Receiving,
    bounded,
    is_json,
    unsupported_media_type,
)
from heliograph.web.export_streams import ExportSlots
from heliograph.web.foreign_pages import ForeignPages
from heliograph.web.hot import HotRoute, Refusals
from heliograph.web.ingest import IngestBatch, IngestReading, SensorIngest
from heliograph.web.limits import Limits
from heliograph.web.live import LiveRoutes
from heliograph.web.network_sensors import NetworkSensors
from heliograph.web.newest_pages import NewestPages
from heliograph.web.parameters import Parameters
from heliograph.web.paths import PREFIX, CanonicalPaths
from heliograph.web.reads import QuickReads
from heliograph.web.services import Services
from heliograph.web.traffic import CountedTraffic, Traffic

PROBES = frozenset(f"{PREFIX}/{name}" for name in ("health", "ping", "readyz"))


def create_web(services: Services, export_slots: ExportSlots | None = None) -> ASGIApp:
    """Return the application; who starts it starts and stops the services."""
    settings = services.settings
    limits = Limits(
        services.limiter,
        read=settings.rate_limit_read,
        write=settings.rate_limit_write,
        ingest=settings.rate_limit_ingest,
    )
    access = Access(services.authenticator, services.registry, limits, services.limiter)
    traffic = Traffic()
    answering = Answering()
    hot = _hot_routes(services, access, limits, traffic)
    live = LiveRoutes(services, access, limits, traffic)
    app = _fastapi(hot, live)
    app.state.services = services
    app.state.access = access
    app.state.limits = limits
    app.state.newest_pages = NewestPages(services.store, services.registry, services.latest)
    app.state.exports = ExportSlots() if export_slots is None else export_slots
    app.state.metrics = metrics_routes.metrics_registry(services, traffic, answering)
    rest: ASGIApp = Probes(CountedTraffic(CheckedBodies(app), traffic))
    rest = QuickReads(
        rest, services.store, services.registry, services.latest, access, limits, traffic, answering
    )
    live.rest = rest
    parameters = Parameters(app.routes, openapi.direct_operations(), traffic)
    app.state.parameters = parameters
    routes = NetworkSensors(HotRoutes(hot, live, parameters), services.registry)
    app_of_own = CanonicalPaths(errors.Failures(routes, lambda: services.streams.closing))
    if settings.anonymous_role or settings.allowed_hosts:
        return ForeignPages(app_of_own, settings, traffic)
    return app_of_own


def _hot_routes(
    services: Services, access: Access, limits: Limits, traffic: Traffic
) -> list[HotRoute]:
    intake = services.posts
    receiving = Receiving()
    routes: list[HotRoute] = [
        IngestReading(access, limits, intake, traffic),
        IngestBatch(access, limits, intake, traffic),
        SensorIngest(Kind.MEASUREMENT, "measurements", access, limits, services, traffic),
        SensorIngest(Kind.LOG, "logs", access, limits, services, traffic),
        SensorIngest(Kind.HEARTBEAT, "heartbeats", access, limits, services, traffic),
    ]
    refusals = Refusals()
    for route in routes:
        route.receiving, route.refusals = receiving, refusals
    return routes


def _fastapi(hot: list[HotRoute], live: LiveRoutes) -> FastAPI:
    app = FastAPI(
        title="Heliograph",
        version=VERSION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    # The hot routes are answered before FastAPI is; here they stand for other methods' 405.
    app.router.routes += [Route(route.template, route, methods=["POST"]) for route in hot]
    app.router.routes += [Route(each.template, each, methods=["GET"]) for each in live.streams]
    for module in (
        accounts,
        networks,
        sensors,
        configurations,
        devices,
        nodes,
        audit,
        history,
        aggregates,
        measurements,
        latest,
        exports,
        retention,
        broker_access,
        health,
        metrics_routes,
    ):
        # To include a router would build each of its routes a second time, at the first request.
        app.router.routes += module.router.routes
    errors.install(app)
    documentation.install(app)
    openapi.install(app)
    app.state.allowed_methods = functools.partial(openapi.allowed_methods, app)
    return app


class HotRoutes:
    """Refuses unknown parameters, and routes what brings data without going through FastAPI.

    FastAPI's layers and table would add 15 µs to the 6 that routing and access take here.
    """

    def __init__(self, routes: list[HotRoute], rest: ASGIApp, parameters: Parameters) -> None:
        self._rest = rest
        self._parameters = parameters
        self._exact = {route.template: route for route in routes if "{" not in route.template}
        self._patterns = [
            (compile_path(route.template)[0], route) for route in routes if "{" in route.template
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        if scope["query_string"] and await self._parameters.refuse(scope, receive, send):
            return
        if scope["type"] == "http" and scope["method"] == "POST":
            path: str = scope["path"]
            if root := scope.get("root_path", ""):
                path = path.removeprefix(root)
            route = self._exact.get(path)
            if route is not None:
                await route(scope, receive, send)
                return
            for pattern, candidate in self._patterns:
                if match := pattern.match(path):
                    scope["path_params"] = match.groupdict()
                    await candidate(scope, receive, send)
                    return
        await self._rest(scope, receive, send)


class Probes:
    """ASGI layer that answers HEAD as GET without the body, where uptime probes ask."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path not in PROBES:
            await self._app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app(dict(scope, method="GET"), receive, without_body)


class CheckedBodies:
    """ASGI layer that holds FastAPI's routes to JSON bodies of bounded size and time."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._receiving = Receiving(RECEIVING_OTHER_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request whose body is, or may be, JSON."""
        if scope["type"] == "http" and scope["method"] in ("POST", "PUT", "PATCH", "DELETE"):
            headers = dict(scope["headers"])
            has_body = headers.get(b"content-length", b"0") != b"0" or (
                b"transfer-encoding" in headers
            )
            content_type = headers.get(b"content-type")
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            takes_forms = path.startswith(broker_access.FORMS)
            if has_body and not is_json(content_type) and not takes_forms:
                await errors.answer(unsupported_media_type()).send(send)
                return
            if has_body and not takes_forms:
                # What is taken for JSON is called JSON: FastAPI is stricter than we are.
                headers[b"content-type"] = b"application/json"
                scope = dict(scope, headers=list(headers.items()))
            held = Held(self._receiving)
            try:
                await self._app(scope, bounded(receive, SINGLE_LIMIT, held), send)
            finally:
                held.release()
            return
        await self._app(scope, receive, send)
