"""Rejected messages: counted, told to whoever reads the log, and kept within a budget.

A device learns at best by a code that its message was rejected, and nobody looks at a device. A mad
one must neither fill the disk nor the log.
"""

import shlex
from collections.abc import Sequence
from typing import Any

import msgspec
import structlog

from heliograph.access.registry import KnownSensor
from heliograph.errors import RejectionReason
from heliograph.hourly import Hourly
from heliograph.ingest.batch import IngestIds, Message
from heliograph.ingest.clock import Clock
from heliograph.ingest.state import PipelineState
from heliograph.ingest.strict_json import Fault
from heliograph.model.principal import Principal
from heliograph.model.time import HOUR

log = structlog.get_logger()

MAXIMUM_SOURCES = 10_000
KEPT_BYTES = 64 << 10
NOT_STORABLE = "The database can't hold it"

# What a device sends for these reasons names another one, or none that there is: it is not its own.
_OF_ANOTHER = frozenset(
    {
        RejectionReason.UNKNOWN_SENSOR,
        RejectionReason.DEACTIVATED_SENSOR,
        RejectionReason.FORBIDDEN_TOPIC,
    }
)

_encode = msgspec.json.Encoder().encode


class RejectionBudget:
    """Admits rejected messages for storage: so many an hour of each source, so many bytes in all.

    What is not admitted is still counted and acknowledged; only its bytes are not kept.
    """

    def __init__(self, *, per_source_per_hour: int, maximum_bytes: int) -> None:
        self.kept_bytes = 0
        self.per_source_per_hour = per_source_per_hour
        self.maximum_bytes = maximum_bytes
        self._sources: dict[str, int] = {}
        self._hour = 0

    def admit(self, source: str, size: int, now: int) -> bool:
        """Return whether a message of `size` bytes may be kept, and count it if so."""
        hour = now // HOUR
        if hour != self._hour:
            self._hour = hour
            self._sources.clear()
        count = self._sources.get(source, 0)
        if count >= self.per_source_per_hour or self.kept_bytes + size > self.maximum_bytes:
            return False
        if not count and len(self._sources) >= MAXIMUM_SOURCES:
            return False
        self._sources[source] = count + 1
        self.kept_bytes += size
        return True


class RejectionReports:
    """Warns of rejected messages, once an hour of each source and reason."""

    def __init__(self) -> None:
        self._hourly = Hourly()

    def report(
        self,
        faults: Sequence[Fault],
        principal: Principal,
        source: str,
        sensor: KnownSensor | None,
        message_id: int | None,
        now: int,
    ) -> None:
        """Take note of a message that was rejected, whole or in part; None: it is not kept."""
        name = _name_of(principal, source, sensor)
        sender = "broker" if principal.kind == "broker" else principal.name
        firsts: dict[str, Fault] = {}
        for fault in faults:
            firsts.setdefault(fault.reason.value, fault)
        for reason, fault in firsts.items():
            not_logged = self._hourly.due((name, reason), sender, now)
            if not_logged is not None:
                self._warn(fault, principal, source, name, message_id, not_logged)
        if self._hourly.has_left_out():
            log.warning(
                "rejected messages of further sources not logged within this hour",
                see="heliograph rejected",
            )

    def _warn(
        self,
        fault: Fault,
        principal: Principal,
        source: str,
        name: str,
        message_id: int | None,
        not_logged: int,
    ) -> None:
        more: dict[str, int | str] = {}
        if message_id is not None:
            # As text, as the interface has it: JSON's numbers are too small for it.
            more["message_id"] = str(message_id)
        if fault.index is not None:
            more["element"] = fault.index
        if not_logged:
            more["not_logged_before"] = not_logged
        log.warning(
            "message rejected",
            source=source,
            sender=principal.name,
            reason=fault.reason.value,
            detail=fault.detail,
            **more,
            see=f"heliograph rejected --from {shlex.quote(name)}",
        )


def _name_of(principal: Principal, source: str, sensor: KnownSensor | None) -> str:
    """Return what a source goes by: its sensor, as far as one is known, or the topic or route."""
    if sensor is not None:
        return sensor.device_id or sensor.identifier
    if principal.kind in ("device", "broker") or principal.device is not None:
        return principal.name.partition(":")[2] or source
    return source


class Rejections:
    """Keeps rejected messages within a budget, and counts and tells of all of them in `state`."""

    def __init__(
        self, budget: RejectionBudget, clock: Clock, ids: IngestIds, state: PipelineState
    ) -> None:
        self.state = state
        self._budget = budget
        self._clock = clock
        self._ids = ids
        self._reports = RejectionReports()

    def refuse(
        self,
        message: Message,
        principal: Principal,
        source: str,
        payload: bytes,
        size: int,
        now: int,
    ) -> None:
        """Count the message's faults, and keep it as rejected within the budget."""
        for fault in message.faults:
            self._count(fault)
        number = message.sensor.number if message.sensor else None
        sender = principal.sensor if number is None else number
        counts = self.state.rejected_of
        if sender is not None and (sender in counts or len(counts) < MAXIMUM_SOURCES):
            counts[sender] = counts.get(sender, 0) + 1
        if message.faults[0].reason not in _OF_ANOTHER:
            number = sender
        self._keep(message, number, principal.name, source, payload, size, now)
        kept = None if message.rejected is None else message.rejected[0]
        self._reports.report(message.faults, principal, source, message.sensor, kept, now)

    def refuse_rows(self, message: Message, rows: list[tuple[Any, ...]]) -> None:
        """Keep rows of a message that the database refused."""
        fault = Fault(None, RejectionReason.NOT_STORABLE, NOT_STORABLE)
        self._count(fault)
        message.faults = [*message.faults, fault]
        if message.rejected is not None:
            return  # it is kept already, for other elements
        numbers = {row[1] for row in rows}
        number = numbers.pop() if len(numbers) == 1 else None
        payload = repr(rows).encode("utf-8", "replace")
        name, now = f"sensor:{number or 0}", self._clock.floor
        self._keep(message, number, name, message.kind.value, payload, len(payload), now)

    def _count(self, fault: Fault) -> None:
        counts = self.state.rejected_total
        counts[fault.reason.value] = counts.get(fault.reason.value, 0) + 1

    def _keep(
        self,
        message: Message,
        number: int | None,
        principal: str,
        source: str,
        payload: bytes,
        size: int,
        now: int,
    ) -> None:
        kept = payload[:KEPT_BYTES]
        if not self._budget.admit(principal, len(kept), now):
            self.state.rejected_not_kept_total += 1
            return
        fault = message.faults[0]
        indexes = [fault.index for fault in message.faults if fault.index is not None]
        message.rejected = (
            self._ids.take(now, 1),
            now,
            number,
            principal,
            _storable(source),
            kept,
            size,
            fault.reason.value,
            _storable(fault.detail),
            _encode(indexes).decode() if indexes else None,
        )
        message.extras = True


def _storable(text: str) -> str:
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
