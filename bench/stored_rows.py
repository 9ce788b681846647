"""The rows that are stored before a round begins, as SQL for both engines and both sides.

Sensor n has the UUID that ends in n, the device_id `bench-n` and the number n. Row i belongs
to sensor i modulo the number of sensors and was received a `step` after row i - 1.
"""

import dataclasses
import hashlib
import time

from bench.packets import device_key, identifier
from bench.requests import device_id
from bench.scale import Profile

# Raise it whenever what is generated changes: it is part of the cached files' names.
VERSION = 1
QUIET = 2 * 3_600 * 1_000_000
ATTRIBUTES = ("humidity", "pressure", "temperature")


@dataclasses.dataclass(frozen=True)
class StoredRows:
    """A profile's rows, the first received at `start` (microseconds)."""

    profile: Profile
    start: int

    @classmethod
    def until_now(cls, profile: Profile) -> "StoredRows":
        """Return rows that end two hours ago: loads are timed behind them."""
        newest = time.time_ns() // 1_000 - QUIET
        return cls(profile, newest // 1_000_000 * 1_000_000 - profile.rows * profile.step)

    @property
    def end(self) -> int:
        """When the row after the last would be received."""
        return self.start + self.profile.rows * self.profile.step

    def sensors(self) -> list[tuple[int, str, str | None, bytes, int]]:
        """Return number, UUID, device_id, hash of the key and creation time of every sensor."""
        return [
            (
                number,
                identifier(number),
                device_id(number) if self.profile.named else None,
                hashlib.sha256(device_key(number).encode()).digest(),
                self.start,
            )
            for number in range(1, self.profile.sensors + 1)
        ]

    def attributes(self) -> list[tuple[int, str]]:
        """Return the attributes that the sensors have reported, as (number, name)."""
        if not self.profile.rows:
            return []
        numbers = range(1, self.profile.sensors + 1)
        return [(number, name) for number in numbers for name in ATTRIBUTES]

    def select(self, engine: str, *, bare: bool) -> str:
        """Return the query that makes the rows.

        The server's: id, sensor, timestamp, fingerprint, receipt_timestamp, revision,
        device_timestamp, value. The bare table's: those without the id and device_timestamp.
        """
        if engine == "sqlite":
            source = (
                "WITH RECURSIVE counter (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM counter"
                f" WHERE i + 1 < {self.profile.rows})"
            )
            counter, fingerprint = "counter", "random()"
            temperature = "printf('%.1f', 15 + (i * 7919 % 200) / 10.0)"
        else:
            source = ""
            counter = f"generate_series(0::int8, {self.profile.rows - 1}) AS i"
            fingerprint = "hashint8extended(i, 7)"
            temperature = "to_char(15 + (i * 7919 % 200) / 10.0, 'FM90.0')"
        received = f"({self.start} + i * {self.profile.step})"
        value = (
            """'{"humidity":0.43,"pressure":1013.2,"temperature":' || """
            f"""{temperature} || '}}'"""
        )
        sensor = f"i % {self.profile.sensors} + 1"
        columns = [sensor, received, fingerprint, received, "1", value]
        if not bare:
            ingest_id = f"({received} / 1000) << 21"
            columns = [ingest_id, *columns[:5], "NULL", value]
        order = "" if engine == "sqlite" else " ORDER BY i"
        return f"{source} SELECT {', '.join(columns)} FROM {counter}{order}"


def middle(oldest: int, newest: int) -> tuple[float, float]:
    """Return the epoch seconds between which the middle half of the time lies."""
    span = newest - oldest
    return (oldest + span / 4) / 1e6, (oldest + span * 3 / 4) / 1e6
