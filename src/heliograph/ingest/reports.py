"""What devices do wrong, told to whoever reads the log: now and then, however often it happens.

A device learns at best by a code that its message was rejected, and nobody looks at a device.
"""

import shlex
from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec
import structlog

from heliograph.access.registry import KnownSensor
from heliograph.hourly import Hourly, Lines
from heliograph.ingest.outcome import Fault
from heliograph.model.attributes import MISSING, keys_of, value_at
from heliograph.model.number_text import is_number_text
from heliograph.model.principal import Principal

log = structlog.get_logger()

# Rows of a message in which a new attribute's value is looked for.
LOOKED_AT = 100

_decode = msgspec.json.decode


class RejectionReports:
    """Warns of rejected messages, once an hour of each source and reason."""

    def __init__(self) -> None:
        self._hourly = Hourly()

    def tell(
        self,
        faults: Sequence[Fault],
        principal: Principal,
        source: str,
        sensor: KnownSensor | None,
        now: int,
    ) -> None:
        """Take note of a message that was rejected, whole or in part."""
        name = _name_of(principal, source, sensor)
        sender = "broker" if principal.kind == "broker" else principal.name
        firsts: dict[str, Fault] = {}
        for fault in faults:
            firsts.setdefault(fault.reason.value, fault)
        for reason, fault in firsts.items():
            untold = self._hourly.due((name, reason), sender, now)
            if untold is not None:
                self._warn(fault, principal, source, name, untold)
        if self._hourly.has_left_out():
            log.warning(
                "messages of more sources are rejected: they are not named within this hour",
                see="heliograph rejected",
            )

    def _warn(
        self, fault: Fault, principal: Principal, source: str, name: str, untold: int
    ) -> None:
        more = {} if fault.index is None else {"element": fault.index}
        if untold:
            more["not_told_before"] = untold
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


class NumberTextReports:
    """Warns of numbers that come as texts, once of each sensor and attribute.

    They are kept as they came; but nothing counts, draws or compares with them, and nobody is told
    why a chart stays empty.
    """

    def __init__(self, find: Callable[[int], KnownSensor | None], now: Callable[[], int]) -> None:
        """Find sensors that are in memory by their numbers, and tell the time by `now`."""
        self._find = find
        self._now = now
        self._lines = Lines()

    def is_news(self, sensor: int, name: str) -> bool:
        """Tell whether it was not told of a sensor's attribute; from any thread."""
        known = self._find(sensor)
        return known is not None and name not in known.number_texts

    def look(
        self, sensor: KnownSensor, names: Collection[str], rows: Sequence[tuple[Any, ...]]
    ) -> None:
        """Look at attributes that the sensor has not had before, in the rows of measurements."""
        left = {name: keys_of(name) for name in names}
        for row in rows[:LOOKED_AT]:
            document = _decode(row[7])
            for name, keys in list(left.items()):
                value = value_at(document, keys)
                if value is not MISSING:
                    del left[name]
                    if is_number_text(value):
                        self.tell(sensor.number, name, value)
            if not left:
                return

    def tell(self, sensor: int, name: str, text: str) -> None:
        """Tell of an attribute of which this was sent; when there are too many, later."""
        known = self._find(sensor)
        if known is None or name in known.number_texts:
            return
        self._lines.begin(self._now())
        if not self._lines.take(name):
            return
        # Most sensors have none, and share the empty set.
        known.number_texts = known.number_texts | {name}
        log.warning(
            "a number comes as a text: no aggregate, chart or rule counts with it",
            sensor=known.device_id or known.identifier,
            attribute=name,
            text=text,
            instead="send it without quotation marks",
        )
