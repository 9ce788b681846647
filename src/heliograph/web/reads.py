"""The reads that devices and pages ask for all day, in the least time.

FastAPI's layers and its checks of each parameter take three times as long as the query. What is
plain (a known key, a sensor in memory, parameters in their usual form) is answered here by the
functions that FastAPI's routes call; everything else goes on to those, errors included.
"""

import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias, get_args
from urllib.parse import parse_qsl

from fastapi.exceptions import RequestValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from heliograph.access.policy import may_read
from heliograph.access.registry import Registry
from heliograph.ingest.latest_values import LatestValues
from heliograph.model.principal import Principal
from heliograph.model.time import parse
from heliograph.store import Store
from heliograph.web.access import Access, client_address
from heliograph.web.answers import HELD, Answering, HeldAnswer, charge, held_by
from heliograph.web.entity_tags import if_none_match
from heliograph.web.errors import Answer, answer_of
from heliograph.web.latest import latest
from heliograph.web.limits import Limits, bearer
from heliograph.web.measurements import logs_page, measurements_page
from heliograph.web.pages import Direction, PageRequest, asked_path
from heliograph.web.paths import PREFIX
from heliograph.web.traffic import Traffic

_PATH = re.compile(f"{PREFIX}/sensors/([^/]+)/(latest|measurements|logs)")
_LIMIT = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)

_Read: TypeAlias = Callable[[], Awaitable[Answer]]


class QuickReads:
    """ASGI layer that answers plain reads itself and passes on the rest."""

    def __init__(
        self,
        app: ASGIApp,
        store: Store,
        registry: Registry,
        latest_values: LatestValues,
        access: Access,
        limits: Limits,
        traffic: Traffic,
        answering: Answering,
    ) -> None:
        self._app = app
        self._store = store
        self._registry = registry
        self._latest = latest_values
        self._access = access
        self._limits = limits
        self._traffic = traffic
        self._answering = answering

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        scope[HELD] = held = HeldAnswer(self._answering, scope)
        try:
            await self._answer(scope, receive, send)
        finally:
            held.release()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        match = (
            _PATH.fullmatch(scope["path"])
            if scope["type"] == "http" and scope["method"] == "GET"
            else None
        )
        read = self._plain(scope, match[1], match[2]) if match else None
        if match is None or read is None:
            await self._app(scope, receive, send)
            return
        answered = await answer_of(read())
        self._traffic.count(f"{PREFIX}/sensors/{{identifier}}/{match[2]}", answered.status)
        await answered.send_to(scope, send)

    def _plain(self, scope: Scope, identifier: str, what: str) -> _Read | None:
        """Return what reads the answer; None: the request is not one of the plain ones."""
        key = dict(scope["headers"]).get(b"x-api-key")
        principal = self._access.remembered(key) if key is not None else None
        sensor = self._registry.cached(identifier)
        if principal is None or principal.kind == "shared" or sensor is None:
            return None
        if not may_read(principal, sensor, self._registry.grants):
            return None
        counted = partial(self._counted, scope, principal)
        if what == "latest":
            read = partial(latest, self._latest, sensor, if_none_match(scope), held_by(scope))
            return partial(counted, read)
        page = plain_page(scope["query_string"])
        if page is None:
            return None
        pages = measurements_page if what == "measurements" else logs_page
        return partial(
            counted,
            partial(pages, self._store, sensor, page, asked_path(scope), held_by(scope)),
        )

    async def _counted(self, scope: Scope, principal: Principal, read: _Read) -> Answer:
        name = bearer(principal, client_address(scope))
        self._limits.read(name)
        await charge(scope, principal, name)
        return await read()


def plain_page(query: bytes) -> PageRequest | None:
    """Return the page that the parameters ask for; None: they are for FastAPI to judge."""
    if not query:
        return PageRequest()
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=True)
        given = {name: _READERS[name](text) for name, text in pairs}
        return PageRequest(**given) if len(given) == len(pairs) else None
    except (ValueError, KeyError, RequestValidationError):
        return None


def _limit(text: str) -> int:
    if not _LIMIT.fullmatch(text):
        raise ValueError("not a usual limit")
    return int(text)


_DIRECTIONS: dict[str, Direction] = {name: name for name in get_args(Direction)}
_READERS: dict[str, Callable[[str], Any]] = {
    "creation_timestamp": parse,
    "direction": _DIRECTIONS.__getitem__,
    "limit": _limit,
    "cursor": str,
}
