"""What the routes of all resources share: who calls, and how what they return is answered."""

import functools
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from types import NoneType
from typing import Annotated, Any, TypeVar, get_type_hints

from fastapi import APIRouter, Depends, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.responses import Response
from starlette.routing import BaseRoute

from heliograph.access.policy import Action, may
from heliograph.access.registry import KnownSensor
from heliograph.errors import ErrorCode, HeliographError
from heliograph.http.access import NOT_FOUND, Access, client_address, forbidden
from heliograph.http.dependencies import Caller, TheAccess, TheServices, no_body
from heliograph.http.errors import Answer, encode
from heliograph.http.paths import PREFIX
from heliograph.http.records import errors, ok
from heliograph.http.services import Services
from heliograph.ingest.strict_json import quoted
from heliograph.model.audit import Actor, actor_of
from heliograph.model.principal import Principal
from heliograph.model.sensor import Network

T = TypeVar("T")
Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Any]])
# Of a route that answers with something; of others it is 200.
SUCCESS = {"POST": 201}


class KnownCall:
    """A request of a known caller, and what it is answered from."""

    def __init__(
        self, request: Request, caller: Principal, access: Access, services: Services
    ) -> None:
        self.request = request
        self.caller = caller
        self.access = access
        self.services = services
        self.store = services.store
        self.registry = services.registry

    @property
    def address(self) -> str:
        """The address that the caller calls from; empty where there is none."""
        return client_address(self.request.scope)

    @property
    def actor(self) -> Actor:
        """The caller as the audit log names them."""
        return actor_of(self.caller, self.address or None)

    def may(self, action: Action, network: str | None = None) -> bool:
        """Return whether the caller may do this, in a network or at all."""
        return may(self.caller, action, network, self.registry.grants)

    def require(self, action: Action, network: str | None = None) -> None:
        """Allow an action in a network, or one that belongs to none.

        Raises:
            HeliographError: FORBIDDEN.
        """
        if not self.may(action, network):
            raise forbidden()

    def require_leave(self, network: str, target: str) -> None:
        """Allow that something moves from a network to the target, where it differs.

        Raises:
            HeliographError: FORBIDDEN.
        """
        if target != network:
            # Only an owner takes out of a network what its editors could not delete there.
            self.require(Action.MANAGE, network)

    async def network(self, identifier: str, action: Action = Action.VIEW) -> Network:
        """Return the network if the caller may do this with it.

        Raises:
            HeliographError: NETWORK_NOT_FOUND, none for this caller; FORBIDDEN.
        """
        return await self.access.network(self.caller, identifier, action)

    async def target_network(self, identifier: str | None) -> str:
        """Return the network that the caller may put something into; None: `default`.

        Raises:
            HeliographError: NETWORK_NOT_FOUND, FORBIDDEN.
        """
        if identifier is None:
            self.require(Action.EDIT, self.registry.default_network)
            return self.registry.default_network
        return (await self.network(identifier, Action.EDIT)).identifier

    async def visible(self, identifier: str | None = None) -> list[str] | None:
        """Return the networks whose sensors are listed for the caller; None: all of them.

        Raises:
            HeliographError: FORBIDDEN, a caller who reads no lists; NETWORK_NOT_FOUND.
        """
        return await self.access.visible(self.caller, identifier)

    async def readable(self, identifier: str) -> KnownSensor:
        """Return the sensor if the caller may read it.

        Raises:
            HeliographError: SENSOR_NOT_FOUND, FORBIDDEN.
        """
        return await self.access.readable(self.caller, identifier)

    async def changeable(
        self, identifier: str, action: Action, code: ErrorCode = ErrorCode.SENSOR_NOT_FOUND
    ) -> KnownSensor:
        """Return the sensor if the caller may do this with it.

        Raises:
            HeliographError: `code`, none for this caller; FORBIDDEN.
        """
        return await self.access.changeable(self.caller, identifier, action, code)


async def _call(
    request: Request, caller: Caller, access: TheAccess, services: TheServices
) -> KnownCall:
    return KnownCall(request, caller, access, services)


TheCall = Annotated[KnownCall, Depends(_call)]


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


def found(record: T | None, code: ErrorCode) -> T:
    """Return the record that the store has found.

    Raises:
        HeliographError: `code`, it has found none.
    """
    if record is None:
        raise not_found(code)
    return record


def not_found(code: ErrorCode) -> HeliographError:
    """Return what is answered for what does not exist, or not for this caller."""
    return HeliographError(code, NOT_FOUND[code])
