"""Attributes that a sensor has not had before, and numbers in them that come as texts.

Of those the log tells: a device learns of it by nothing, and nobody looks at a device.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec
import structlog

from heliograph.access.registry import KnownSensor
from heliograph.hourly import Lines
from heliograph.model.attributes import MISSING, Attributes, keys_of, value_at
from heliograph.model.number_text import is_number_text
from heliograph.model.records import MAXIMUM_ATTRIBUTES_OF_SENSOR, AttributeRow

log = structlog.get_logger()

# Rows of a message in which a new attribute's value is looked for.
LOOKED_AT = 100
# PostgreSQL's indexes take 2,704 bytes at most; a longer name is kept with its value only.
LONGEST_NAME = 1_024

_decode = msgspec.json.decode


class NewAttributes:
    """Registers new attributes, and warns of numbers that come as texts, once of each attribute.

    Such numbers are kept as they came; but nothing counts, draws or compares with them, and nobody
    is told why a chart stays empty.
    """

    def __init__(self, find: Callable[[int], KnownSensor | None], now: Callable[[], int]) -> None:
        """Find sensors that are in memory by their numbers, and tell the time by `now`."""
        self._find = find
        self._now = now
        self._lines = Lines()

    def learn(
        self, sensor: KnownSensor, names: Attributes, rows: Sequence[tuple[Any, ...]]
    ) -> tuple[AttributeRow, ...]:
        """Register those of the names that the sensor has not had before; return their rows.

        `rows` are measurements of the sensor that have them, and may have others.
        """
        known = sensor.attributes
        room = MAXIMUM_ATTRIBUTES_OF_SENSOR - len(known)
        unknown = [name for name in names - known if len(name.encode()) <= LONGEST_NAME]
        fresh = sorted(unknown)[: max(room, 0)]
        if fresh:
            known.update(fresh)
            self.look(sensor, fresh, rows)
        return tuple((sensor.number, name) for name in fresh)

    def unlearn(self, attributes: Sequence[AttributeRow]) -> None:
        """Take back what was learned with a message that can't be stored with it."""
        for number, name in attributes:
            if sensor := self._find(number):
                sensor.attributes.discard(name)

    def is_news(self, sensor: int, name: str) -> bool:
        """Return whether a sensor's attribute was not reported yet; called from any thread."""
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
                        self.report(sensor.number, name, value)
            if not left:
                return

    def report(self, sensor: int, name: str, text: str) -> None:
        """Report an attribute with a value of it; later, when there are too many."""
        known = self._find(sensor)
        if known is None or name in known.number_texts:
            return
        self._lines.begin(self._now())
        if not self._lines.take(name):
            return
        # Most sensors have none, and share the empty set.
        known.number_texts = known.number_texts | {name}
        log.warning(
            "number sent as text: no aggregate, chart or rule counts it",
            sensor=known.device_id or known.identifier,
            attribute=name,
            text=text,
            instead="send it without quotation marks",
        )
