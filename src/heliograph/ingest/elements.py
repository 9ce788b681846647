"""What the elements of all telemetry messages have in common: time, revision and id."""

from typing import Any, NamedTuple, Protocol

from heliograph.errors import RejectionReason
from heliograph.ingest.json_checks import Rejected, find_flaw, quoted, read_elements
from heliograph.ingest.outcome import Decoded, Fault
from heliograph.model.identifiers import INGEST_ID_STEP
from heliograph.model.time import (
    DAY,
    EARLIEST,
    LATEST,
    OLDEST,
    SECOND,
    counts_from_boot,
    from_epoch_seconds,
    from_rfc3339,
)

MAXIMUM_REVISION = (1 << 31) - 1
MAXIMUM_IDENTITY = 64

_EARLIEST_SECONDS = EARLIEST // SECOND
_END_SECONDS = (LATEST + 1) // SECOND


class ElementFrame(NamedTuple):
    """When an element was made, under which revision, and what it is called.

    `timestamp` is None without a device time; `device_timestamp` is what a device without a
    clock gave in its place, in seconds.
    """

    timestamp: int | None
    device_timestamp: float | None
    revision: int | None
    identity: str | None


def read_frame(element: dict[str, Any], now: int) -> ElementFrame:
    """Return what `timestamp`, `revision` and `id` of an element say.

    Raises:
        Rejected: one of them is not what it has to be.
    """
    timestamp, device_timestamp = read_timestamp(element.get("timestamp"), now)
    return ElementFrame(
        timestamp,
        device_timestamp,
        read_revision(element.get("revision")),
        read_identity(element.get("id")),
    )


def read_timestamp(timestamp: Any, now: int) -> tuple[int | None, float | None]:
    """Return microseconds, or None and the seconds given if a clock has counted them from boot.

    Those are a number before 2001-09-09, and a text in 1970. Any other text says a date.

    Raises:
        Rejected: not a time, before 1650, or more than a day ahead of `now`.
    """
    if timestamp is None:
        return None, None
    kind = timestamp.__class__
    if kind is int or kind is float:
        if timestamp < _EARLIEST_SECONDS:
            return None, float(timestamp)
        moment = from_epoch_seconds(timestamp) if timestamp < _END_SECONDS else LATEST
    elif kind is str:
        try:
            moment = from_rfc3339(timestamp)
        except ValueError as error:
            raise Rejected(
                RejectionReason.INVALID_TIMESTAMP,
                f"timestamp {quoted(timestamp)} is neither epoch seconds nor RFC 3339",
            ) from error
        if moment < EARLIEST:
            if counts_from_boot(timestamp, moment):
                return None, moment / 1e6
            if moment < OLDEST:
                raise Rejected(
                    RejectionReason.INVALID_TIMESTAMP,
                    f"timestamp {quoted(timestamp)} is before 1650: was the clock ever set?",
                )
    else:
        raise Rejected(
            RejectionReason.WRONG_TYPE,
            "timestamp is neither a number of epoch seconds nor an RFC 3339 text",
        )
    if moment > now + DAY:
        raise Rejected(
            RejectionReason.TIMESTAMP_IN_FUTURE,
            f"timestamp {quoted(str(timestamp))} is more than a day ahead (is it in seconds?)",
        )
    return moment, None


def read_revision(revision: Any) -> int | None:
    """Return the revision of the configuration that the device had.

    Raises:
        Rejected: neither a non-negative 32-bit integer nor null.
    """
    if revision is None:
        return None
    if revision.__class__ is not int:
        raise Rejected(RejectionReason.WRONG_TYPE, "revision is not an integer")
    if not 0 <= revision <= MAXIMUM_REVISION:
        raise Rejected(
            RejectionReason.NUMBER_OUT_OF_RANGE,
            f"revision {revision} is not between 0 and {MAXIMUM_REVISION}",
        )
    return int(revision)


def read_identity(identity: Any) -> str | None:
    """Return the element's own id.

    Raises:
        Rejected: neither a text of 1 to 64 characters nor null.
    """
    if identity is None:
        return None
    if identity.__class__ is not str or not 0 < len(identity) <= MAXIMUM_IDENTITY:
        raise Rejected(
            RejectionReason.WRONG_TYPE, f"id is not a text of 1 to {MAXIMUM_IDENTITY} characters"
        )
    return str(identity)


def check_element(
    element: Any, allowed: frozenset[str] | None, *, levels: int, sound: bool
) -> None:
    """Check that an element is an object of allowed members that can be stored.

    `allowed` is None where any member is; `levels` are those of arrays and objects around
    the element that count as nesting (-1: the element itself is none); `sound` says that
    the text is known to be flawless.

    Raises:
        Rejected: it is not.
    """
    if not sound and (flaw := find_flaw(element, "", levels)):
        raise flaw
    if not isinstance(element, dict):
        raise Rejected(RejectionReason.WRONG_TYPE, "the element is not an object")
    if allowed is None or element.keys() <= allowed:
        return
    for name in element:
        if name not in allowed:
            raise Rejected(RejectionReason.UNKNOWN_MEMBER, f"unknown member {quoted(name)}")


class Addressee(Protocol):
    """The sensor that a topic or a path names."""

    @property
    def identifier(self) -> str:
        """Its UUID, in small letters."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that it goes by."""
        ...


class Collector:
    """Makes rows out of a message's good elements, and faults out of its bad ones."""

    __slots__ = (
        "_first_id", "_sensor", "_untimed", "addressee", "attributes", "faults", "identities",
        "indexes", "now", "rows",
    )  # fmt: skip

    def __init__(
        self,
        sensor: int,
        first_id: int,
        now: int,
        untimed_from: int,
        addressee: "Addressee | None" = None,
    ) -> None:
        self.now = now
        self.addressee = addressee
        self.rows: list[tuple[Any, ...]] = []
        self.faults: list[Fault] = []
        self.identities: list[tuple[int, str]] = []
        self.indexes: list[int] = []
        self.attributes: list[Any] = []
        self._sensor = sensor
        self._first_id = first_id
        self._untimed = (untimed_from, 0)

    def collect(self, payload: bytes, member: str, collect: "Collect") -> Decoded:
        """Return what becomes of a message, each of whose elements goes through `collect`."""
        try:
            elements, sound = read_elements(payload, member)
        except Rejected as error:
            return Decoded(
                [], [error.fault], untimed=False, identities=[], indexes=None, attributes=[]
            )
        for index, element in enumerate(elements):
            try:
                collect(self, index, element, sound=sound)
            except Rejected as error:
                self.faults.append(Fault(index, error.fault.reason, error.fault.detail))
        return self._decoded()

    def add(
        self, index: int, frame: ElementFrame, fingerprint: int, columns: tuple[Any, ...]
    ) -> None:
        """Add the row of the element at `index`; `columns` are those after the common ones."""
        position = len(self.rows)
        timestamp = frame.timestamp
        if timestamp is None:
            first, count = self._untimed
            timestamp = first + count
            self._untimed = (first, count + 1)
        if frame.identity is not None:
            self.identities.append((position, frame.identity))
            columns = (*columns, frame.identity)
        self.indexes.append(index)
        self.rows.append(
            (
                self._first_id + position * INGEST_ID_STEP,
                self._sensor,
                timestamp,
                fingerprint,
                self.now,
                frame.revision,
                frame.device_timestamp,
                *columns,
            )
        )

    def _decoded(self) -> Decoded:
        return Decoded(
            self.rows,
            self.faults,
            self._untimed[1] > 0,
            self.identities,
            self.indexes if self.faults else None,
            self.attributes,
        )


class Collect(Protocol):
    """Adds the row of an element to the collector."""

    def __call__(self, collector: Collector, index: int, element: Any, *, sound: bool) -> None:
        """Add it.

        Raises:
            Rejected: the element is bad.
        """
        ...
