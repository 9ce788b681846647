"""Heartbeats: signs of life, and answers to a configuration's revision; and the status."""

from typing import Any

from heliograph.errors import RejectionReason
from heliograph.ingest.elements import Addressee, Collector, check_element, read_frame
from heliograph.ingest.json_checks import Rejected, quoted
from heliograph.ingest.outcome import Decoded
from heliograph.model.canonical import canonical, fingerprint
from heliograph.model.records import Kind

_MEMBERS = frozenset({"revision", "timestamp", "success", "id"})
# An entry of GET /sensors/{id}/heartbeats has both, and so has a live event: no new heartbeat.
_ANSWERED = frozenset({"creation_timestamp", "flagged"})
_STATUSES = frozenset({"online", "offline"})


def decode_heartbeats(
    payload: bytes,
    sensor: int,
    first_id: int,
    now: int,
    untimed_from: int,
    _addressee: Addressee | None = None,
) -> Decoded:
    """Return the rows of a heartbeat message, and what is wrong with the rest.

    The arguments are those of `decode_measurements`. No member is required, and so an empty
    payload is a sign of life like `{}`. Members that no column has become the details.
    """
    collector = Collector(sensor, first_id, now, untimed_from)
    return collector.collect(payload or b"{}", "heartbeats", _collect)


def decode_status(payload: bytes) -> str:
    """Return `online` or `offline`, whatever their case and the white space around them.

    Raises:
        Rejected: neither of them.
    """
    status = payload[:100].strip().lower().decode("ascii", "replace")
    if status not in _STATUSES or len(payload) > 100:
        raise Rejected(
            RejectionReason.INVALID_STATUS, f"status {quoted(status)} is not online or offline"
        )
    return status


def _collect(collector: Collector, index: int, element: Any, *, sound: bool) -> None:
    # The details are an object made of the element's members: their first level is its own.
    check_element(element, None, levels=0, sound=sound)
    if element.keys() >= _ANSWERED:
        raise Rejected(
            RejectionReason.UNKNOWN_MEMBER,
            "`creation_timestamp` and `flagged` are of an answer, which is no heartbeat",
        )
    frame = read_frame(element, collector.now)
    success = element.get("success")
    if success is not None and not isinstance(success, bool):
        raise Rejected(RejectionReason.WRONG_TYPE, "success is neither true, false nor null")
    others = {name: member for name, member in element.items() if name not in _MEMBERS}
    details = canonical(others).decode() if others else None
    number = fingerprint(
        Kind.HEARTBEAT, frame.revision, success, details, element_id=frame.identity
    )
    collector.add(index, frame, number, (success, details))
