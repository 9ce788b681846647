"""Committed events as they are sent: each encoded once, however many watch."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import msgspec

from heliograph.live import sse
from heliograph.model.event import Committed
from heliograph.model.records import Kind
from heliograph.model.time import to_epoch_seconds, to_rfc3339

encode = msgspec.json.Encoder().encode
_Raw = msgspec.Raw


@dataclasses.dataclass(slots=True, eq=False)
class Frame:
    """One event, of one sensor. `id` is its ingest id; None: it has none and can't be resumed.

    `beside` are the ids of other servers up to which everything was published before it.
    """

    kind: str
    sensor: int
    network: str
    id: int | None
    data: bytes
    device_id: str
    row: tuple[Any, ...] | None = None
    beside: bytes = b""
    _sse: bytes | None = None
    _message: bytes | None = None

    @property
    def sse(self) -> bytes:
        """The event as Server-Sent Events have it."""
        if self._sse is None:
            self._sse = sse.event(self.kind, self.data, self.id, self.beside)
        return self._sse

    @property
    def reading(self) -> bytes:
        """A measurement as a message on a WebSocket: JSON text."""
        if self._message is None and self.row is not None:
            value = self.row[7].encode()
            metrics = value if value[:1] == b"{" else b'{"value":%b}' % value
            name = encode(self.device_id)
            self._message = (
                b'{"type":"reading","device_id":%b,"data":{"id":"%d","device_id":%b,'
                b'"timestamp":"%b","revision":%b,"metrics":%b}}'
                % (
                    name,
                    self.row[0],
                    name,
                    to_rfc3339(self.row[2]).encode(),
                    encode(self.row[5]),
                    metrics,
                )
            )
        return self._message or b""


def frames_of(events: Sequence[Committed]) -> list[Frame]:
    """Return the events' rows as frames, in their order; what has no row is left out."""
    frames: list[Frame] = []
    for event in events:
        make = _MADE.get(event.kind)
        if make is not None:
            frames += [make(event, row) for row in event.rows]
    return frames


def frame(
    kind: Kind,
    names: tuple[int, str, str | None, str],
    row: tuple[Any, ...],
) -> Frame:
    """Return a stored row as the frame that it was when it was committed.

    `names` are its sensor's number, UUID, `device_id` and network.
    """
    number, identifier, device_id, network = names
    event = Committed(kind, number, identifier, device_id, network, [row], None, None)
    return _MADE[kind](event, row)


def notice(kind: str, names: tuple[int, str, str | None, str], members: dict[str, Any]) -> Frame:
    """Return a frame of what is no telemetry, and has no ingest id."""
    number, identifier, device_id, network = names
    data = encode({"sensor_identifier": identifier, "device_id": device_id, **members})
    return Frame(kind, number, network, None, data, device_id or identifier)


def _measurement(event: Committed, row: tuple[Any, ...]) -> Frame:
    return _frame(event, row, b'"measurement":%b}' % row[7].encode())


def _log(event: Committed, row: tuple[Any, ...]) -> Frame:
    members = {"severity": row[7], "subject": row[8], "details": row[9]}
    return _frame(event, row, encode(members)[1:])


def _heartbeat(event: Committed, row: tuple[Any, ...]) -> Frame:
    members = {
        "receipt_timestamp": to_epoch_seconds(row[4]),
        "success": None if row[7] is None else bool(row[7]),
        "details": None if row[8] is None else _Raw(row[8].encode()),
        "flagged": bool(row[-1]),
    }
    return _frame(event, row, encode(members)[1:])


def _presence(event: Committed, row: tuple[Any, ...]) -> Frame:
    since, connected = row
    names = (event.number, event.identifier, event.device_id, event.network_identifier)
    timestamp = None if since is None else to_epoch_seconds(since)
    return notice(Kind.PRESENCE.value, names, {"connected": connected, "timestamp": timestamp})


_MADE = {
    Kind.MEASUREMENT: _measurement,
    Kind.LOG: _log,
    Kind.HEARTBEAT: _heartbeat,
    Kind.PRESENCE: _presence,
}


def _frame(event: Committed, row: tuple[Any, ...], members: bytes) -> Frame:
    """Return a row as a frame; `members` are those of its kind, as JSON without the first brace."""
    data = b'{"sensor_identifier":"%b","device_id":%b,"revision":%b,"creation_timestamp":%b,%b' % (
        event.identifier.encode(),
        encode(event.device_id),
        encode(row[5]),
        encode(to_epoch_seconds(row[2])),
        members,
    )
    name = event.device_id or event.identifier
    return Frame(event.kind.value, event.number, event.network_identifier, row[0], data, name, row)
