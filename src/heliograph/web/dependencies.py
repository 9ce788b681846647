"""What routes ask FastAPI for: the services, and who is calling."""

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader

from heliograph.model.principal import Principal
from heliograph.web.access import Access, client_address
from heliograph.web.limits import Limits, bearer
from heliograph.web.services import Services

api_key_header = APIKeyHeader(
    name="X-API-Key",
    scheme_name="ApiKey",
    description="The admin key, a device's own key, or one of DEVICE_API_KEYS",
    auto_error=False,
)


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _access(request: Request) -> Access:
    access: Access = request.app.state.access
    return access


async def _caller(
    request: Request, _documented: Annotated[str | None, Security(api_key_header)]
) -> Principal:
    """Authenticate the caller and count the request."""
    access: Access = request.app.state.access
    limits: Limits = request.app.state.limits
    headers = dict(request.scope["headers"])
    address = client_address(request.scope)
    principal = await access.principal(
        headers.get(b"x-api-key"), headers.get(b"authorization"), address
    )
    limits.read(bearer(principal, address))
    return principal


async def _anybody(request: Request) -> None:
    """Count a request that needs no credential."""
    limits: Limits = request.app.state.limits
    limits.read(f"address:{client_address(request.scope)}")


TheServices = Annotated[Services, Depends(_services)]
TheAccess = Annotated[Access, Depends(_access)]
Caller = Annotated[Principal, Depends(_caller)]
anybody = Depends(_anybody)
