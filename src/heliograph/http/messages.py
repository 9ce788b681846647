"""Everything received, as one list; and what was rejected, to be read and submitted again."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Depends, Query
from pydantic import Field
from starlette.responses import Response

from heliograph.access.policy import Action, networks_of
from heliograph.errors import ErrorCode, HeliographError, RejectionReason
from heliograph.http.access import forbidden, not_found
from heliograph.http.answers import Answer, encode
from heliograph.http.errors import validation_error
from heliograph.http.ingest import RejectedElement
from heliograph.http.members import Body
from heliograph.http.records import Representation
from heliograph.http.resources import KnownCall, Resource, TheCall, found
from heliograph.http.resubmission import Resubmission, Resubmitted
from heliograph.http.schemas import PageLimit, Text, Time
from heliograph.model.identifiers import GREATEST_INGEST_ID, first_ingest_id
from heliograph.model.records import Kind, RejectedMessage
from heliograph.model.time import DAY, SECOND, now, to_rfc3339
from heliograph.mqtt.topics import TopicKind
from heliograph.store.messages import KINDS, ReceivedMessage, WantedMessages

TOPICS = {
    Kind.MEASUREMENT: TopicKind.MEASUREMENTS,
    Kind.LOG: TopicKind.LOGS,
    Kind.HEARTBEAT: TopicKind.HEARTBEATS,
}
MessageKind = Literal["measurement", "log", "heartbeat", "packet", "rejected"]
# How long messages are submitted again in one request; the answer says where to go on.
RESUBMITTING_SECONDS = 10
_READ_AT_ONCE = 100
_LONGEST_ID = 19
_TIME = "epoch seconds, or RFC 3339"


class MessageRepresentation(Representation):
    """A message as it was received."""

    id: Annotated[str, "What the server calls it: ids rise with the time of receipt"]
    kind: Annotated[str, "`measurement`, `log`, `heartbeat`, `packet` or `rejected`"]
    topic: Annotated[
        str | None, "The topic of its kind and sensor, or the topic or route that it came by"
    ]
    payload: Annotated[
        msgspec.Raw,
        "What it says: a measurement's value, the members of a log message or a heartbeat, a"
        " packet; of a rejected one the text as it was sent, of which 64 KiB are kept",
    ]
    timestamp: Annotated[str, "When it was made, as its device says (RFC 3339, UTC)"]
    receipt_timestamp: Annotated[str, "When it was received (RFC 3339, UTC)"]
    sensor_identifier: Annotated[str | None, "Its sensor's UUID; null: no sensor is known"]
    processed: Annotated[bool, "Whether no rule and no action has anything to do with it any more"]
    reason: Annotated[str | None, "Why it was rejected, for programs; null: it was not"]
    detail: Annotated[str | None, "Why it was rejected, for people"]
    sender: Annotated[str | None, "Who has sent what was rejected, like `device:pump`"]
    size: Annotated[int | None, "Bytes of what was rejected, of which 64 KiB are kept"]


class MessagesRepresentation(Representation):
    """The newest messages that are like this."""

    messages: Annotated[list[MessageRepresentation], "Newest first"]
    total_count: Annotated[int, "How many there are, from the cursor on: exact up to 10,000"]
    total_is_lower_bound: Annotated[bool, "Whether there may be more than `total_count`"]
    cursor: Annotated[str | None, "Older ones begin here: the next `cursor`; null: there are none"]


class ResubmittedMessage(Representation):
    """What became of a message that was submitted again."""

    id: Annotated[str, "What the server calls the rejected message"]
    stored: Annotated[bool, "Whether all of it is stored, and it has left the list"]
    accepted: Annotated[int, "Number of elements stored now"]
    duplicates: Annotated[int, "Number of elements that were stored before"]
    rejected: Annotated[list[RejectedElement], "What is wrong with it still"]


class ResubmittedMessages(Representation):
    """What became of messages that were submitted again."""

    stored: Annotated[int, "Number of messages that have left the list"]
    kept: Annotated[list[ResubmittedMessage], "Those that can't be stored, and why"]
    cursor: Annotated[str | None, "Where to go on, as `cursor`; null: there are no more"]


class ResubmitMessages(Body):
    """Which rejected messages are submitted again; what is absent does not narrow it."""

    reason: RejectionReason | None = Field(None, description="Those rejected for this")
    sensor: Text | None = Field(None, description="Those of this sensor: UUID or `device_id`")
    topic: Text | None = Field(None, description="Those that came by this topic or route")
    start_time: Time | None = Field(None, description=f"Those received from then on: {_TIME}")
    end_time: Time | None = Field(None, description=f"Those received before: {_TIME}")
    limit: int = Field(1_000, ge=1, le=1_000, strict=True, description="How many at most")
    cursor: Text | None = Field(None, description="As the last answer gave it")


def _cursor(text: str | None, location: tuple[str, str]) -> int | None:
    if text is None:
        return None
    if len(text) > _LONGEST_ID or not (text.isascii() and text.isdecimal()):
        raise validation_error(location, "value_error", "is no cursor of an answer")
    return min(int(text), GREATEST_INGEST_ID)


def _check_order(start: int | None, end: int | None, where: str) -> None:
    if start is not None and end is not None and start > end:
        raise validation_error((where, "start_time"), "range", "start_time is after end_time")


@dataclasses.dataclass
class MessagesRequest:
    """The parameters of the list, as FastAPI collects them."""

    limit: PageLimit = 100
    start_time: Annotated[
        Time | None,
        Query(description=f"Received from this time on ({_TIME}); by default in the last 24 hours"),
    ] = None
    end_time: Annotated[Time | None, Query(description=f"Received before this time ({_TIME})")] = (
        None
    )
    key: Annotated[
        Text | None, Query(min_length=1, description="Whose payload has this: a dotted path")
    ] = None
    value: Annotated[
        Text | None, Query(description="What stands there: a JSON value, or its text")
    ] = None
    kind: Annotated[list[MessageKind] | None, Query(description="Only these; repeatable")] = None
    sensor: Annotated[Text | None, Query(description="Only this sensor's: UUID or `device_id`")] = (
        None
    )
    processed: Annotated[bool | None, Query(description="Only what is, or is not")] = None
    reason: Annotated[RejectionReason | None, Query(description="Only rejected for this")] = None
    cursor: Annotated[
        Text | None, Query(description="As an answer gave it: older messages than that")
    ] = None

    def __post_init__(self) -> None:
        _check_order(self.start_time, self.end_time, "query")
        if self.value is not None and self.key is None:
            raise validation_error(("query", "value"), "value_error", "goes with key")
        self.before = _cursor(self.cursor, ("query", "cursor"))


router = Resource("messages", "/messages")


@router.route("", "GET", faults=[400, 404], direct=True)
async def read_messages(
    asked: Annotated[MessagesRequest, Depends()], call: TheCall
) -> MessagesRepresentation:
    """Read what was received, newest first: of the caller's networks, or of all.

    A packet and its measurement are one message. What is of no sensor that is known is the
    administrator's to see. Where few messages are like what is asked for, an answer looks at
    100,000 of them, or for a twentieth of a second, and has a `cursor` to go on from.
    """
    networks, sensor = await _visible(call, asked.sensor)
    start = asked.start_time
    if start is None:
        start = (asked.end_time or now()) - DAY
    page = await call.store.messages.page(
        WantedMessages(
            start,
            asked.end_time,
            KINDS if asked.kind is None else [Kind(kind) for kind in asked.kind],
            networks,
            sensor,
            asked.processed,
            asked.reason,
            asked.key,
            asked.value,
            asked.before,
            asked.limit,
        ),
        hold=call.held.hold,
    )
    return MessagesRepresentation(
        await _shown(call, page.messages),
        page.total,
        page.is_lower_bound,
        None if page.cursor is None else str(page.cursor),
    )


@router.route("/{message_id}", "GET", shown=MessageRepresentation)
async def read_message(message_id: str, call: TheCall) -> Any:
    """Read a message."""
    message = await _message(call, message_id)
    shown = await _shown(call, [message])
    return Answer(200, encode(found(shown[0] if shown else None, _NOT_FOUND)))


@router.route("/{message_id}/payload", "GET", shown=bytes)
async def read_message_payload(message_id: str, call: TheCall) -> Any:
    """Download what a message says: of a rejected one the bytes that were sent, up to 64 KiB."""
    message = await _message(call, message_id)
    payload = message.payload
    if message.kind is Kind.REJECTED:
        rejected = found(await call.store.messages.rejected(message.id), _NOT_FOUND)
        payload = bytes(rejected.payload)
    name = f'attachment; filename="heliograph-message-{message.id}"'
    headers = {"Content-Disposition": name}
    return Response(payload, media_type="application/octet-stream", headers=headers)


@router.route("/{message_id}/resubmit", "POST", status=200, faults=(409,))
async def resubmit_message(message_id: str, call: TheCall) -> ResubmittedMessage:
    """Submit a rejected message again as its sender's, once what was wrong is mended.

    What is stored by now leaves the list; however often it is submitted, nothing is stored twice.
    Its sender has to be allowed to send it, and the caller to edit its sensor's network.
    """
    message = await _rejected(call, message_id)
    return _resubmitted(await Resubmission(call.services, call, call.actor).submit(message))


@router.route("/resubmit", "POST", status=200, faults=[404])
async def resubmit_messages(wanted: ResubmitMessages, call: TheCall) -> ResubmittedMessages:
    """Submit rejected messages again, the oldest first: those that are like this.

    An answer deals with as many as `limit`, for ten seconds at most; go on from its `cursor`.
    """
    _check_order(wanted.start_time, wanted.end_time, "body")
    networks, sensor = await _visible(call, wanted.sensor, Action.EDIT)
    after = _cursor(wanted.cursor, ("body", "cursor"))
    if after is None:
        after = 0 if wanted.start_time is None else first_ingest_id(wanted.start_time)
    end = now() + SECOND if wanted.end_time is None else wanted.end_time
    until, deadline = first_ingest_id(end), now() + RESUBMITTING_SECONDS * SECOND
    resubmission = Resubmission(call.services, call, call.actor)
    stored, kept, left = 0, list[ResubmittedMessage](), wanted.limit
    while left:
        messages = await call.store.messages.rejected_since(
            after,
            until,
            sensor=sensor,
            networks=networks,
            source=wanted.topic,
            reason=wanted.reason,
            limit=min(left, _READ_AT_ONCE),
        )
        for message in messages:
            if now() > deadline:
                return ResubmittedMessages(stored, kept, str(after))
            after, left = message.id + 1, left - 1
            result = await _tried(resubmission, message)
            stored += result.stored
            if not result.stored:
                kept.append(result)
        if len(messages) < _READ_AT_ONCE and left:
            return ResubmittedMessages(stored, kept, None)
    return ResubmittedMessages(stored, kept, str(after))


async def _tried(resubmission: Resubmission, message: RejectedMessage) -> ResubmittedMessage:
    try:
        return _resubmitted(await resubmission.submit(message))
    except HeliographError as error:
        if error.code is not ErrorCode.MESSAGE_NOT_RESUBMITTABLE:
            raise
        element = RejectedElement(0, message.reason, error.detail)
        return ResubmittedMessage(str(message.id), False, 0, 0, [element])


def _resubmitted(result: Resubmitted) -> ResubmittedMessage:
    faults = [
        RejectedElement(fault.index or 0, fault.reason.value, fault.detail)
        for fault in result.faults
    ]
    counts = result.accepted, result.duplicates
    return ResubmittedMessage(str(result.message.id), not faults, *counts, faults)


_NOT_FOUND = ErrorCode.MESSAGE_NOT_FOUND


async def _visible(
    call: KnownCall, identifier: str | None, action: Action = Action.READ_READINGS
) -> tuple[Sequence[str] | None, int | None]:
    """Return the networks and the sensor whose messages are shown; None: those of all.

    Raises:
        HeliographError: SENSOR_NOT_FOUND; FORBIDDEN.
    """
    caller = call.caller
    if identifier is not None:
        sensor = await call.registry.find(identifier)
        if sensor is None or not call.may(Action.READ_READINGS, sensor):
            raise not_found(ErrorCode.SENSOR_NOT_FOUND)
        if action is Action.EDIT:
            call.require(action, sensor.network_identifier)
        return None, sensor.number
    networks: Sequence[str] | None = networks_of(caller, action, call.grants)
    if networks == [] and action is Action.READ_READINGS and caller.sensor is not None:
        return None, caller.sensor
    if networks == [] and caller.account is None:
        raise forbidden()
    if networks is None and not caller.is_admin:
        # Whoever sees every network still does not see what is in none.
        networks = await call.store.networks.identifiers()
    return networks, None


async def _message(call: KnownCall, identifier: str) -> ReceivedMessage:
    networks, sensor = await _visible(call, None)
    number = _number(identifier)
    messages = call.store.messages
    message = await messages.find(number, networks=networks, sensor=sensor)
    if message is None and call.caller.sensor is not None:
        # A device's own is there for it whatever everybody sees.
        message = await messages.find(number, networks=None, sensor=call.caller.sensor)
    return found(message, _NOT_FOUND)


async def _rejected(call: KnownCall, identifier: str) -> RejectedMessage:
    message = await _message(call, identifier)
    networks, _ = await _visible(call, None, Action.EDIT)
    rejected = found(await call.store.messages.rejected(message.id), _NOT_FOUND)
    if networks is not None:
        sensor = await call.registry.find_number(rejected.sensor or 0)
        call.require(Action.EDIT, sensor and sensor.network_identifier)
    return rejected


def _number(identifier: str) -> int:
    if len(identifier) > _LONGEST_ID or not (identifier.isascii() and identifier.isdecimal()):
        raise not_found(_NOT_FOUND)
    number = int(identifier)
    if number >= (1 << 63) - 1:
        raise not_found(_NOT_FOUND)
    return number


async def _shown(
    call: KnownCall, messages: Sequence[ReceivedMessage]
) -> list[MessageRepresentation]:
    numbers = {message.sensor for message in messages if message.sensor is not None}
    names = await call.store.messages.names_of_sensors(numbers)
    return [
        _representation(message, names)
        for message in messages
        # What is still there of a sensor that was erased is of none that is known.
        if call.caller.is_admin or message.sensor in names
    ]


def _representation(
    message: ReceivedMessage, names: dict[int, tuple[str, str | None]]
) -> MessageRepresentation:
    identifier = device_id = None
    if message.sensor is not None:
        identifier, device_id = names.get(message.sensor, (None, None))
    topic = message.source
    if topic is None and identifier is not None:
        topic = f"{TOPICS[message.kind].value}/{device_id or identifier}"
    return MessageRepresentation(
        str(message.id),
        message.kind.value,
        topic,
        msgspec.Raw(message.payload),
        to_rfc3339(message.timestamp),
        to_rfc3339(message.receipt_timestamp),
        identifier,
        message.processed,
        message.reason,
        message.detail,
        message.principal,
        message.size,
    )
