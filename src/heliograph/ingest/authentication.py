"""From a credential to a principal."""

import hmac

from heliograph.ingest.registry import KnownSensor, Registry
from heliograph.model.credentials import hash_key
from heliograph.model.identifiers import is_device_id, is_uuid
from heliograph.model.principal import Principal, Role

ADMIN = Principal("admin", "admin", Role.OWNER)


class Authenticator:
    """Knows the admin key, the shared device keys and the devices' own keys.

    Keys are compared as SHA-256 hashes and in constant time; none is kept in the clear.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        admin_key: str,
        device_keys: tuple[str, ...] = (),
        anonymous_role: str = "",
    ) -> None:
        self._registry = registry
        self._admin = hash_key(admin_key)
        self._shared = [hash_key(key) for key in device_keys]
        self._anonymous = (
            Principal("anonymous", "anonymous", Role[anonymous_role.upper()])
            if anonymous_role
            else None
        )

    def anonymous(self) -> Principal | None:
        """Return who calls without a credential; None: nobody may."""
        return self._anonymous

    async def key(self, key: str) -> Principal | None:
        """Return whose `X-API-Key` this is; None if nobody's, or a deactivated device's."""
        hashed = hash_key(key.encode("utf-8", "surrogateescape"))
        if hmac.compare_digest(hashed, self._admin):
            return ADMIN
        if self._is_shared(hashed):
            return Principal("shared", f"shared:{hashed.hex()[:8]}")
        sensor = await self._registry.find_key(hashed)
        return _device(sensor) if sensor and sensor.is_active else None

    async def login(self, username: str, password: bytes) -> Principal | None:
        """Return who logs in over MQTT: the admin key under any name, or a device by its key.

        A shared key speaks for the one device that the user name says.
        """
        hashed = hash_key(password)
        if hmac.compare_digest(hashed, self._admin):
            return ADMIN
        if self._is_shared(hashed) and (is_device_id(username) or is_uuid(username)):
            return Principal("shared", f"shared:{username}", device=username)
        sensor = await self._registry.find(username)
        # The comparison happens for unknown names too, so that time tells nothing.
        expected = sensor.key_hash if sensor and sensor.key_hash else self._admin
        matches = hmac.compare_digest(hashed, expected)
        return _device(sensor) if matches and sensor and sensor.is_active else None

    def _is_shared(self, hashed: bytes) -> bool:
        # Not any(): it would stop at the first match, and time would tell which it was.
        return sum(hmac.compare_digest(hashed, shared) for shared in self._shared) > 0


def _device(sensor: KnownSensor) -> Principal:
    # No device_id has a colon, so that no device goes by another principal's name.
    name = f"device:{sensor.device_id or sensor.identifier}"
    return Principal("device", name, sensor=sensor.number)
