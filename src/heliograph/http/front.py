"""The one way in: every request, from its path to the count of its answer.

The path is made canonical, the route found in one table, and what it does not know refused. A
direct route returns an `Answer`. All others are ASGI applications: streams, sockets, and
FastAPI's routes, whose bodies are read and bounded before. Whoever raises an error, it becomes an
answer here.
"""

import asyncio
import logging
import random
import re
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import Any, NamedTuple

import structlog
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heliograph.access.registry import Registry
from heliograph.errors import ErrorCode, HeliographError, shutting_down
from heliograph.http import errors
from heliograph.http.access import Limits
from heliograph.http.answers import DECIDED, HELD, Answer, Answering, HeldAnswer, guarded
from heliograph.http.bodies import (
    RECEIVING_OTHER_BYTES,
    SINGLE_LIMIT,
    ClientGoneError,
    HeldBytes,
    Receiving,
    is_json,
    read_body,
    unsupported_media_type,
)
from heliograph.http.direct import CONNECTION, ClientConnection
from heliograph.http.parameters import Known, problems
from heliograph.http.paths import PREFIX
from heliograph.http.realtime import refuse
from heliograph.http.traffic import Traffic
from heliograph.line_rate import LineRate
from heliograph.model.histogram import BOUNDS_SECONDS
from heliograph.request_ids import CURRENT, GIVEN, HEADER
from heliograph.store.chunks import LEFT_OUT
from heliograph.store.engine import Lineage

log = structlog.get_logger()
# Asked in a tenth of the time that a line takes that is not written.
_requests = logging.getLogger(__name__)

# What fails is told beside any number of requests that do not.
_of_answers, _of_failures, _of_routine = LineRate(), LineRate(), LineRate()
LONGEST_PATH = 200
FAILURE = 400
TOO_MANY = 429
# What the client is to come again with, later.
REFUSED = (TOO_MANY, 503)
SERVER_ERROR = 500

# What is not part of the interface keeps its own path.
OUTSIDE = frozenset(("/", "/docs", "/redoc", "/openapi.json", "/favicon.ico"))
FOLDERS = ("/static/", "/dashboard/")
# The end of a template that takes all paths of a folder.
ANY_PATH = "{path:path}"
UNMATCHED = "unmatched"
# What stands for a method where there is none.
SOCKET = "websocket"
# Uptime probes ask for these by HEAD too.
PROBES = frozenset(f"{PREFIX}/{name}" for name in ("health", "ping", "readyz"))
# What is asked for all day by machines, whose requests are told when they fail.
ROUTINE = PROBES | {f"{PREFIX}/metrics"}
# What has a limit of its own, so that no flood hides how the server is.
MONITORED = PROBES | {f"{PREFIX}/status"}
# What RabbitMQ asks comes as a form.
FORMS = f"{PREFIX}/broker/rabbitmq/"
NETWORKS = f"{PREFIX}/networks/"
# Where what is wrong with a request is a 400, as who uses these routes expects.
BAD_REQUESTS = re.compile(rf"{PREFIX}/(packets|messages|rereadenv)(/.*)?")
# The header that names the damaged chunks of which an answer has nothing; so many of them.
DAMAGED = b"x-damaged-chunks"
MOST_DAMAGED_NAMED = 20
_ALIAS = re.compile(rf"{NETWORKS}([^/]+)/sensors/([^/]+)(/.+)?")
# Neither a UUID nor a `device_id`: it answers as any other sensor that does not exist.
_NOBODY = "~"
_WITH_BODY = frozenset(("POST", "PUT", "PATCH", "DELETE"))

Direct = Callable[[Scope, Receive], Awaitable[Answer]]


def canonical_path(path: str) -> str:
    """Return the path under which the route stands: with the prefix, without a trailing slash."""
    if len(path) > 1 and path[-1] == "/":
        path = path[:-1]
    if path.startswith("/api/v1/") or path in OUTSIDE or path.startswith(FOLDERS):
        return path
    if path in (PREFIX, "/dashboard"):
        return path
    return PREFIX + path


def _status_of_invalid(template: str) -> int:
    """Return the status of the answer to a request in which something is wrong."""
    return 400 if BAD_REQUESTS.fullmatch(template) else 422


class Operation(NamedTuple):
    """A method of a route: the parameters that it knows (None: any), and what answers it.

    A direct one returns its answer, every other one sends it; neither: it is FastAPI's.
    """

    template: str
    known: Known | None
    direct: Direct | None = None
    application: ASGIApp | None = None


class Table:
    """All routes of the interface, by method and path."""

    def __init__(self) -> None:
        self._exact: dict[tuple[str, str], Operation] = {}
        # By method and how many parts a path has: few are left to compare.
        self._templates: dict[tuple[str, int], list[Operation]] = {}
        # Of those that a path was compared with: to make all of them takes long.
        self._patterns: dict[tuple[str, int], list[tuple[re.Pattern[str], Operation]]] = {}
        self._folders: dict[tuple[str, str], Operation] = {}

    def add(self, method: str, operation: Operation) -> None:
        """Add a route; of two that match a path the first one answers."""
        template = operation.template
        if template.endswith(ANY_PATH):
            self._folders[method, template.removesuffix(ANY_PATH)] = operation
            return
        if "{" not in template:
            self._exact.setdefault((method, template), operation)
            return
        kind = method, template.count("/")
        self._templates.setdefault(kind, []).append(operation)
        self._patterns.pop(kind, None)

    def find(self, method: str, path: str) -> tuple[Operation | None, dict[str, str]]:
        """Return the operation that answers, and the path's parameters; None: there is no such."""
        if operation := self._exact.get((method, path)):
            return operation, {}
        kind = method, path.count("/")
        patterns = self._patterns.get(kind)
        if patterns is None:
            patterns = self._make_patterns(kind)
        for pattern, operation in patterns:
            if match := pattern.fullmatch(path):
                return operation, match.groupdict()
        if path.startswith(FOLDERS):
            for (taken, folder), operation in self._folders.items():
                if taken == method and path.startswith(folder):
                    return operation, {"path": path.removeprefix(folder)}
        return None, {}

    def _make_patterns(self, kind: tuple[str, int]) -> list[tuple[re.Pattern[str], Operation]]:
        if kind not in self._templates:
            return []
        self._patterns[kind] = [
            (re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", operation.template)), operation)
            for operation in self._templates[kind]
        ]
        return self._patterns[kind]

    def methods(self, path: str) -> dict[str, Operation]:
        """Return the methods that the path takes over HTTP, sorted, with what answers each."""
        methods = {method for method, _ in (*self._exact, *self._templates, *self._folders)}
        methods -= {SOCKET}
        found = {method: self.find(method, path)[0] for method in sorted(methods)}
        return {method: operation for method, operation in found.items() if operation is not None}


class _Request:
    """A request or a socket on its way: its route, where that is known, and what was answered."""

    __slots__ = (
        *("_began", "_id", "_send", "_traffic", "damaged", "has_begun", "held"),
        *("is_probed", "damaged", "is_routine", "path", "scope", "takes_data", "template"),
    )

    def __init__(self, scope: Scope, send: Send, traffic: Traffic) -> None:
        """Make the path canonical; the scope keeps the client's own for links in answers."""
        self._began = monotonic()
        asked, root = scope["path"], scope.get("root_path", "")
        self.path = canonical_path(asked.removeprefix(root) or "/")
        self.scope = dict(scope, path=root + self.path, asked_path=asked)
        self.template = UNMATCHED
        self.has_begun = False
        self.is_probed = False
        self.is_routine = False
        self.takes_data = False
        self._id = ""
        self.held: HeldAnswer | None = None
        # The ids of damaged chunks that were left out of the answer.
        self.damaged: set[int] = set()
        self._send = send
        self._traffic = traffic

    async def send(self, message: Message) -> None:
        """Send a part of what an application answers."""
        if not self.has_begun:
            status = message.get("status")
            if status is None:  # what a socket sends has none
                self._begin_socket(message)
            else:
                headers = [*message.get("headers", ()), *self.begin(status)]
                message = {**message, "headers": headers}
            if message["type"] == "http.response.start":
                message = guarded(message, self.scope)
        if self.is_probed and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)

    def _begin_socket(self, message: Message) -> None:
        """Count the socket; one that is closed before it shows anything is refused, and told of."""
        if message["type"] == "websocket.accept":
            return
        self.has_begun = True
        is_refused = message["type"] == "websocket.close"
        # As the statuses of requests are: 101 and 403.
        taken = self._traffic.requests[self.template, 4 if is_refused else 1]
        seconds = monotonic() - self._began
        taken.counts[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        taken.seconds += seconds
        if is_refused:
            why = {"code": message.get("code"), "reason": message.get("reason")}
            self._tell(logging.INFO, _of_failures, "socket refused", **why)

    def begin(self, status: int) -> Iterable[tuple[bytes, bytes]]:
        """Count and log the answer that begins now; return the headers that it gets besides."""
        self.has_begun = True
        taken = self._traffic.requests[self.template, status // 100]
        seconds = monotonic() - self._began
        taken.counts[bisect_left(BOUNDS_SECONDS, seconds)] += 1
        taken.seconds += seconds
        if self._traffic.traced is not None:
            self._traffic.traced(self.scope, self.template, status, seconds)
        if self.is_routine and status < FAILURE:
            if _requests.isEnabledFor(logging.DEBUG):
                self._answered(logging.DEBUG, _of_routine, status, seconds)
            return self._warnings() if self.damaged else ()
        level = logging.INFO if status < SERVER_ERROR else logging.WARNING
        if _requests.isEnabledFor(level):
            rate = _of_answers if status < FAILURE else _of_failures
            self._answered(level, rate, status, seconds)
        connection: ClientConnection | None = self.scope.get(CONNECTION)
        if status in REFUSED and connection is not None:
            # Whoever repeats at once what is refused would cost as much by it.
            connection.rest()
        identity = (HEADER, self.identify().encode())
        return (identity, *self._warnings()) if self.damaged else (identity,)

    def _warnings(self) -> Iterable[tuple[bytes, bytes]]:
        """Return the header that names what was left out."""
        named = sorted(self.damaged)[:MOST_DAMAGED_NAMED]
        return ((DAMAGED, ", ".join(map(str, named)).encode()),)

    def _answered(self, level: int, rate: LineRate, status: int, seconds: float) -> None:
        what = {"method": self.scope["method"], "status": status, "seconds": round(seconds, 4)}
        self._tell(level, rate, "request answered", **what)

    def _tell(self, level: int, rate: LineRate, event: str, **what: Any) -> None:
        more = rate.due()
        if more is None:
            return
        client, path = self.scope.get("client"), self.path
        log.log(
            level,
            event,
            # Not the query, which may hold a ticket.
            path=path if len(path) <= LONGEST_PATH else f"{path[:LONGEST_PATH]}…",
            address=client[0] if client else None,
            **what,
            **more,
        )

    def identify(self) -> str:
        """Return the request's id: what its client calls it, if that is one, else one of ours."""
        if not self._id:
            given = dict(self.scope["headers"]).get(HEADER, b"")
            if GIVEN.fullmatch(given):
                self._id = given.decode()
            else:
                # No secret. To ask the system for each gives the interpreter away.
                self._id = f"{random.getrandbits(64):016x}"
        return self._id


class Front:
    """The ASGI application in front of all routes."""

    def __init__(
        self,
        table: Table,
        fastapi: ASGIApp,
        registry: Registry,
        lineage: Lineage,
        traffic: Traffic,
        answering: Answering,
        limits: Limits,
        is_ending: Callable[[], bool] = lambda: False,
    ) -> None:
        self._table = table
        self._fastapi = fastapi
        self._registry = registry
        self._lineage = lineage
        self._traffic = traffic
        self._answering = answering
        self._limits = limits
        self._receiving = Receiving(RECEIVING_OTHER_BYTES)
        self._is_ending = is_ending

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or serve a socket."""
        # What a request has found is not written to a database that was put back since.
        self._lineage.pin()
        request = _Request(scope, send, self._traffic)
        CURRENT.set(request.identify)
        if scope["type"] == "websocket":
            await self._serve(request, receive)
            return
        answer: Answer | None = None
        try:
            try:
                answer = await self._route(request, receive)
            except ClientGoneError:
                pass
            except asyncio.CancelledError:
                if request.has_begun or not self._is_ending():
                    raise
                answer = errors.answer(shutting_down())
            except Exception as error:
                invalid = _status_of_invalid(request.template)
                expected = None if request.has_begun else errors.answer_to(error, invalid)
                if expected is None:
                    log.exception("request failed", method=scope["method"], path=request.path)
                if request.has_begun:
                    # Half an answer must not be taken for a whole one: the server cuts it.
                    raise
                answer = expected or errors.answer(errors.DEFECT)
            if answer is not None:
                if FAILURE <= answer.status < TOO_MANY:
                    answer = self._counted(request, answer)
                answer.raw_headers += request.begin(answer.status)
                await answer.send_to(request.scope, send)
        finally:
            if request.held is not None:
                request.held.release()

    def _counted(self, request: _Request, answer: Answer) -> Answer:
        """Return the answer to a request that is refused, or if no route counts it what does.

        Such are those without a right credential, and all that no route takes: without a limit
        whoever guesses would be told as often as they like.
        """
        bucket = None
        if request.takes_data:
            bucket = self._limits.ingest
        elif request.template in MONITORED:
            bucket = self._limits.probe
        limited = self._limits.refused(request.scope, bucket)
        return answer if limited is None else errors.answer(limited)

    async def _route(self, request: _Request, receive: Receive) -> Answer | None:
        """Have the route answer; return its answer, or None: it has sent it."""
        scope, method = request.scope, request.scope["method"]
        decided: Answer | HeliographError | None = scope.get(DECIDED)
        if isinstance(decided, HeliographError):
            raise decided
        if decided is not None:
            return decided
        if request.path.startswith(NETWORKS):
            await self._leave_network(request)
        if method == "HEAD" and (request.path in PROBES or f"{request.path}/".startswith(FOLDERS)):
            method = scope["method"] = "GET"
            request.is_probed = True
        operation, scope["path_params"] = self._table.find(method, request.path)
        if operation is None:
            if methods := self._table.methods(request.path):
                request.template = next(iter(methods.values())).template
                raise HTTPException(405, headers={"allow": ", ".join(methods)})
            await self._fastapi(scope, receive, request.send)
            return None
        request.template = operation.template
        request.takes_data = operation.direct is not None and method == "POST"
        query: bytes = scope["query_string"]
        if query and operation.known is not None and (found := problems(query, operation.known)):
            return errors.invalid(found, status=_status_of_invalid(operation.template))
        if request.takes_data:
            request.is_routine = True
        else:
            request.is_routine = operation.template in ROUTINE
            scope[HELD] = request.held = HeldAnswer(
                self._answering, connection=scope.get(CONNECTION)
            )
            LEFT_OUT.set(request.damaged)
        if operation.direct is not None:
            return await operation.direct(scope, receive)
        if operation.application is not None:
            await operation.application(scope, receive, request.send)
        else:
            await self._pass_on(request, receive)
        return None

    async def _pass_on(self, request: _Request, receive: Receive) -> None:
        """Have FastAPI answer, whose routes take JSON bodies of bounded size and time."""
        scope, held = request.scope, HeldBytes(self._receiving)
        try:
            if scope["method"] in _WITH_BODY:
                headers = dict(scope["headers"])
                declared = headers.get(b"content-length")
                has_body = declared not in (None, b"0") or b"transfer-encoding" in headers
                if has_body and not request.path.startswith(FORMS):
                    if not is_json(headers.get(b"content-type")):
                        raise unsupported_media_type()
                    # What is taken for JSON is called JSON: FastAPI is stricter than we are.
                    headers[b"content-type"] = b"application/json"
                    scope["headers"] = list(headers.items())
                body = await read_body(receive, SINGLE_LIMIT, declared, held)
                receive = _with_body(body, receive)
            await self._fastapi(scope, receive, request.send)
        finally:
            held.release()

    async def _leave_network(self, request: _Request) -> None:
        """Lead /networks/{id}/sensors/{id}/… to /sensors/{id}/….

        A sensor of another network is led to nobody, so that who may see what is still decided in
        one place, and both answer alike.
        """
        if alias := _ALIAS.fullmatch(request.path):
            network, identifier, rest = alias.groups(default="")
            sensor = await self._registry.find(identifier)
            if sensor is None or sensor.network_identifier != network.lower():
                identifier = _NOBODY
            request.path = f"{PREFIX}/sensors/{identifier}{rest}"
            request.scope["path"] = request.scope.get("root_path", "") + request.path

    async def _serve(self, request: _Request, receive: Receive) -> None:
        """Serve a socket, which is told by its closing what is wrong."""
        scope = request.scope
        if decided := scope.get(DECIDED):
            await refuse(self._limits.refused(scope) or decided, receive, request.send)
            return
        operation, scope["path_params"] = self._table.find(SOCKET, request.path)
        if operation is not None:
            request.template = operation.template
        if operation is None or operation.application is None:
            if limited := self._limits.refused(scope):
                await refuse(limited, receive, request.send)
            else:
                await self._fastapi(scope, receive, request.send)
        elif operation.known and (found := problems(scope["query_string"], operation.known)):
            detail = "; ".join(f"{each['loc'][1]}: {each['msg']}" for each in found)
            error = HeliographError(ErrorCode.VALIDATION_FAILED, detail)
            await refuse(self._limits.refused(scope) or error, receive, request.send)
        else:
            await operation.application(scope, receive, request.send)


def _with_body(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body that has been read, and then goes on."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def given() -> Message:
        return left.pop() if left else await receive()

    return given
