"""Rejected messages once more: decoded again, as what their senders sent, by the rights of today.

What has no time of its own gets one by when it was first received. So each submission makes the
same rows of a message, and what is stored already is a repeat: nothing is stored twice, even if a
crash comes between the commit and the end of the message's entry.
"""

import re
from typing import Final, NamedTuple

import msgspec

from heliograph.access.policy import Action, may, may_send
from heliograph.access.registry import KnownSensor
from heliograph.errors import ErrorCode, HeliographError, RejectionReason
from heliograph.http.access import Rights
from heliograph.http.paths import PREFIX
from heliograph.http.services import Services
from heliograph.ingest.decode import (
    READINGS,
    BatchPart,
    Reading,
    decode_batch,
    decode_elements,
    decode_reading,
)
from heliograph.ingest.mqtt_ingest import KINDS
from heliograph.ingest.packets import InvalidPacketError, read_packet
from heliograph.ingest.strict_json import Fault, Rejected
from heliograph.model.audit import Actor
from heliograph.model.principal import Principal
from heliograph.model.records import Kind, RejectedMessage
from heliograph.mqtt.codec.topics import match
from heliograph.mqtt.topics import parse_device_topic

_ROUTE: Final = re.compile(
    rf"POST {PREFIX}/(?:(?P<packets>packets)|(?P<single>ingest)"
    r"|(?P<batch>ingest/batch)(?: (?P<array>log_messages|heartbeats))?"
    r"|sensors/(?P<sensor>[^/]+)/(?P<kind>measurements|logs|heartbeats))"
)
_KINDS: Final = {
    "measurements": Kind.MEASUREMENT,
    "logs": Kind.LOG,
    "heartbeats": Kind.HEARTBEAT,
}
_decode_indexes = msgspec.json.Decoder(list[int]).decode


class Resubmitted(NamedTuple):
    """What became of a message: elements stored now, stored before, and what is wrong still."""

    message: RejectedMessage
    accepted: int
    duplicates: int
    faults: list[Fault]


class Resubmission:
    """Submits rejected messages again on behalf of somebody who may edit their sensors."""

    def __init__(self, services: Services, rights: Rights, actor: Actor) -> None:
        self._services = services
        self._http_ingest = services.http_ingest
        self._registry = services.registry
        self._rights = rights
        self._actor = actor

    async def submit(self, message: RejectedMessage) -> Resubmitted:
        """Store what can be stored of the message by now; it leaves the list if that is all.

        Raises:
            HeliographError: MESSAGE_NOT_RESUBMITTABLE, it never can; as `HttpIngest.post`.
        """
        is_cut = message.size != len(message.payload)
        is_cut |= message.reason == RejectionReason.TOO_LARGE and message.indexes is None
        if is_cut or message.reason == RejectionReason.NOT_STORABLE:
            raise _never("not all of it was kept")
        sender = await self._services.authenticator.sender(message.principal)
        outcome = Resubmitted(message, 0, 0, [])
        if sender is None:
            fault = Fault(None, RejectionReason.UNKNOWN_SENSOR, "Its sender may not send any more")
            outcome.faults.append(fault)
            return outcome
        sensor = None
        if message.sensor is not None:
            sensor = await self._registry.find_number(message.sensor)
        try:
            outcome = await self._store(message, sender, sensor)
        except Rejected as rejected:
            outcome.faults.append(rejected.fault)
        except InvalidPacketError as error:
            outcome.faults.append(error.fault)
        network = None if sensor is None else sensor.network_identifier
        await self._settle(message, outcome, network)
        return outcome

    async def _settle(
        self, message: RejectedMessage, outcome: Resubmitted, network: str | None
    ) -> None:
        messages, faults = self._services.store.messages, outcome.faults
        if not faults:
            await messages.settle(message, self._actor, None, network)
            return
        indexes = [fault.index for fault in faults if fault.index is not None]
        first = faults[0]
        if outcome.accepted + outcome.duplicates and len(indexes) == len(faults):
            left = first.reason.value, first.detail, msgspec.json.encode(indexes).decode()
            await messages.settle(message, self._actor, left, network)

    async def _store(
        self, message: RejectedMessage, sender: Principal, sensor: KnownSensor | None
    ) -> Resubmitted:
        source, payload, now = message.source, message.payload, self._http_ingest.clock.now()
        topic, route = parse_device_topic(source), _ROUTE.fullmatch(source)
        if topic is None and route is None:
            if not match(self._services.settings.mqtt_subscribe_topic, source):
                raise _never("there is no such topic or route")
            return await self._store_packet(message, sender, publish=False)
        if route is not None and route["packets"]:
            return await self._store_packet(message, sender, publish=True)
        name, kind = (None, None) if topic is None else (topic[1], KINDS.get(topic[0]))
        if route is not None and route["sensor"]:
            name, kind = route["sensor"], _KINDS[route["kind"]]
        if topic is not None and kind not in _KINDS.values():
            raise _never("a status is of the moment")
        if name is None:
            parts = _batch(message, now, route)
        else:
            found = sensor or await self._sensor(sender, name)
            if isinstance(found, Fault):
                return Resubmitted(message, 0, 0, [found])
            sensor = found
            parts = [decode_elements(kind or Kind.MEASUREMENT, payload, now, found)]
        total = Resubmitted(message, 0, 0, [])
        for part in parts:
            total = await self._store_part(total, sender, sensor, _left(part, message))
        return total

    async def _store_part(
        self, total: Resubmitted, sender: Principal, own: KnownSensor | None, part: BatchPart
    ) -> Resubmitted:
        message, faults = total.message, [*part.faults]
        readings: list[tuple[int, KnownSensor, Reading]] = []
        for index, reading in part.readings:
            found = await self._checked(sender, own, reading.device_id)
            if isinstance(found, Fault):
                faults.append(Fault(index, found.reason, found.detail))
            else:
                readings.append((index, found, reading))
        accepted = duplicates = 0
        if readings:
            outcome = await self._http_ingest.post_readings(
                readings,
                [],
                message.payload,
                sender,
                message.source,
                kind=part.kind,
                received=message.receipt_timestamp,
            )
            duplicates = sum(stored.duplicate for stored in outcome.accepted)
            accepted = len(outcome.accepted) - duplicates
            faults += outcome.faults
        faults.sort(key=lambda fault: fault.index or 0)
        return Resubmitted(
            message,
            total.accepted + accepted,
            total.duplicates + duplicates,
            total.faults + faults,
        )

    async def _store_packet(
        self, message: RejectedMessage, sender: Principal, *, publish: bool
    ) -> Resubmitted:
        packet = read_packet(message.payload, self._http_ingest.clock.now())
        sensor = await self._sensor(sender, packet.device_id)
        if isinstance(sensor, Fault):
            grants = self._rights.grants
            # A device that is not known is the administrator's to speak for, and a broker's.
            if (
                await self._registry.find(packet.device_id) is not None
                or not self._rights.caller.is_admin
                or not may(sender, Action.RECEIVE_ALL, None, grants)
            ):
                return Resubmitted(message, 0, 0, [sensor])
        known = None if isinstance(sensor, Fault) else sensor
        posted = await self._http_ingest.post_packet(
            packet,
            known,
            message.payload,
            sender,
            message.source,
            publish=publish,
            received=message.receipt_timestamp,
        )
        return Resubmitted(message, int(not posted.is_repeat), int(posted.is_repeat), [])

    async def _checked(
        self, sender: Principal, own: KnownSensor | None, name: str | None
    ) -> KnownSensor | Fault:
        """Return the sensor that a reading is of: the one that it names, or the message's own."""
        if name is not None and (own is None or name not in own.names):
            return await self._sensor(sender, name)
        if own is None and sender.sensor is not None:
            own = await self._registry.find_number(sender.sensor)
        if own is None:
            detail = "device_id is missing: its sender does not say which device sends"
            return Fault(None, RejectionReason.MISSING_MEMBER, detail)
        return self._admitted(sender, own)

    async def _sensor(self, sender: Principal, name: str) -> KnownSensor | Fault:
        """Return the sensor of this name as which the sender may send, or what is wrong."""
        found = await self._registry.find(name)
        if found is None and may(sender, Action.PROVISION, name, self._rights.grants):
            found = await self._registry.provision(name)
        return self._admitted(sender, found)

    def _admitted(self, sender: Principal, sensor: KnownSensor | None) -> KnownSensor | Fault:
        grants = self._rights.grants
        if (
            sensor is None
            or not may_send(sender, sensor, grants)
            or not self._rights.may(Action.EDIT, sensor.network_identifier)
        ):
            return Fault(None, RejectionReason.UNKNOWN_SENSOR, "Sensor not found")
        if not sensor.is_active:
            return Fault(None, RejectionReason.DEACTIVATED_SENSOR, "The sensor is deactivated")
        return sensor


def _batch(message: RejectedMessage, now: int, route: re.Match[str] | None) -> list[BatchPart]:
    """Return the readings of a flat body or a batch, of which each array has its own entry."""
    if route is None or not route["batch"]:
        reading = decode_reading(message.payload, now)
        return [BatchPart(READINGS, Kind.MEASUREMENT, [(0, reading)], [])]
    parts = decode_batch(message.payload, now)
    if route["array"] is None and message.indexes is None:
        return parts
    return [part for part in parts if part.name == (route["array"] or READINGS)]


def _left(part: BatchPart, message: RejectedMessage) -> BatchPart:
    """Return what of a part was rejected: all of it, or the elements with the indexes noted."""
    if message.indexes is None:
        return part
    left = set(_decode_indexes(message.indexes))
    return part._replace(
        readings=[(index, reading) for index, reading in part.readings if index in left],
        faults=[fault for fault in part.faults if fault.index is None or fault.index in left],
    )


def _never(why: str) -> HeliographError:
    return HeliographError(
        ErrorCode.MESSAGE_NOT_RESUBMITTABLE, f"The message can't be submitted again: {why}"
    )
