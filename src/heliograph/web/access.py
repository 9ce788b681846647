"""Who is calling, and what they may do."""

from starlette.types import Scope

from heliograph.errors import ErrorCode, HeliographError
from heliograph.ingest.authentication import Authenticator
from heliograph.ingest.registry import KnownSensor, Registry
from heliograph.model.credentials import hash_key
from heliograph.model.principal import Principal, Role
from heliograph.web.limits import Limits

MAXIMUM_REMEMBERED = 50_000
NOT_FOUND = {
    ErrorCode.SENSOR_NOT_FOUND: "Sensor not found",
    ErrorCode.DEVICE_NOT_FOUND: "Device not found",
    ErrorCode.NETWORK_NOT_FOUND: "Network not found",
}


class Access:
    """Decides, for every route, who is calling and whether they may.

    A sensor that the caller may not see answers exactly as one that does not exist.
    """

    def __init__(self, authenticator: Authenticator, registry: Registry, limits: Limits) -> None:
        self._authenticator = authenticator
        self._registry = registry
        self._limits = limits
        self._principals: dict[bytes, Principal] = {}
        self._generation = registry.generation

    def remembered(self, key: bytes) -> Principal | None:
        """Return whose key this is if it was right before and nothing has changed since."""
        if self._generation != self._registry.generation:
            self._principals.clear()
            self._generation = self._registry.generation
            return None
        return self._principals.get(hash_key(key))

    async def principal(
        self, key: bytes | None, authorization: bytes | None, address: str
    ) -> Principal:
        """Return who is calling, by the values of `X-API-Key` and `Authorization`.

        Raises:
            HeliographError: INVALID_API_KEY, INVALID_TOKEN, RATE_LIMITED (wrong keys).
        """
        if key is None:
            if authorization is not None and authorization[:7].lower() == b"bearer ":
                self._limits.wrong_key(address, hash_key(authorization))
                raise HeliographError(ErrorCode.INVALID_TOKEN, "Invalid token")
            anonymous = self._authenticator.anonymous()
            if anonymous is None:
                raise HeliographError(ErrorCode.INVALID_API_KEY, "Invalid API key")
            return anonymous
        if principal := self.remembered(key):
            return principal
        hashed = hash_key(key)
        generation = self._generation
        found = await self._authenticator.key(key.decode("utf-8", "surrogateescape"))
        if found is None:
            self._limits.wrong_key(address, hashed)
            raise HeliographError(ErrorCode.INVALID_API_KEY, "Invalid API key")
        if generation == self._registry.generation:
            if len(self._principals) >= MAXIMUM_REMEMBERED:
                self._principals.clear()
            self._principals[hashed] = found
        return found

    def require(self, principal: Principal, role: Role) -> None:
        """Allow what concerns the network `default` as a whole.

        Raises:
            HeliographError: FORBIDDEN.
        """
        if not principal.is_admin and (principal.kind != "anonymous" or principal.role < role):
            raise forbidden()

    def require_admin(self, principal: Principal) -> None:
        """Allow what only the admin key may.

        Raises:
            HeliographError: FORBIDDEN.
        """
        if not principal.is_admin:
            raise forbidden()

    async def readable(
        self,
        principal: Principal,
        identifier: str,
        code: ErrorCode = ErrorCode.SENSOR_NOT_FOUND,
    ) -> KnownSensor:
        """Return the sensor if the caller may read it.

        Raises:
            HeliographError: `code` if there is none for this caller; FORBIDDEN.
        """
        if principal.kind == "shared":
            raise forbidden()
        sensor = await self._registry.find(identifier)
        if sensor is None or not self.sees(principal, sensor):
            raise HeliographError(code, NOT_FOUND[code])
        return sensor

    async def changeable(
        self,
        principal: Principal,
        identifier: str,
        role: Role,
        code: ErrorCode = ErrorCode.SENSOR_NOT_FOUND,
    ) -> KnownSensor:
        """Return the sensor if the caller may do with it what takes `role`.

        Raises:
            HeliographError: `code` if there is none for this caller; FORBIDDEN.
        """
        sensor = await self.readable(principal, identifier, code)
        self.require(principal, role)
        return sensor

    def sees(self, principal: Principal, sensor: KnownSensor) -> bool:
        """Tell whether the sensor exists as far as this caller is concerned."""
        if principal.is_admin:
            return True
        if principal.sensor is not None:
            return principal.sensor == sensor.number
        return (
            principal.role >= Role.VIEWER
            and sensor.network_identifier == self._registry.default_network
        )

    async def speaks_for(self, principal: Principal, identifier: str) -> KnownSensor | None:
        """Return the sensor if the caller may send as it; registers it with AUTO_PROVISION."""
        if principal.sensor is not None:
            own = self._registry.number(principal.sensor)
            if own is not None and identifier in (own.device_id, own.identifier):
                return own
            sensor = await self._registry.find(identifier)
            return sensor if sensor and sensor.number == principal.sensor else None
        sensor = await self._registry.find(identifier)
        if sensor is None:
            return await self._registry.provision(identifier)
        if principal.kind == "anonymous" and not self.sees(principal, sensor):
            return None
        return sensor

    async def itself(self, principal: Principal) -> KnownSensor | None:
        """Return the device that calls; None if a caller is no device."""
        if principal.sensor is None:
            return None
        return await self._registry.find_number(principal.sensor)


def may_send(principal: Principal) -> None:
    """Allow sending data at all.

    Raises:
        HeliographError: FORBIDDEN.
    """
    if principal.kind == "anonymous" and principal.role < Role.EDITOR:
        raise forbidden()


def forbidden() -> HeliographError:
    """Return what a known caller is told who may not."""
    return HeliographError(ErrorCode.FORBIDDEN, "This credential does not allow that")


def client_address(scope: Scope) -> str:
    """Return the address that limits count by."""
    client = scope.get("client")
    return client[0] if client else ""
