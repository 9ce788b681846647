"""GETs that are answered directly: what devices and pages ask for all day.

FastAPI describes these routes, from the same declarations as all others. But its layers, and its
way of collecting parameters, would take three times as long as the query. So the front has them
answered here, where FastAPI's own fields read the parameters: each check and each message is the
same as of every other route.
"""

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope

from heliograph.access.registry import KnownSensor
from heliograph.http.access import Access
from heliograph.http.answers import HELD
from heliograph.http.bodies import Held
from heliograph.http.errors import Answer
from heliograph.http.newest_pages import NewestPages
from heliograph.http.parameters import is_list
from heliograph.http.services import Services
from heliograph.model.principal import Principal


class Read(NamedTuple):
    """A request that is answered directly: who asks, and what the answer is made from.

    `path` is what the client has asked for, for links; `held` what the answer takes of memory.
    """

    caller: Principal
    path: str
    held: Held
    access: Access
    services: Services
    newest_pages: NewestPages

    async def sensor(self, identifier: str) -> KnownSensor:
        """Return the sensor if the caller may read it.

        Raises:
            HeliographError: SENSOR_NOT_FOUND, FORBIDDEN.
        """
        return await self.access.readable(self.caller, identifier)


def _described() -> Read:
    """Stand for the request where FastAPI describes a route."""
    raise NotImplementedError


TheRead = Annotated[Read, Depends(_described)]


class ReadRoute(APIRoute):
    """A GET that FastAPI describes and the front answers: its function returns an `Answer`."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        # What `responses` says of the answer is all that FastAPI has to know.
        super().__init__(path, endpoint, **{**options, "response_model": None})
        self._parameters = _Parameters(self.dependant)

    async def answer(
        self,
        access: Access,
        services: Services,
        newest_pages: NewestPages,
        scope: Scope,
        _receive: Receive,
    ) -> Answer:
        """Return the answer to a request.

        Raises:
            HeliographError: it is refused.
            RequestValidationError: a parameter is not what it should be.
        """
        caller = await access.reader(scope)
        problems: list[Any] = []
        values = self._parameters.read(Request(scope), problems)
        if problems:
            raise RequestValidationError(problems)
        path = scope["asked_path"].rstrip("/")
        read = Read(caller, path, scope[HELD], access, services, newest_pages)
        answer: Answer = await self.endpoint(read=read, **scope["path_params"], **values)
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
            if part.call not in (None, _described)
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
                    problems += wrong
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
