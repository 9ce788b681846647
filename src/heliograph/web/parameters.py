"""Query parameters: one that a route does not know is refused by name, on every route alike.

What a route knows is read from the declarations that OpenAPI's document is made of, so that it is
what the document says: of FastAPI's routes those of their functions, of the direct ones those of
`openapi`. What the document does not list (pages, static files) takes anything, and so does an
operation that says so by `OPEN_QUERY`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, compile_path
from starlette.types import Receive, Scope, Send

from heliograph.errors import ErrorCode, HeliographError
from heliograph.nearest import hint
from heliograph.web import security
from heliograph.web.errors import invalid
from heliograph.web.realtime import PARAMETERS as SOCKET_PARAMETERS
from heliograph.web.realtime import Realtime, refuse
from heliograph.web.traffic import Traffic

if TYPE_CHECKING:
    import re

# For probes, which are asked with whatever keeps proxies from answering, and for questions whose
# parameters another program chooses.
OPEN_QUERY = {"x-open-query": True}
# What stands for a method where there is none.
SOCKET = "websocket"
MOST_TOLD = 10
# What others call what is meant, where no spelling leads there.
_SYNONYMS = {
    "start": ("from", "since", "after", "begin", "start_time", "start_date"),
    "end": ("to", "until", "till", "before", "stop", "end_time", "end_date"),
    "limit": ("count", "size", "page_size", "per_page", "n", "max"),
    "offset": ("skip", "page"),
    "text": ("q", "query", "search", "name", "contains"),
    "sort": ("order", "order_by", "sort_by", "orderby"),
    "attribute": ("metric", "field", "fields", "metrics", "column"),
    "bucket": ("interval", "step", "window", "resolution", "granularity"),
    "function": ("aggregate", "aggregation", "agg", "fn"),
    "tz": ("timezone", "time_zone", "zone"),
    "network_identifier": ("network", "network_id"),
}
_MEANT = {name: meant for meant, names in _SYNONYMS.items() for name in names}


class Operation(NamedTuple):
    """A method of a route, and the parameters that it knows; None: it takes any."""

    template: str
    names: frozenset[str] | None
    # The names as they mostly stand in a query.
    plain: frozenset[bytes]


class Parameters:
    """Which parameters each operation knows."""

    def __init__(
        self,
        routes: Iterable[BaseRoute],
        direct: Mapping[tuple[str, str], Mapping[str, Any]],
        traffic: Traffic,
    ) -> None:
        """Read FastAPI's routes, and the `direct` operations of the document by method and path."""
        self._traffic = traffic
        # By method and how many parts a path has: few are left to compare.
        self._operations: dict[tuple[str, int], list[tuple[re.Pattern[str], Operation]]] = {}
        for (method, template), operation in direct.items():
            names = _declared(operation) | security.in_query(method, template)
            self._add(method.upper(), template, names)
        for template in (Realtime.template, Realtime.everything):
            self._add(SOCKET, template, SOCKET_PARAMETERS)
        for route in routes:
            if isinstance(route, APIRoute):
                for method in route.methods or ():
                    self._add(method, route.path, _of_route(route))

    def _add(self, method: str, template: str, names: frozenset[str] | None) -> None:
        key = method, template.count("/")
        pattern = compile_path(template)[0]
        plain = frozenset(name.encode() for name in names or ())
        operation = Operation(template, names, plain)
        self._operations.setdefault(key, []).append((pattern, operation))

    def find(self, method: str, path: str) -> Operation | None:
        """Return the operation that answers; None: the document has none."""
        for pattern, operation in self._operations.get((method, path.count("/")), ()):
            if pattern.match(path):
                return operation
        return None

    async def refuse(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Answer a request that has an unknown parameter; tell whether it had one."""
        method = scope["method"] if scope["type"] == "http" else SOCKET
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        operation = self.find(method, path)
        if operation is None or operation.names is None:
            return False
        query: bytes = scope["query_string"]
        if all(part.partition(b"=")[0] in operation.plain for part in query.split(b"&")):
            return False  # in half the time that it takes to parse them
        given = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
        unknown = dict.fromkeys(name for name, _ in given if name not in operation.names)
        if not unknown:
            return False
        told = {name: _said(name, operation.names) for name in list(unknown)[:MOST_TOLD]}
        if scope["type"] == "http":
            answered = invalid(
                [
                    {"loc": ("query", name), "type": "extra_forbidden", "msg": message}
                    for name, message in told.items()
                ]
            )
            self._traffic.count(operation.template, answered.status)
            await answered.send(send)
        else:
            detail = "; ".join(f"{name}: {message}" for name, message in told.items())
            error = HeliographError(ErrorCode.VALIDATION_FAILED, detail)
            await refuse(error, receive, send)
        return True


def _of_route(route: APIRoute) -> frozenset[str] | None:
    extra = route.openapi_extra or {}
    if OPEN_QUERY.items() <= extra.items():
        return None
    return _declared(extra) | frozenset(_asked(route.dependant))


def _asked(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for each in dependant.dependencies:
        yield from _asked(each)


def _declared(operation: Mapping[str, Any]) -> frozenset[str]:
    parameters: Sequence[Mapping[str, Any]] = operation.get("parameters", ())
    return frozenset(each["name"] for each in parameters if each["in"] == "query")


def _said(name: str, known: frozenset[str]) -> str:
    meant = _MEANT.get(name.lower())
    told = f": did you mean `{meant}`?" if meant in known else hint(name, known)
    return f"unknown parameter{told}"
