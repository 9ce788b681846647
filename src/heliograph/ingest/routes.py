"""Where a topic leads: to a sensor and a decoder, or to a reason for rejection."""

from collections.abc import Callable

from heliograph.errors import RejectionReason
from heliograph.ingest.decode import decode_heartbeats, decode_logs, decode_measurements
from heliograph.ingest.elements import Addressee
from heliograph.ingest.outcome import Decoded, Fault
from heliograph.ingest.registry import KnownSensor, Registry
from heliograph.model.principal import Principal, Role
from heliograph.model.records import Kind

Decode = Callable[[bytes, int, int, int, int, Addressee], Decoded]

DECODERS: dict[Kind, Decode] = {
    Kind.MEASUREMENT: decode_measurements,
    Kind.LOG: decode_logs,
    Kind.HEARTBEAT: decode_heartbeats,
}


class Route:
    """A topic resolved for one principal. With a `fault`, what arrives is rejected.

    `decode` is None for what has no rows: statuses, and what is rejected.
    """

    __slots__ = ("decode", "fault", "kind", "principal", "sensor", "source")

    def __init__(
        self,
        source: str,
        principal: Principal,
        kind: Kind,
        sensor: KnownSensor | None = None,
        fault: Fault | None = None,
    ) -> None:
        self.source = source
        self.principal = principal
        self.kind = kind
        self.sensor = sensor
        self.fault = fault
        self.decode = DECODERS.get(kind) if sensor is not None else None


class Router:
    """Says who may send what, by the names that topics and paths carry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def route(self, principal: Principal, source: str, kind: Kind, identifier: str) -> Route:
        """Return the route of `kind` to the sensor that is called `identifier`.

        A sensor that the principal may not write to answers like one that does not exist.
        """
        own = None
        if principal.kind == "device" and principal.sensor is not None:
            own = await self._registry.find_number(principal.sensor)
        if principal.account is not None:
            # There may have been no room to keep his roles.
            await self._registry.find_account(principal.account)
        sensor = await self._registry.find(identifier) if self._registry.has_guests else None
        if is_foreign(principal, own, identifier) and not self._is_anybodys(sensor):
            detail = "Only the sensor's own topics may be published to"
            return self.refused(principal, source, RejectionReason.FORBIDDEN_TOPIC, detail)
        sensor = sensor or await self._registry.find(identifier)
        if sensor is None and may_register(principal, self._registry):
            sensor = await self._registry.provision(identifier)
        return self._route(principal, source, kind, sensor)

    def known(self, principal: Principal, source: str, kind: Kind, identifier: str) -> Route | None:
        """Return the route if memory is enough to know it; None says nothing."""
        own = None if principal.sensor is None else self._registry.number(principal.sensor)
        if principal.kind == "device" and own is None:
            return None
        if principal.account is not None and self._registry.account(principal.account) is None:
            return None
        sensor = self._registry.cached(identifier)
        if sensor is None:
            return None
        if is_foreign(principal, own, identifier) and not self._is_anybodys(sensor):
            return None
        return self._route(principal, source, kind, sensor)

    def _route(
        self, principal: Principal, source: str, kind: Kind, sensor: KnownSensor | None
    ) -> Route:
        if sensor is None or not self.may_write(principal, sensor):
            return self.refused(
                principal, source, RejectionReason.UNKNOWN_SENSOR, "Sensor not found"
            )
        if not sensor.is_active:
            return self.refused(
                principal, source, RejectionReason.DEACTIVATED_SENSOR, "The sensor is deactivated"
            )
        return Route(source, principal, kind, sensor)

    def refused(
        self, principal: Principal, source: str, reason: RejectionReason, detail: str
    ) -> Route:
        """Return a route that leads to rejection."""
        return Route(source, principal, Kind.REJECTED, None, Fault(None, reason, detail))

    def may_write(self, principal: Principal, sensor: KnownSensor) -> bool:
        """Tell whether the principal may send as this sensor."""
        if principal.kind == "broker" or principal.sensor == sensor.number:
            return True
        network = sensor.network_identifier
        named = principal.device is None or principal.device in sensor.names
        if principal.kind == "shared" and named and self._registry.takes_shared_keys(network):
            return True
        return self._registry.role(principal, network) >= Role.EDITOR

    def _is_anybodys(self, sensor: KnownSensor | None) -> bool:
        """Tell whether everybody may send as the sensor, or register one that is not there."""
        registry = self._registry
        network = registry.default_network if sensor is None else sensor.network_identifier
        return registry.guest_role(network) >= Role.EDITOR

    def may_read(self, principal: Principal, sensor: KnownSensor) -> bool:
        """Tell whether the principal may read this sensor's data."""
        if principal.sensor == sensor.number:
            return True
        return self._registry.role(principal, sensor.network_identifier) >= Role.VIEWER


def is_foreign(principal: Principal, own: KnownSensor | None, identifier: str) -> bool:
    """Tell whether the name is not one of the device's that the principal is (`own`)."""
    if principal.kind == "shared" and principal.device is not None:
        return identifier != principal.device
    if principal.kind != "device" or principal.sensor is None:
        return False
    return own is None or (identifier not in own.names and identifier.lower() not in own.names)


def may_register(principal: Principal, registry: Registry) -> bool:
    """Tell whether a sensor that the principal names may be registered with AUTO_PROVISION."""
    if principal.kind == "shared" and registry.takes_shared_keys(registry.default_network):
        return True
    everybody = registry.guest_role(registry.default_network)
    return principal.kind in {"admin", "broker"} or everybody >= Role.EDITOR
