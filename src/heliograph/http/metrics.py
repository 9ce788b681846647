"""Metrics for Prometheus, whose library is imported when somebody asks for the first time."""

import asyncio
import functools
import hmac
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from starlette.responses import Response

from heliograph.access.policy import Action
from heliograph.errors import StoreUnavailableError
from heliograph.http.access import Rights, bearer, stranger
from heliograph.http.answers import Answering
from heliograph.http.paths import PREFIX
from heliograph.http.records import errors
from heliograph.http.resources import TheServices
from heliograph.http.services import Services
from heliograph.http.traffic import Traffic
from heliograph.libraries import load
from heliograph.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

COLLECTORS = "heliograph.http.collectors"
# A scrape has ten seconds; what waits is no reason to fail it.
DATABASE_SECONDS = 3.0
MAXIMUM_COUNTED = 100_000

router = APIRouter(prefix=PREFIX, tags=["health"])


def registry_of(
    services: Services, traffic: Traffic, answering: Answering
) -> "Callable[[], CollectorRegistry]":
    """Return what makes the registry of this application's metrics, once.

    One of several workers makes it now: it tells the others what it has counted when they ask.
    """

    @functools.cache
    def registry() -> "CollectorRegistry":
        from heliograph.http.collectors import metrics_registry  # noqa: PLC0415 - when it is asked

        return metrics_registry(services, traffic, answering)

    if not services.worker.is_alone:
        registry()
    return registry


async def _waiting(store: Store) -> tuple[int | None, int | None, int] | None:
    """Ask the database; None: it does not answer, which the other metrics tell."""
    try:
        async with asyncio.timeout(DATABASE_SECONDS):
            return (
                await store.rule_states.oldest(),
                await store.actions.overdue(),
                await store.actions.waiting(MAXIMUM_COUNTED),
            )
    except (StoreUnavailableError, TimeoutError):
        return None


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        **errors(401, 403),
        200: {
            "description": "Prometheus' text format",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
    },
)
async def read_metrics(request: Request, services: TheServices) -> Response:
    """Read the metrics with the admin key, or with METRICS_TOKEN as a bearer token."""
    await _admit(request, services)
    await load(COLLECTORS)
    from heliograph.http.collectors import CONTENT_TYPE, in_text  # noqa: PLC0415 - it is there

    registry: CollectorRegistry = request.app.state.metrics()
    siblings = services.siblings
    waiting, told = await asyncio.gather(_waiting(services.store), siblings.all_counts())
    text = in_text(registry, told, siblings.workers, waiting)
    return Response(text, media_type=CONTENT_TYPE)


async def _admit(request: Request, services: Services) -> None:
    access, headers = services.access, dict(request.scope["headers"])
    authorization = headers.get(b"authorization")
    token = services.settings.metrics_token
    if token is not None and authorization is not None:
        expected = b"bearer " + token.get_secret_value().encode()
        sent = authorization[:7].lower() + authorization[7:]
        if hmac.compare_digest(sent, expected):
            access.limits.probe.take(stranger(request.scope), request.scope)
            return
    caller = await access.caller(request.scope)
    Rights(caller, access.registry).require(Action.ADMINISTER)
    access.limits.read.take(bearer(caller, request.scope), request.scope)
