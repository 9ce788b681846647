"""What the routes of all resources share: who calls, and how what they return is answered."""

import contextlib
import functools
import hashlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from types import NoneType
from typing import Annotated, Any, TypeVar, get_type_hints
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Depends, Header, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope

from heliograph.errors import AlreadyExistsError, ErrorCode, HeliographError
from heliograph.http.access import READING, Rights, bearer, client_address, not_found, stranger
from heliograph.http.answers import HELD, Answer, HeldAnswer, encode
from heliograph.http.members import MOST_NAMED
from heliograph.http.parameters import is_list
from heliograph.http.paths import PREFIX
from heliograph.http.records import errors, ok
from heliograph.http.services import Services
from heliograph.ingest.strict_json import quoted
from heliograph.model.audit import Actor, actor_of
from heliograph.model.principal import Principal
from heliograph.nearest import hint

T = TypeVar("T")
Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Any]])
# Of a route that answers with something; of others it is 200.
SUCCESS = {"POST": 201}
IfNoneMatch = Annotated[
    str | None, Header(description="The ETag of an answer that is known: 304 while it is the same")
]
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "It is still the one of If-None-Match"}
}
# By the store's error, or by the field whose value is taken: what is answered.
Refusals = Mapping[str | type[Exception], tuple[ErrorCode, str]]


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


# Other dependencies await `_services` themselves: FastAPI looks at each one anew for each route.
TheServices = Annotated[Services, Depends(_services)]


async def _anybody(request: Request) -> None:
    """Count a request that needs no credential."""
    limits = (await _services(request)).access.limits
    limits.call(stranger(request.scope), request.scope)


async def _probe(request: Request) -> None:
    """Count a request of the server's monitoring."""
    limits = (await _services(request)).access.limits
    limits.probe.take(stranger(request.scope), request.scope)


async def _no_body(request: Request) -> None:
    """Check that a request has no members for a route that takes none: they would change nothing.

    Raises:
        RequestValidationError: it has.
    """
    body = (await request.body()).strip()
    if body in (b"", b"{}", b"null"):
        return
    try:
        given = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        given = None
    names = list(given)[:MOST_NAMED] if isinstance(given, dict) else []
    message = f"unknown member{hint('', ())}" if names else "takes no body"
    locations = [["body", name] for name in names] or [["body"]]
    raise RequestValidationError(
        [{"loc": at, "type": "extra_forbidden", "msg": message} for at in locations]
    )


anybody = Depends(_anybody)
# For what is asked with a method that usually has a body.
no_body = Depends(_no_body)
probe = Depends(_probe)


class KnownCall(Rights):
    """A request of a known caller, what they may do, and what it is answered from."""

    def __init__(self, request: Request, caller: Principal, services: Services) -> None:
        super().__init__(caller, services.registry)
        self.request = request
        self.services = services
        self.access = services.access
        self.store = services.store
        # As the client wrote it, for links.
        self.path: str = request.scope["asked_path"].rstrip("/")
        # What the answer takes of memory.
        self.held: HeldAnswer = request.scope[HELD]

    @property
    def address(self) -> str:
        """The address that the caller calls from; empty where there is none."""
        return client_address(self.request.scope)

    @property
    def actor(self) -> Actor:
        """The caller as the audit log names them."""
        return actor_of(self.caller, self.address or None)

    def link_to_next(self, query: Sequence[tuple[str, Any]]) -> tuple[bytes, bytes]:
        """Return the header that leads on, to the same path with this query."""
        return b"link", f'<{self.path}?{urlencode(query)}>; rel="next"'.encode("latin-1")


async def known_call(request: Request) -> KnownCall:
    """Return the call of whoever makes a request, which is counted.

    Raises:
        HeliographError: as `Access.caller`; RATE_LIMITED.
    """
    services = await _services(request)
    access, scope = services.access, request.scope
    if request.method in READING:
        caller = await access.reader(scope)
    else:
        caller = await access.caller(scope)
        access.limits.call(bearer(caller, scope), scope)
    return KnownCall(request, caller, services)


TheCall = Annotated[KnownCall, Depends(known_call)]


class ReadRoute(APIRoute):
    """A GET that FastAPI describes and the front answers: its function returns an `Answer`.

    It is what devices and pages ask for all day. FastAPI's layers, and its way of collecting
    parameters, would take three times as long as the query. So its fields read the parameters
    here: each check and each message is the same as of every other route.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        # What `responses` says of the answer is all that FastAPI has to know.
        super().__init__(path, endpoint, **{**options, "response_model": None})
        self._parameters = _Parameters(self.dependant)

    async def answer(self, services: Services, scope: Scope, _receive: Receive) -> Answer:
        """Return the answer to a request.

        Raises:
            HeliographError: it is refused.
            RequestValidationError: a parameter is not what it should be.
        """
        request = Request(scope)
        call = KnownCall(request, await services.access.reader(scope), services)
        problems: list[Any] = []
        values = self._parameters.read(request, problems)
        if problems:
            raise RequestValidationError(problems)
        answer: Answer = await self.endpoint(call=call, **scope["path_params"], **values)
        return answer


class _Parameters:
    """The parameters of a function, or of a class that collects some of them."""

    def __init__(self, dependant: Dependant) -> None:
        query, headers = dependant.query_params, dependant.header_params
        self._query = [(field, is_list(field.field_info.annotation)) for field in query]
        self._headers = [(field.name, field.alias.encode()) for field in headers]
        self._defaults = {field.name: field.default for field in (*query, *headers)}
        self._request = dependant.request_param_name
        self._parts = [
            (str(part.name), part.call, _Parameters(part))
            for part in dependant.dependencies
            if part.call not in (None, known_call)
        ]

    def read(self, request: Request, problems: list[Any]) -> dict[str, Any]:
        """Return the values by name, and add what is wrong with them to `problems`."""
        values = self._defaults.copy()
        if request.scope["query_string"]:
            given = request.query_params
            for field, is_repeatable in self._query:
                if (alias := field.alias) in given:
                    value = given.getlist(alias) if is_repeatable else given[alias]
                    values[field.name], wrong = field.validate(value, values, loc=("query", alias))
                    problems += wrong or ()  # FastAPI 0.115 has None for nothing
        for name, header in self._headers:
            if (text := dict(request.scope["headers"]).get(header)) is not None:
                values[name] = text.decode("latin-1")
        if self._request is not None:
            values[self._request] = request
        for name, call, parameters in self._parts:
            known = len(problems)
            part = parameters.read(request, problems)
            if len(problems) == known:
                values[name] = call(**part)
        return values


class _StrictRoute(APIRoute):
    """A route of FastAPI's that refuses a JSON body with a member that it has twice."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(_StrictRequest(request.scope, request.receive))

        return strict


class _StrictRequest(Request):
    async def json(self) -> Any:
        return json.loads(await self.body(), object_pairs_hook=_members)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        name = next(name for name, count in counts.items() if count > 1)
        detail = f"The body has the member {quoted(name)} twice in one object"
        raise HeliographError(ErrorCode.VALIDATION_FAILED, detail)
    return members


class Resource:
    """The routes of a resource; each returns a representation, which is answered as JSON.

    What it returns is what OpenAPI shows. One that returns nothing answers 204, one that takes no
    body refuses any, and one that makes a response itself says what it `shows`.
    """

    def __init__(self, tag: str, prefix: str = "") -> None:
        self._router = APIRouter(prefix=PREFIX + prefix, tags=[tag], route_class=_StrictRoute)

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """The routes, in the order of their registration."""
        return self._router.routes

    def route(
        self,
        path: str,
        *methods: str,
        status: int | None = None,
        faults: Sequence[int] = (),
        shown: Any = None,
        responses: dict[int | str, dict[str, Any]] | None = None,
        dependencies: Sequence[Any] = (),
        direct: bool = False,
    ) -> Callable[[Handler], Handler]:
        """Return what makes a route of a function, for each of the methods.

        Args:
            path: after the prefix.
            methods: of HTTP.
            status: of an answer that is not empty, 201 for POST and else 200.
            faults: statuses beside those that all operations of its kind may answer.
            shown: what it shows where the function makes a response itself.
            responses: what else OpenAPI says.
            dependencies: what FastAPI asks before.
            direct: of a GET, whether it is a `ReadRoute`.
        """

        def add(handler: Handler) -> Handler:
            hints = get_type_hints(handler)
            returned = shown or hints.pop("return")
            bodies = [each for each in hints.values() if isinstance(each, type)]
            is_given = any(issubclass(each, BaseModel) for each in bodies)
            for method in methods:
                success = 204 if returned is NoneType else status or SUCCESS.get(method, 200)
                success_entry = {} if returned is NoneType else ok(returned, success)
                self._router.add_api_route(
                    path,
                    _answering(handler, success),
                    methods=[method],
                    status_code=success,
                    response_model=None,
                    response_class=Response,
                    responses={**success_entry, **errors(*faults), **(responses or {})},
                    dependencies=[
                        *dependencies,
                        *(() if is_given or method == "GET" else (no_body,)),
                    ],
                    route_class_override=ReadRoute if direct else None,
                )
            return handler

        return add


def _answering(handler: Handler, status: int) -> Callable[..., Awaitable[Response]]:
    @functools.wraps(handler)
    async def answering(**arguments: Any) -> Response:
        shown = await handler(**arguments)
        if isinstance(shown, Response):
            return shown
        return Response(status_code=status) if shown is None else answered(shown, status)

    return answering


def answered(shown: Any, status: int = 200) -> Response:
    """Return an answer that shows this as JSON."""
    return Answer(status, encode(shown))


def tagged(body: bytes, given: str | None, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    """Return the body with a tag of its content: 304 without it for a client that has it."""
    tag = hashlib.blake2b(body, digest_size=12).hexdigest()
    return tagged_as(tag, lambda: body, given, headers)


def tagged_as(
    tag: str,
    body: Callable[[], bytes],
    given: str | None,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> Answer:
    """Return the body that an entity tag stands for (RFC 9110, 8.8.3).

    If the request's If-None-Match names the tag it is 304, and the body is not made.
    """
    tag = f'"{tag}"'
    headers = [(b"etag", tag.encode()), *headers]
    known = [each.strip().removeprefix("W/") for each in (given or "").split(",")]
    return Answer(304, b"", headers) if {"*", tag} & {*known} else Answer(200, body(), headers)


def found(record: T | None, code: ErrorCode) -> T:
    """Return the record that the store has found.

    Raises:
        HeliographError: `code`, it has found none.
    """
    if record is None:
        raise not_found(code)
    return record


@contextlib.contextmanager
def refusals(reasons: Refusals) -> Iterator[None]:
    """Answer what the store refuses with its reason, if it is one of these.

    Raises:
        HeliographError: the reason.
    """
    try:
        yield
    except Exception as error:
        name = error.field if isinstance(error, AlreadyExistsError) else type(error)
        if name not in reasons:
            raise
        raise HeliographError(*reasons[name]) from None
