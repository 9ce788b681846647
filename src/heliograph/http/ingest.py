"""The routes that devices send to: the least that a request can cost.

They are answered directly, without a request or response object: authenticate, count, read the
body, have it committed.
"""

import abc
from typing import Annotated, NamedTuple

import structlog
from starlette.types import Receive, Scope

from heliograph.access.policy import Action, may, may_read, may_send
from heliograph.access.registry import KnownSensor
from heliograph.address import network_of
from heliograph.errors import ErrorCode, HeliographError, RejectionReason
from heliograph.hourly import Hourly
from heliograph.http.access import NOT_FOUND, Access, bearer, client_address, forbidden
from heliograph.http.answers import Answer, encode
from heliograph.http.bodies import (
    BATCH_LIMIT,
    SINGLE_LIMIT,
    UNCOUNTED,
    BodyTooLargeError,
    HeldBytes,
    Receiving,
    decompress,
    is_json,
    read_body,
    unsupported_media_type,
)
from heliograph.http.direct import CONNECTION, ClientConnection
from heliograph.http.errors import STATUS, rejection
from heliograph.http.paths import PREFIX
from heliograph.http.records import Representation
from heliograph.http.services import Services
from heliograph.ingest.decode import READINGS, BatchPart, Reading, decode_batch, decode_reading
from heliograph.ingest.http_ingest import HttpIngest, Outcome
from heliograph.ingest.strict_json import Fault, Rejected
from heliograph.model.principal import Principal
from heliograph.model.records import Kind
from heliograph.model.time import now, to_rfc3339

log = structlog.get_logger()

LONGEST_IDEMPOTENCY_KEY = 255
# Statuses of what is refused before it is read: no credential, no right, too slow, of another
# type, too often.
UNREAD = frozenset((401, 403, 408, 415, 429))
# How much of a path that names no sensor is kept with a rejected message.
LONGEST_SHOWN = 64
_IDENTIFIER = "{identifier}"
JSON = b"application/json"


class StoredReading(Representation, omit_defaults=True):
    """A reading that is committed; a repeat has the id of the first."""

    id: Annotated[str, "What the server calls the row"]
    device_id: Annotated[str, "The device's `device_id`, or its UUID where it has none"]
    timestamp: Annotated[str, "The reading's time as it is stored (RFC 3339, UTC)"]
    retimed: Annotated[
        int,
        "Number of readings that got the time of receipt because what they gave is none: 1, or"
        " absent",
    ] = 0


class RejectedElement(Representation, omit_defaults=True):
    """An element that could not be stored, and why."""

    index: Annotated[int, "Its index among the elements of its array, from 0"]
    code: Annotated[str, "Why, for programs"]
    detail: Annotated[str, "Why, for people"]
    array: Annotated[
        str,
        "The array of a batch that it is of, `log_messages` or `heartbeats`; of readings absent",
    ] = ""


class StoredBatch(Representation):
    """What became of a batch: accepted, duplicates and rejected add up to its elements."""

    accepted: Annotated[int, "Number of elements stored"]
    duplicates: Annotated[int, "Number of elements that were stored before"]
    retimed: Annotated[
        int, "Number of accepted elements whose time is none: they got that of receipt"
    ]
    rejected: Annotated[list[RejectedElement], "Those that could not be stored"]


class Call(NamedTuple):
    """A request that brings data: who sends it, and all there is to know of it.

    `source` is how rejected messages name its route.
    """

    principal: Principal
    payload: bytes
    idempotency_key: str | None
    source: str
    identifier: str


class SenderRefusedError(HeliographError):
    """There is no sensor as which the caller may send this; the message is kept as rejected."""

    def __init__(
        self,
        code: ErrorCode,
        reason: RejectionReason,
        detail: str,
        sensor: KnownSensor | None = None,
    ) -> None:
        super().__init__(code, detail)
        self.fault = Fault(None, reason, detail)
        self.sensor = sensor


class Refusals:
    """Warns of requests that bring data and are refused unread, once an hour of each client.

    What was read and rejected is told as such.
    """

    def __init__(self) -> None:
        self._hourly = Hourly()

    def tell(self, error: HeliographError, address: str, template: str) -> None:
        """Take note of a request that was refused."""
        code = error.code
        if STATUS[code] not in UNREAD or code is ErrorCode.DEVICE_INACTIVE:
            return
        network = network_of(address)
        untold = self._hourly.due((network, code), network, now())
        if untold is not None:
            more = {"not_logged_before": untold} if untold else {}
            log.warning(
                "request with data refused",
                address=address,
                route=template,
                reason=code.value,
                detail=error.detail,
                **more,
            )
        if self._hourly.has_left_out():
            log.warning("refused requests of further clients not logged within this hour")


class IngestRoute(abc.ABC):
    """A route that takes data; `receiving` and `refusals` are shared by all of them."""

    template: str
    limit: int

    def __init__(
        self, access: Access, http_ingest: HttpIngest, receiving: Receiving, refusals: Refusals
    ) -> None:
        self.access = access
        self.http_ingest = http_ingest
        self._receiving = receiving
        self._refusals = refusals

    @abc.abstractmethod
    async def take(self, call: Call) -> Answer:
        """Have the payload stored and return the answer.

        Raises:
            Rejected: the payload can't be accepted.
            HeliographError: DEVICE_NOT_FOUND and the like; as `HttpIngest.post`.
        """

    async def answer(self, scope: Scope, receive: Receive) -> Answer:
        """Return the answer to the request, after the commit.

        Raises:
            HeliographError: it is refused.
            ClientGoneError: there is nobody to answer any more.
        """
        headers, access = dict(scope["headers"]), self.access
        identifier: str = scope["path_params"].get("identifier", "")
        source = f"POST {self.template}".replace(_IDENTIFIER, identifier[:LONGEST_SHOWN])
        held: HeldBytes | None = None
        try:
            generation = access.registry.generation
            principal = await access.sender(scope)
            access.limits.ingest.take(bearer(principal, scope), scope)
            media_type = headers.get(b"content-type", JSON)
            if media_type != JSON and not is_json(media_type):
                raise unsupported_media_type()
            connection: ClientConnection | None = scope.get(CONNECTION)
            payload = connection.body() if connection is not None else None
            encoding = headers.get(b"content-encoding")
            if payload is None or encoding is not None or len(payload) > UNCOUNTED:
                held = HeldBytes(self._receiving)
                declared = headers.get(b"content-length")
                try:
                    payload = await read_body(receive, self.limit, declared, held)
                    if encoding is not None:
                        payload = await decompress(payload, encoding, self.limit, held)
                except BodyTooLargeError as error:
                    fault = Fault(None, RejectionReason.TOO_LARGE, error.detail)
                    await self.http_ingest.reject(error.beginning, fault, principal, source)
                    raise
            if generation != access.registry.generation or principal.until is not None:
                # The body may have taken a minute to come.
                principal = await access.sender(scope)
            key = headers.get(b"idempotency-key")
            named = _idempotency_key(key) if key else None
            # Decoding 500 readings takes 1.4 ms, and so would each repeat of them.
            self.http_ingest.check_room()
            try:
                return await self.take(Call(principal, payload, named, source, identifier))
            except Rejected as rejected:
                await self.http_ingest.reject(payload, rejected.fault, principal, source)
                return rejection(rejected.fault)
            except SenderRefusedError as refused:
                await self.http_ingest.reject(
                    payload, refused.fault, principal, source, refused.sensor
                )
                raise
        except HeliographError as error:
            self._refusals.tell(error, client_address(scope), self.template)
            raise
        finally:
            if held is not None:
                held.release()

    async def sensor(
        self,
        principal: Principal,
        identifier: str | None,
        code: ErrorCode = ErrorCode.DEVICE_NOT_FOUND,
    ) -> KnownSensor:
        """Return the sensor as which the caller sends.

        Without an identifier that is the device that calls, or a shared key's own. One that is
        unknown is registered with AUTO_PROVISION.

        Raises:
            HeliographError: there is none (`code`), the caller may only read it (FORBIDDEN), or
                it is deactivated.
        """
        registry, grants = self.access.registry, self.access.registry.grants
        if identifier is None:
            if principal.sensor is not None:
                found = await registry.find_number(principal.sensor)
            else:
                found = await registry.own_device(principal)
            if found is None:
                detail = "device_id is missing: this key does not say which device sends"
                reason = RejectionReason.MISSING_MEMBER
                raise SenderRefusedError(ErrorCode.DEVICE_ID_MISSING, reason, detail)
        else:
            found = await registry.find(identifier)
            if found is None and may(principal, Action.PROVISION, identifier, grants):
                found = await registry.provision(identifier)
            elif found is not None and not may_send(principal, found, grants):
                if may_read(principal, found, grants):
                    raise forbidden()
                found = None
            if found is None:
                raise SenderRefusedError(code, RejectionReason.UNKNOWN_SENSOR, NOT_FOUND[code])
        if not found.is_active:
            detail, reason = "The device is deactivated", RejectionReason.DEACTIVATED_SENSOR
            raise SenderRefusedError(ErrorCode.DEVICE_INACTIVE, reason, detail, found)
        return found


class IngestReading(IngestRoute):
    """`POST /ingest`: one reading of one device."""

    template = f"{PREFIX}/ingest"
    limit = SINGLE_LIMIT

    async def take(self, call: Call) -> Answer:
        """Store the reading; answer with its id, device and time."""
        principal, payload, key, source, _ = call
        reading = decode_reading(payload, self.http_ingest.clock.now())
        sensor = await self.sensor(principal, reading.device_id)
        outcome = await self.http_ingest.post_readings(
            [(0, sensor, reading)], [], payload, principal, source, key
        )
        if not outcome.accepted:
            return rejection(outcome.faults[0])
        stored = outcome.accepted[0]
        shown = StoredReading(
            str(stored.id),
            sensor.device_id or sensor.identifier,
            to_rfc3339(stored.timestamp),
            len(outcome.retimed),
        )
        return Answer(201, encode(shown))


class IngestBatch(IngestRoute):
    """`POST /ingest/batch`: readings, log messages and heartbeats of one device, or of many."""

    template = f"{PREFIX}/ingest/batch"
    limit = BATCH_LIMIT

    async def take(self, call: Call) -> Answer:
        """Store the elements, kind by kind; answer what became of them."""
        principal, payload, key, source, _ = call
        resolved: dict[str | None, KnownSensor | Fault | None] = {}
        batch: list[tuple[BatchPart, list[tuple[int, KnownSensor, Reading]]]] = []
        for part in decode_batch(payload, self.http_ingest.clock.now()):
            readings: list[tuple[int, KnownSensor, Reading]] = []
            for index, reading in part.readings:
                name = reading.device_id
                sensor = resolved.get(name)
                if sensor is None:
                    sensor = resolved[name] = self._known_sensor(principal, name)
                if sensor is None:
                    try:
                        sensor = await self.sensor(principal, name)
                    except SenderRefusedError as refused:
                        sensor = refused.fault
                    resolved[name] = sensor
                if isinstance(sensor, Fault):
                    part.faults.append(Fault(index, sensor.reason, sensor.detail))
                else:
                    readings.append((index, sensor, reading))
            part.readings.clear()
            part.faults.sort(key=lambda fault: fault.index or 0)
            batch.append((part, readings))
        outcomes: dict[str, Outcome] = {}
        for (name, kind, _, faults), readings in batch:
            if readings or faults:
                # Each kind has a message of its own, and its own answer under an Idempotency-Key.
                array = "" if name == READINGS else name
                outcomes[array] = await self.http_ingest.post_readings(
                    readings, faults, payload, principal, f"{source} {array}".rstrip(), key, kind
                )
        return outcome_answer(outcomes)

    def _known_sensor(self, principal: Principal, identifier: str | None) -> KnownSensor | None:
        """Return what `sensor` does if that needs no waiting, as for most of a thousand names."""
        registry = self.access.registry
        found = None if identifier is None else registry.cached(identifier)
        if found is None or not found.is_active:
            return None
        return found if may_send(principal, found, registry.grants) else None


class SensorIngest(IngestRoute):
    """`POST /sensors/{id}/measurements|logs|heartbeats`: MQTT's payloads over HTTP."""

    limit = SINGLE_LIMIT

    def __init__(
        self,
        kind: Kind,
        name: str,
        access: Access,
        http_ingest: HttpIngest,
        receiving: Receiving,
        refusals: Refusals,
    ) -> None:
        super().__init__(access, http_ingest, receiving, refusals)
        self.kind = kind
        self.template = f"{PREFIX}/sensors/{_IDENTIFIER}/{name}"

    async def take(self, call: Call) -> Answer:
        """Store the elements; answer what became of them."""
        principal, payload, key, source, identifier = call
        sensor = await self.sensor(principal, identifier, ErrorCode.SENSOR_NOT_FOUND)
        outcome = await self.http_ingest.post(self.kind, sensor, payload, principal, source, key)
        whole = next((fault for fault in outcome.faults if fault.index is None), None)
        if whole is not None and not outcome.accepted:
            return rejection(whole)
        return outcome_answer({"": outcome})


def ingest_routes(services: Services) -> list[IngestRoute]:
    """Return all routes that take data."""
    shared = (services.access, services.http_ingest, Receiving(), Refusals())
    return [
        IngestReading(*shared),
        IngestBatch(*shared),
        SensorIngest(Kind.MEASUREMENT, "measurements", *shared),
        SensorIngest(Kind.LOG, "logs", *shared),
        SensorIngest(Kind.HEARTBEAT, "heartbeats", *shared),
    ]


def _idempotency_key(value: bytes) -> str:
    if len(value) > LONGEST_IDEMPOTENCY_KEY:
        raise HeliographError(
            ErrorCode.VALIDATION_FAILED,
            f"Idempotency-Key may have {LONGEST_IDEMPOTENCY_KEY} bytes at most",
        )
    return value.decode("latin-1")


def outcome_answer(outcomes: dict[str, Outcome]) -> Answer:
    """Return how many elements of a batch's arrays were stored, repeated and rejected."""
    accepted = duplicates = retimed = 0
    rejected: list[RejectedElement] = []
    for array, outcome in outcomes.items():
        repeats = sum(stored.duplicate for stored in outcome.accepted)
        accepted += len(outcome.accepted) - repeats
        duplicates += repeats
        retimed += len(outcome.retimed)
        rejected += [
            RejectedElement(fault.index or 0, fault.reason.value, fault.detail, array)
            for fault in outcome.faults
        ]
    return Answer(201, encode(StoredBatch(accepted, duplicates, retimed, rejected)))
