"""Where a topic leads: to a sensor and a decoder, or to a reason for rejection."""

import dataclasses
from collections.abc import Callable

from heliograph.access.policy import EVERYBODY, Action, may, may_send, names_another
from heliograph.access.registry import KnownSensor, Registry
from heliograph.errors import RejectionReason
from heliograph.ingest.decode import (
    Addressee,
    Decoded,
    decode_heartbeats,
    decode_logs,
    decode_measurements,
)
from heliograph.ingest.strict_json import Fault
from heliograph.model.principal import Principal
from heliograph.model.records import Kind

Decode = Callable[[bytes, int, int, int, int, Addressee], Decoded]

DECODERS: dict[Kind, Decode] = {
    Kind.MEASUREMENT: decode_measurements,
    Kind.LOG: decode_logs,
    Kind.HEARTBEAT: decode_heartbeats,
}


@dataclasses.dataclass(slots=True, eq=False)
class Route:
    """A topic resolved for one principal. With a `fault`, what arrives is rejected.

    `decode` is None for what has no rows: statuses, and what is rejected.
    """

    source: str
    principal: Principal
    kind: Kind
    sensor: KnownSensor | None = None
    fault: Fault | None = None
    decode: Decode | None = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.decode = DECODERS.get(self.kind) if self.sensor is not None else None


class Router:
    """Finds where what a principal sends leads, by the name that its topic or path carries."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._grants = registry.grants

    async def route(self, principal: Principal, source: str, kind: Kind, identifier: str) -> Route:
        """Return the route of `kind` to the sensor that is called `identifier`.

        A sensor that the principal may not write to answers like one that does not exist.
        """
        own = None
        if principal.kind == "device" and principal.sensor is not None:
            own = await self._registry.find_number(principal.sensor)
        if principal.account is not None:
            # There may have been no room to keep the caller's roles.
            await self._registry.find_account(principal.account)
        is_foreign = names_another(principal, own, identifier)
        if is_foreign and not self._grants.everybody:
            # Not even looked up: a device may invent names without end.
            return self._forbidden(principal, source)
        sensor = await self._registry.find(identifier)
        if is_foreign and not self._is_everybodys(sensor):
            return self._forbidden(principal, source)
        if sensor is None and may(principal, Action.PROVISION, identifier, self._grants):
            sensor = await self._registry.provision(identifier)
        return self._route(principal, source, kind, sensor)

    def known(self, principal: Principal, source: str, kind: Kind, identifier: str) -> Route | None:
        """Return the route if memory is enough to know it; None says nothing."""
        own = None if principal.sensor is None else self._registry.number(principal.sensor)
        if principal.kind == "device" and own is None:
            return None
        if principal.account is not None and principal.account not in self._grants.accounts:
            return None
        sensor = self._registry.cached(identifier)
        if sensor is None:
            return None
        if names_another(principal, own, identifier) and not self._is_everybodys(sensor):
            return None
        return self._route(principal, source, kind, sensor)

    def _route(
        self, principal: Principal, source: str, kind: Kind, sensor: KnownSensor | None
    ) -> Route:
        if sensor is None or not may_send(principal, sensor, self._grants):
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

    def _forbidden(self, principal: Principal, source: str) -> Route:
        detail = "Only the sensor's own topics may be published to"
        return self.refused(principal, source, RejectionReason.FORBIDDEN_TOPIC, detail)

    def _is_everybodys(self, sensor: KnownSensor | None) -> bool:
        """Return whether everybody may send as the sensor, or register one that is not there."""
        default = self._grants.default_network
        network = default if sensor is None else sensor.network_identifier
        return may(EVERYBODY, Action.EDIT, network, self._grants)
