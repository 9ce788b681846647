"""Query parameters: one that a route does not know is refused by name, on every route alike.

So is one that has one value and is given two: which of them is meant would be a guess.

What a route knows is read from the declarations that OpenAPI's document is made of, so that it is
what the document says: of FastAPI's routes those of their functions, of the direct ones those of
`openapi`. What the document does not list (pages, static files) takes anything, and so does an
operation that says so by `OPEN_QUERY`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_origin
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
    # Those that may be repeated.
    repeatable: frozenset[str]


class _Names(NamedTuple):
    """What may stand in a query, and what of it several times."""

    known: frozenset[str]
    repeatable: frozenset[str]


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
            names, repeatable = _declared(operation)
            taken = _Names(names | security.in_query(method, template), repeatable)
            self._add(method.upper(), template, taken)
        for template in (Realtime.template, Realtime.everything):
            self._add(SOCKET, template, _Names(SOCKET_PARAMETERS, frozenset()))
        for route in routes:
            if isinstance(route, APIRoute):
                for method in route.methods or ():
                    self._add(method, route.path, _of_route(route))

    def _add(self, method: str, template: str, taken: _Names | None) -> None:
        key = method, template.count("/")
        pattern = compile_path(template)[0]
        names, repeatable = taken or (None, frozenset())
        plain = frozenset(name.encode() for name in names or ())
        operation = Operation(template, names, plain, repeatable)
        self._operations.setdefault(key, []).append((pattern, operation))

    def find(self, method: str, path: str) -> Operation | None:
        """Return the operation that answers; None: the document has none."""
        for pattern, operation in self._operations.get((method, path.count("/")), ()):
            if pattern.match(path):
                return operation
        return None

    async def refuse(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Answer a request with an unknown parameter, or two values of one; tell if it has."""
        method = scope["method"] if scope["type"] == "http" else SOCKET
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        operation = self.find(method, path)
        if operation is None or operation.names is None:
            return False
        query: bytes = scope["query_string"]
        parts = [part.partition(b"=")[0] for part in query.split(b"&")]
        # In half the time that it takes to parse them.
        if operation.plain.issuperset(parts) and len(set(parts)) == len(parts):
            return False
        told = _problems(query, operation.names, operation.repeatable)
        if not told:
            return False
        if scope["type"] == "http":
            answered = invalid(
                [
                    {"loc": ("query", name), "type": kind, "msg": message}
                    for name, (kind, message) in told.items()
                ]
            )
            self._traffic.count(operation.template, answered.status)
            await answered.send(send)
        else:
            detail = "; ".join(f"{name}: {message}" for name, (_, message) in told.items())
            error = HeliographError(ErrorCode.VALIDATION_FAILED, detail)
            await refuse(error, receive, send)
        return True


def _problems(
    query: bytes, known: frozenset[str], repeatable: frozenset[str]
) -> dict[str, tuple[str, str]]:
    """Return of each parameter that is refused the kind of problem and what to say of it."""
    found: dict[str, tuple[str, str]] = {}
    values: dict[str, str] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in known:
            found.setdefault(name, ("extra_forbidden", _said(name, known)))
        elif name not in repeatable and values.setdefault(name, value) != value:
            found.setdefault(name, ("repeated", "is given twice, with different values"))
        if len(found) == MOST_TOLD:
            break
    return found


def _of_route(route: APIRoute) -> _Names | None:
    extra = route.openapi_extra or {}
    if OPEN_QUERY.items() <= extra.items():
        return None
    names, repeatable = _declared(extra)
    asked = dict(_asked(route.dependant))
    several = {name for name, annotation in asked.items() if _is_list(annotation)}
    return _Names(names | asked.keys(), repeatable | several)


def _asked(dependant: Dependant) -> Iterator[tuple[str, Any]]:
    yield from ((field.alias, field.field_info.annotation) for field in dependant.query_params)
    for each in dependant.dependencies:
        yield from _asked(each)


def _is_list(annotation: Any) -> bool:
    return any(get_origin(each) is list for each in (annotation, *get_args(annotation)))


def _declared(operation: Mapping[str, Any]) -> _Names:
    parameters: Sequence[Mapping[str, Any]] = operation.get("parameters", ())
    listed = {each["name"]: each["schema"] for each in parameters if each["in"] == "query"}
    several = (name for name, schema in listed.items() if schema.get("type") == "array")
    return _Names(frozenset(listed), frozenset(several))


def _said(name: str, known: frozenset[str]) -> str:
    meant = _MEANT.get(name.lower())
    told = f": did you mean `{meant}`?" if meant in known else hint(name, known)
    return f"unknown parameter{told}"
