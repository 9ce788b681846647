"""Times are whole microseconds since 1970-01-01T00:00:00Z, everywhere inside."""

import functools
import math
import re
import time
from datetime import UTC, datetime, timedelta
from fractions import Fraction

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

# 2001-09-09T01:46:40Z, one billion seconds: a smaller number is a clock's that counts from boot.
EARLIEST = 1_000_000_000 * SECOND
# 1650-01-01T00:00:00Z: no series of measurements is older (that of Central England begins in 1659),
# but zeros of clocks that were never set are: 0001 (Go, .NET) and 1601 (Windows).
OLDEST = -10_098_172_800 * SECOND
# 9999-12-31T23:59:59.999999Z: what datetime and RFC 3339 can still express.
LATEST = 253_402_300_800 * SECOND - 1
# 0001-01-01T00:00:00Z, likewise.
_FIRST = -62_135_596_800 * SECOND

_YEAR_1970 = range(365 * DAY)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_RFC3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ]((?:[01]\d|2[0-3]):[0-5]\d:)([0-5]\d|60)(\.\d{1,9})?"
    r"([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
_NUMBER = re.compile(r"[+-]?\d{1,20}(\.\d{0,40})?([eE][+-]?\d{1,4})?", re.ASCII)

# From 2^32 seconds (2106) on, the product below is no longer exact to half a microsecond.
_ROUNDS_EXACTLY = 1 << 32


def now() -> int:
    """Return the wall clock's time in microseconds."""
    return time.time_ns() // 1_000


def from_epoch_seconds(seconds: float) -> int:
    """Return microseconds for epoch seconds, rounded to the nearest.

    Raises:
        ValueError: not finite, before the year 1 or beyond the year 9999.
    """
    if isinstance(seconds, int):
        microseconds = seconds * SECOND
    elif not math.isfinite(seconds):
        raise ValueError(f"time out of range: {seconds}")
    elif -_ROUNDS_EXACTLY < seconds < _ROUNDS_EXACTLY:
        return round(seconds * 1e6)
    else:
        microseconds = round(Fraction(seconds) * SECOND)
    if not _FIRST <= microseconds <= LATEST:
        raise ValueError("time out of range: not in the years 1 to 9999")
    return microseconds


def to_epoch_seconds(microseconds: int) -> float:
    """Return epoch seconds; until 2^33 s (2242) `from_epoch_seconds` gives the argument again.

    Later times are too large for a 64-bit float to tell two microseconds apart.
    """
    return microseconds / 1e6


def to_element_time(microseconds: int) -> float | str:
    """Return a time as an element says it to mean no other: a number, before 2001 a text."""
    return to_epoch_seconds(microseconds) if microseconds >= EARLIEST else to_rfc3339(microseconds)


def from_rfc3339(text: str) -> int:
    """Return microseconds for an RFC 3339 date-time; digits beyond the sixth are cut off.

    A leap second (23:59:60 in UTC) is the second after it, as POSIX clocks have it.

    Raises:
        ValueError: not an RFC 3339 date-time with an offset, or not in the years 1 to 9999.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 time: {text[:40]!r}")
    date, clock, second, fraction, zone = match.groups()
    fraction = ((fraction or ".0") + "000000")[:7]
    zone = "+00:00" if zone in "Zz" else zone
    is_leap = second == "60"
    if is_leap:
        second = "59"
    try:
        moment = datetime.fromisoformat(f"{date}T{clock}{second}{fraction}{zone}")
    except ValueError as error:
        raise ValueError(f"not an RFC 3339 time: {text[:40]!r}") from error
    microseconds = (moment - _EPOCH) // _MICROSECOND
    if is_leap:
        microseconds += SECOND
        if microseconds % DAY >= SECOND:
            raise ValueError(f"not a leap second: {text[:40]!r}")
    if not _FIRST <= microseconds <= LATEST:
        raise ValueError("time out of range: not in the years 1 to 9999")
    return microseconds


def counts_from_boot(text: str, microseconds: int) -> bool:
    """Return whether an RFC 3339 time is in 1970, as it stands or in UTC: that of no calendar."""
    return microseconds in _YEAR_1970 or text.startswith("1970")


def to_rfc3339(microseconds: int) -> str:
    """Return the time in UTC, with six digits of a second and `Z`."""
    minute, rest = divmod(microseconds, MINUTE)
    second, rest = divmod(rest, SECOND)
    return f"{minute_text(minute)}:{second:02}.{rest:06}Z"


@functools.lru_cache(maxsize=1024)
def minute_text(minute: int) -> str:
    """Return date, hour and minute; of the many times of an export, few differ in them."""
    return (_EPOCH + timedelta(minutes=minute)).isoformat()[:16]


def parse(value: float | str) -> int:
    """Return microseconds for epoch seconds (a number or its text) or an RFC 3339 text.

    Raises:
        ValueError: neither.
    """
    if not isinstance(value, str):
        return from_epoch_seconds(value)
    if not _NUMBER.fullmatch(value):
        return from_rfc3339(value)
    return from_epoch_seconds(float(value))
