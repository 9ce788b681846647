"""How a packet becomes a message: stored as it is, and as its device's measurement."""

import msgspec

from heliograph.access.policy import Action, may, may_send
from heliograph.access.registry import KnownSensor, Registry
from heliograph.errors import RejectionReason
from heliograph.ingest.batch import IngestIds, Message
from heliograph.ingest.packets import Packet
from heliograph.ingest.pipeline import Pipeline
from heliograph.ingest.strict_json import Fault
from heliograph.model.actions import PUBLISH, PacketPublication
from heliograph.model.principal import Principal
from heliograph.model.records import TIMESTAMP, ActionRow, Kind


class PacketIngest:
    """Completes messages that carry packets, over MQTT and HTTP alike."""

    def __init__(
        self,
        registry: Registry,
        pipeline: Pipeline,
        ids: IngestIds,
        *,
        publish_topic: str,
        through: tuple[str, ...],
    ) -> None:
        """`through`: the ways by which what is posted is published."""
        self._registry = registry
        self._rejections = pipeline.rejections
        self._attributes = pipeline.attributes
        self._ids = ids
        self.publish_topic = publish_topic
        self._through = through

    @property
    def ways(self) -> int:
        """By how many ways what is posted is published."""
        return len(self._through)

    def enter(
        self,
        message: Message,
        packet: Packet,
        sensor: KnownSensor | None,
        principal: Principal,
        source: str,
        now: int,
        *,
        publish: bool = False,
        received: int | None = None,
    ) -> None:
        """Have the packet stored, as the sensor's measurement too, and published if asked to.

        `received` is when it came if that was earlier: its time, if it has none of its own.
        """
        row_id, reading = self._ids.take(now, 1), packet.reading
        untimed = now if received is None else received
        timestamp = untimed if reading.timestamp is None else reading.timestamp
        if sensor is not None:
            if received is None:
                untimed = max(now, sensor.newest_assigned + 1)
            if reading.timestamp is None:
                sensor.newest_assigned = max(sensor.newest_assigned, untimed)
                message.untimed = True
            row = reading.row(row_id, sensor.number, now, untimed)
            message.kind, message.sensor, message.rows = Kind.MEASUREMENT, sensor, [row]
            timestamp = row[TIMESTAMP]
            if not reading.names <= sensor.attributes:
                message.attributes += self._attributes.learn(sensor, reading.names, [row])
            if received is None:
                self._registry.note_seen(sensor, now, measured=True)
        number = None if sensor is None else sensor.number
        network = None if sensor is None or principal.is_admin else sensor.network_identifier
        message.packet = packet.row(row_id, number, timestamp, now, network, principal.name, source)
        message.extras = True
        if publish:
            message.actions = tuple(
                self._action(packet, position, number or 0, timestamp, row_id, network, way, now)
                for position, way in enumerate(self._through)
            )

    def _action(
        self,
        packet: Packet,
        position: int,
        sensor: int,
        timestamp: int,
        row_id: int,
        network: str | None,
        way: str,
        now: int,
    ) -> ActionRow:
        publication = PacketPublication(self.publish_topic, packet.text, way)
        body = msgspec.json.encode(publication).decode()
        key = "", position, sensor, timestamp, packet.fingerprint
        return *key, row_id, network, PUBLISH, body, now, now

    async def resolve(
        self,
        message: Message,
        packet: Packet,
        principal: Principal,
        source: str,
        payload: bytes,
        now: int,
    ) -> None:
        """Find the device that a packet names, and have the packet stored, or kept as rejected.

        Raises:
            StoreUnavailableError: not now.
        """
        sensor = await self._registry.find(packet.device_id)
        grants = self._registry.grants
        if sensor is None and may(principal, Action.PROVISION, packet.device_id, grants):
            sensor = await self._registry.provision(packet.device_id)
        self.admit(message, packet, sensor, principal, source, payload, now)

    def admit(
        self,
        message: Message,
        packet: Packet,
        sensor: KnownSensor | None,
        principal: Principal,
        source: str,
        payload: bytes,
        now: int,
    ) -> None:
        """Have a packet stored if the principal may send it, and kept as rejected if not.

        A device that is not known is the administrator's to speak for, and a broker's, which has
        judged its clients by itself.
        """
        fault = None
        if sensor is None:
            if not may(principal, Action.RECEIVE_ALL, None, self._registry.grants):
                fault = Fault(None, RejectionReason.UNKNOWN_SENSOR, "Device not found")
        elif not may_send(principal, sensor, self._registry.grants):
            fault = Fault(None, RejectionReason.UNKNOWN_SENSOR, "Device not found")
        elif not sensor.is_active:
            fault = Fault(None, RejectionReason.DEACTIVATED_SENSOR, "The device is deactivated")
        if fault is None:
            self.enter(message, packet, sensor, principal, source, now)
            return
        message.faults = [fault]
        self._rejections.refuse(message, principal, source, payload, len(payload), now)
