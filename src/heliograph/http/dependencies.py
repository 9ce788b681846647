"""What routes ask FastAPI for: the services, and who is calling."""

from typing import Annotated

import msgspec
from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError

from heliograph.http.access import READING, Access, bearer, stranger
from heliograph.http.members import MOST_TOLD
from heliograph.http.services import Services
from heliograph.model.principal import Principal
from heliograph.nearest import hint


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _access(request: Request) -> Access:
    access: Access = request.app.state.access
    return access


async def _caller(request: Request) -> Principal:
    """Authenticate the caller and count the request."""
    access: Access = request.app.state.access
    if request.method in READING:
        return await access.reader(request.scope)
    principal = await access.caller(request.scope)
    access.limits.call(request.method, bearer(principal, request.scope))
    return principal


async def _anybody(request: Request) -> None:
    """Count a request that needs no credential."""
    access: Access = request.app.state.access
    access.limits.call(request.method, stranger(request.scope))


async def _probe(request: Request) -> None:
    """Count a request of the server's monitoring."""
    access: Access = request.app.state.access
    access.limits.probe.take(stranger(request.scope))


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
    names = list(given)[:MOST_TOLD] if isinstance(given, dict) else []
    message = f"unknown member{hint('', ())}" if names else "takes no body"
    locations = [["body", name] for name in names] or [["body"]]
    raise RequestValidationError(
        [{"loc": at, "type": "extra_forbidden", "msg": message} for at in locations]
    )


TheServices = Annotated[Services, Depends(_services)]
TheAccess = Annotated[Access, Depends(_access)]
Caller = Annotated[Principal, Depends(_caller)]
anybody = Depends(_anybody)
# For what is asked with a method that usually has a body.
no_body = Depends(_no_body)
probe = Depends(_probe)
