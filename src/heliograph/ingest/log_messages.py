"""Log messages."""

from typing import Any

from heliograph.errors import RejectionReason
from heliograph.ingest.elements import Addressee, Collector, check_element, read_frame
from heliograph.ingest.json_checks import Rejected, quoted
from heliograph.ingest.outcome import Decoded
from heliograph.model.canonical import fingerprint
from heliograph.model.records import Kind, Severity

_MEMBERS = frozenset({"severity", "revision", "timestamp", "subject", "details", "id"})
_MEMBERS_WITH_MESSAGE = _MEMBERS - {"subject"} | {"message"}
_SEVERITIES = frozenset(Severity)


def decode_logs(
    payload: bytes,
    sensor: int,
    first_id: int,
    now: int,
    untimed_from: int,
    _addressee: Addressee | None = None,
) -> Decoded:
    """Return the rows of a log message, and what is wrong with the rest.

    The arguments are those of `decode_measurements`.
    """
    collector = Collector(sensor, first_id, now, untimed_from)
    return collector.collect(payload, "log_messages", _collect)


def _collect(collector: Collector, index: int, element: Any, *, sound: bool) -> None:
    # `message` stands for `subject`, not beside it.
    aliased = isinstance(element, dict) and "message" in element and "subject" not in element
    allowed = _MEMBERS_WITH_MESSAGE if aliased else _MEMBERS
    check_element(element, allowed, levels=-1, sound=sound)
    frame = read_frame(element, collector.now)
    severity = _read_severity(element)
    subject = _read_subject(element, "message" if aliased else "subject")
    details = element.get("details")
    if details is not None and not isinstance(details, str):
        raise Rejected(RejectionReason.WRONG_TYPE, "details is neither a text nor null")
    number = fingerprint(
        Kind.LOG, frame.revision, severity, subject, details, element_id=frame.identity
    )
    collector.add(index, frame, number, (severity, subject, details))


def _read_severity(element: dict[str, Any]) -> str:
    severity = element.get("severity")
    if isinstance(severity, str):
        if severity in _SEVERITIES:
            return severity
        raise Rejected(
            RejectionReason.WRONG_TYPE,
            f"severity {quoted(severity)} is none of {', '.join(Severity)}",
        )
    if "severity" in element:
        raise Rejected(RejectionReason.WRONG_TYPE, "severity is not a text")
    raise Rejected(RejectionReason.MISSING_MEMBER, "severity is missing")


def _read_subject(element: dict[str, Any], name: str) -> str:
    subject = element.get(name)
    if isinstance(subject, str):
        return subject
    if name in element:
        raise Rejected(RejectionReason.WRONG_TYPE, f"{name} is not a text")
    raise Rejected(RejectionReason.MISSING_MEMBER, "subject is missing")
