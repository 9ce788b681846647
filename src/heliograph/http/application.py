"""The whole HTTP application, put together.

Rooted (with ROOT_PATH)
  ▶ Encrypted (with HTTP_REDIRECT or HSTS_SECONDS)
    ▶ CrossOrigin (with CORS_ORIGINS)
      ▶ ForeignPages (with ANONYMOUS_ROLE or ALLOWED_HOSTS)
        ▶ Front: what the layers have decided, canonical path, route, unknown parameters, errors,
          counting
          ▶ direct routes: what devices send, what they and pages read all day; the dashboard's
            files
          ▶ streams and sockets
          ▶ FastAPI's routes
"""

from functools import cache, partial

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp

from heliograph.http import (
    accounts,
    actions,
    aggregates,
    alerts,
    annotations,
    audit,
    boards,
    broker_access,
    channels,
    configurations,
    dashboard,
    devices,
    doctor,
    documentation,
    errors,
    exports,
    health,
    history,
    import_previews,
    latest,
    measurements,
    messages,
    metrics,
    networks,
    nodes,
    openapi,
    packed,
    packets,
    parameters,
    rereadenv,
    retention,
    rules,
    sensors,
    silences,
)
from heliograph.http.answers import Answering, encode
from heliograph.http.cross_origin import CrossOrigin
from heliograph.http.encrypted import Encrypted
from heliograph.http.exports import ExportSlots
from heliograph.http.foreign_pages import ForeignPages
from heliograph.http.front import ANY_PATH, SOCKET, Front, Operation, Table
from heliograph.http.ingest import ingest_routes
from heliograph.http.parameters import Known
from heliograph.http.realtime import PARAMETERS, Realtime
from heliograph.http.resources import ReadRoute
from heliograph.http.rooted import Rooted
from heliograph.http.services import Services
from heliograph.http.streams import EVENTS, EVENTS_OF_NETWORK, Stream

# In the order in which their routes are looked at.
RESOURCES = (
    accounts,
    networks,
    boards,
    import_previews,
    sensors,
    annotations,
    configurations,
    devices,
    nodes,
    alerts,
    silences,
    audit,
    history,
    aggregates,
    measurements,
    latest,
    exports,
    packets,
    rules,
    channels,
    actions,
    messages,
    retention,
    packed,
    broker_access,
    health,
    rereadenv,
    doctor,
    metrics,
)


def create_web(services: Services, export_slots: ExportSlots | None = None) -> ASGIApp:
    """Return the application; who starts it starts and stops the services."""
    settings = services.settings
    traffic, answering = services.traffic, Answering()
    fastapi = _fastapi()
    fastapi.state.services = services
    fastapi.state.exports = ExportSlots() if export_slots is None else export_slots
    fastapi.state.metrics = metrics.registry_of(services, traffic, answering)
    table = Table()
    _add_direct(table, services)
    for route in fastapi.routes:
        if isinstance(route, APIRoute):
            direct = partial(route.answer, services) if isinstance(route, ReadRoute) else None
            for method in route.methods or ():
                table.add(method, Operation(route.path, _known()[method, route.path], direct))
    front = Front(
        table,
        fastapi,
        services.registry,
        services.store.lineage,
        traffic,
        answering,
        services.access.limits,
        is_ending=lambda: services.streams.closing,
    )
    web: ASGIApp = front
    if settings.anonymous_role or settings.allowed_hosts:
        web = ForeignPages(web, settings, traffic)
    if settings.cors_origins:
        web = CrossOrigin(web, settings.cors_origins, services.access.limits)
    if settings.http_redirect or settings.hsts_seconds:
        web = Encrypted(web, settings, services.access.limits)
    return Rooted(web, settings.root_path) if settings.root_path else web


def _add_direct(table: Table, services: Services) -> None:
    """Add what FastAPI knows nothing of: it would be run through for each event of a viewer."""
    direct = {
        route.template: route.answer
        for route in (*ingest_routes(services), packets.post_route(services))
    }
    applications = dict.fromkeys((EVENTS, EVENTS_OF_NETWORK), Stream(services))
    for (method, template), known in _known_directly().items():
        entry = Operation(template, known, direct.get(template), applications.get(template))
        table.add(method, entry)
    limits = services.access.limits
    page = dashboard.dashboard(limits)
    table.add("GET", Operation(dashboard.PATH, None, page))
    table.add("GET", Operation(f"{dashboard.PATH}/{ANY_PATH}", None, page))
    table.add("GET", Operation(f"/static/{ANY_PATH}", None, documentation.files(limits)))
    realtime = Realtime(services)
    for template in (Realtime.everything, Realtime.template):
        table.add(SOCKET, Operation(template, parameters.known(PARAMETERS), application=realtime))


@cache
def _known_directly() -> dict[tuple[str, str], Known]:
    """Return what each operation knows that FastAPI knows nothing of, by method and path."""
    return {
        (method.upper(), template): parameters.of_operation(method, template, operation)
        for (method, template), operation in openapi.direct_operations().items()
    }


@cache
def _known() -> dict[tuple[str, str], Known | None]:
    """Return what each of FastAPI's operations knows, by method and path."""
    return {
        (method, route.path): parameters.of_route(route)
        for resource in RESOURCES
        for route in resource.router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }


@cache
def document(root: str) -> bytes:
    """Return OpenAPI's document, as JSON, for a server that is shown in this folder."""
    routes = [route for resource in RESOURCES for route in resource.router.routes]
    document = openapi.document_of(routes)
    return encode({**document, "servers": [{"url": root}]} if root else document)


def _fastapi() -> FastAPI:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    for resource in RESOURCES:
        # To include a router would build each of its routes a second time, at the first request.
        app.router.routes += resource.router.routes
    errors.install(app)
    documentation.install(app, document)
    return app
