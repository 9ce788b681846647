"""The routes that devices send to."""

from heliograph.access.registry import KnownSensor
from heliograph.errors import ErrorCode, HeliographError, RejectionReason
from heliograph.ingest.decode import Reading, Rejected, decode_reading, decode_readings
from heliograph.ingest.outcome import Fault, Outcome
from heliograph.model.records import Kind
from heliograph.model.time import to_rfc3339
from heliograph.web.access import NOT_FOUND, Access
from heliograph.web.bodies import BATCH_LIMIT, SINGLE_LIMIT
from heliograph.web.errors import Answer, encode, rejection
from heliograph.web.hot import Call, HotRoute, outcome_answer
from heliograph.web.limits import Limits
from heliograph.web.services import Services
from heliograph.web.traffic import Traffic

_INACTIVE = "The device is deactivated"


class IngestReading(HotRoute):
    """`POST /ingest`: one reading of one device."""

    template = "/api/v1/ingest"
    limit = SINGLE_LIMIT

    async def take(self, call: Call) -> Answer:
        """Store the reading; answer with its id, device and time."""
        try:
            reading = decode_reading(call.payload, self.posts.clock.now())
        except Rejected as rejected:
            return await self.refuse(call, rejected.fault)
        if reading.device_id is not None:
            sensor = await self.access.speaks_for(call.principal, reading.device_id)
            if sensor is None:
                return await self._not_found(call)
        else:
            sensor = await self.access.itself(call.principal)
            if sensor is None:
                return await self._device_id_missing(call)
        if not sensor.is_active:
            return await self._inactive(call, sensor)
        outcome = await self.posts.post_readings(
            [(0, sensor, reading)],
            [],
            call.payload,
            call.principal,
            call.source,
            call.idempotency_key,
        )
        if not outcome.accepted:
            return rejection(outcome.faults[0])
        stored = outcome.accepted[0]
        body: dict[str, str | int] = {
            "id": str(stored.id),
            "device_id": sensor.device_id or sensor.identifier,
            "timestamp": to_rfc3339(stored.timestamp),
        }
        if outcome.retimed:
            body["retimed"] = 1
        return Answer(201, encode(body))

    async def _not_found(self, call: Call) -> Answer:
        detail = NOT_FOUND[ErrorCode.DEVICE_NOT_FOUND]
        fault = Fault(None, RejectionReason.UNKNOWN_SENSOR, detail)
        error = HeliographError(ErrorCode.DEVICE_NOT_FOUND, detail)
        return await self.refuse(call, fault, error)

    async def _device_id_missing(self, call: Call) -> Answer:
        detail = "device_id is missing: this key does not say which device sends"
        fault = Fault(None, RejectionReason.MISSING_MEMBER, detail)
        error = HeliographError(ErrorCode.DEVICE_ID_MISSING, detail)
        return await self.refuse(call, fault, error)

    async def _inactive(self, call: Call, sensor: KnownSensor) -> Answer:
        fault = Fault(None, RejectionReason.DEACTIVATED_SENSOR, _INACTIVE)
        error = HeliographError(ErrorCode.DEVICE_INACTIVE, _INACTIVE)
        return await self.refuse(call, fault, error, sensor)


class IngestBatch(HotRoute):
    """`POST /ingest/batch`: readings of one device, or of many."""

    template = "/api/v1/ingest/batch"
    limit = BATCH_LIMIT

    async def take(self, call: Call) -> Answer:
        """Store the readings; answer what became of them."""
        try:
            decoded, faults = decode_readings(call.payload, self.posts.clock.now())
        except Rejected as rejected:
            return await self.refuse(call, rejected.fault)
        readings: list[tuple[int, KnownSensor, Reading]] = []
        resolved: dict[str | None, KnownSensor | Fault] = {}
        for index, reading in decoded:
            name = reading.device_id
            sensor = resolved.get(name)
            if sensor is None:
                sensor = resolved[name] = await self._resolve(call, name)
            if isinstance(sensor, Fault):
                faults.append(Fault(index, sensor.reason, sensor.detail))
            else:
                readings.append((index, sensor, reading))
        if not readings and not faults:
            return outcome_answer(Outcome([], []))
        faults.sort(key=lambda fault: fault.index or 0)
        outcome = await self.posts.post_readings(
            readings, faults, call.payload, call.principal, call.source, call.idempotency_key
        )
        return outcome_answer(outcome)

    async def _resolve(self, call: Call, name: str | None) -> KnownSensor | Fault:
        if name is None:
            sensor = await self.access.itself(call.principal)
            if sensor is None:
                return Fault(None, RejectionReason.MISSING_MEMBER, "device_id is missing")
        else:
            sensor = await self.access.speaks_for(call.principal, name)
            if sensor is None:
                detail = NOT_FOUND[ErrorCode.DEVICE_NOT_FOUND]
                return Fault(None, RejectionReason.UNKNOWN_SENSOR, detail)
        if not sensor.is_active:
            return Fault(None, RejectionReason.DEACTIVATED_SENSOR, _INACTIVE)
        return sensor


class SensorIngest(HotRoute):
    """`POST /sensors/{id}/measurements|logs|heartbeats`: MQTT's payloads over HTTP."""

    limit = SINGLE_LIMIT

    def __init__(
        self,
        kind: Kind,
        name: str,
        access: Access,
        limits: Limits,
        services: Services,
        traffic: Traffic,
    ) -> None:
        super().__init__(access, limits, services.posts, traffic)
        self.kind = kind
        self.name = name
        self.template = f"/api/v1/sensors/{{identifier}}/{name}"

    def source(self, identifier: str) -> str:
        """Return how rejected messages name this route."""
        return f"POST /api/v1/sensors/{identifier}/{self.name}"

    async def take(self, call: Call) -> Answer:
        """Store the elements; answer what became of them."""
        sensor = await self.access.speaks_for(call.principal, call.identifier)
        if sensor is None:
            detail = NOT_FOUND[ErrorCode.SENSOR_NOT_FOUND]
            fault = Fault(None, RejectionReason.UNKNOWN_SENSOR, detail)
            error = HeliographError(ErrorCode.SENSOR_NOT_FOUND, detail)
            return await self.refuse(call, fault, error)
        if not sensor.is_active:
            fault = Fault(None, RejectionReason.DEACTIVATED_SENSOR, _INACTIVE)
            error = HeliographError(ErrorCode.DEVICE_INACTIVE, _INACTIVE)
            return await self.refuse(call, fault, error, sensor)
        outcome = await self.posts.post(
            self.kind,
            sensor,
            call.payload,
            call.principal,
            call.source,
            call.idempotency_key,
        )
        return outcome_answer(outcome)
