"""What routes ask FastAPI for: the services, and that a request is counted."""

from typing import Annotated

import msgspec
from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError

from heliograph.http.access import stranger
from heliograph.http.members import MOST_TOLD
from heliograph.http.services import Services
from heliograph.nearest import hint


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


TheServices = Annotated[Services, Depends(_services)]


async def _anybody(request: Request, services: TheServices) -> None:
    """Count a request that needs no credential."""
    services.access.limits.call(request.method, stranger(request.scope))


async def _probe(request: Request, services: TheServices) -> None:
    """Count a request of the server's monitoring."""
    services.access.limits.probe.take(stranger(request.scope))


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


anybody = Depends(_anybody)
# For what is asked with a method that usually has a body.
no_body = Depends(_no_body)
probe = Depends(_probe)
