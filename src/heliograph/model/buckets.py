"""Buckets of time: where they start by the clock and the calendar of a zone.

A bucket starts where a wall clock of the zone shows a multiple of its length, counted from
1970-01-01T00:00 (weeks from a Monday, months from January). So days with a change of the clocks
have 23 or 25 hours, and hours of a zone that is half an hour off start when its clocks say so.
"""

import functools
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import msgspec

from heliograph.model.time import DAY, HOUR, LATEST, MINUTE, OLDEST, SECOND, to_rfc3339

MAXIMUM_BUCKETS = 10_000
WEEK = 7 * DAY
# No measurement is older, and none is as new: what lies beyond needs no buckets. The longest
# have to end within what datetime can express.
FIRST = OLDEST
LAST = LATEST - 250 * 366 * DAY

_LENGTHS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": WEEK}
_BUCKET = re.compile(r"([1-9][0-9]{0,5})(mo|[smhdw])", re.ASCII)
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+\-]*(/[A-Za-z0-9_+\-]+){0,3}", re.ASCII)
# Files beside the zones: this machine's own, a rule without a place, no zone yet; and all zones
# again, with leap seconds (by which their clocks are half a minute off) and without.
_NO_ZONES = frozenset(("localtime", "posixrules", "Factory"))
_FOLDERS = ("posix/", "right/")
_LONGEST = 100 * 366 * DAY
_LONGEST_MONTHS = 1_200

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a wall clock's time, in whichever zone
_EPOCH_UTC = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Monday, 1969-12-29.
_MONDAY = -3 * DAY
# Clocks are never put back by more, where it is about what they show twice.
_TURNED_BACK = 3 * HOUR


class TooManyBucketsError(Exception):
    """The range has more than `MAXIMUM_BUCKETS`."""


class Bucket(msgspec.Struct, frozen=True):
    """The length of buckets: microseconds on the wall clock, counted from `origin`, or months."""

    length: int
    months: int = 0
    origin: int = 0


def parse_bucket(text: str) -> Bucket:
    """Return the length that a text like `10s`, `5m`, `1h`, `1d`, `1w` or `1mo` means.

    Raises:
        ValueError: it means none, or one of more than 100 years.
    """
    match = _BUCKET.fullmatch(text)
    if match is None:
        raise ValueError("must be like 10s, 5m, 1h, 1d, 1w or 1mo")
    count, unit = int(match[1]), match[2]
    if unit == "mo":
        bucket = Bucket(0, count)
    else:
        length = count * _LENGTHS[unit]
        bucket = Bucket(length, origin=0 if length % WEEK else _MONDAY)
    if bucket.months > _LONGEST_MONTHS or bucket.length > _LONGEST:
        raise ValueError("must not be longer than 100 years")
    return bucket


def parse_zone(name: str) -> tzinfo:
    """Return the time zone of an IANA name like `Europe/Berlin`.

    Raises:
        ValueError: there is none.
    """
    if name.upper() == "UTC":
        return UTC
    is_other = name in _NO_ZONES or name.startswith(_FOLDERS)
    if not is_other and len(name) <= 64 and _ZONE.fullmatch(name):
        try:
            return ZoneInfo(name)
        except (OSError, ValueError, KeyError):
            pass  # a folder of zones, or a file that is none
    raise ValueError("must be the name of a time zone, like Europe/Berlin")


def bucket_starts(bucket: Bucket, zone: tzinfo, start: int, end: int) -> list[int]:
    """Return where the buckets start that `start` (inclusive) to `end` (exclusive) touches.

    Ascending microseconds, then as a last element the end of the last bucket. The first bucket
    may start before `start`. Empty if the range is.

    Raises:
        TooManyBucketsError: there are more than `MAXIMUM_BUCKETS`.
    """
    start, end = max(start, FIRST), min(end, LAST)
    if start >= end:
        return []
    # Buckets may be shorter for a change of the clocks, but in all these make up for it.
    shortest = bucket.length or bucket.months * 28 * DAY
    if (end - start) // shortest > MAXIMUM_BUCKETS + 1:
        raise TooManyBucketsError
    if zone is UTC and bucket.length:
        first = start - (start - bucket.origin) % bucket.length
        starts = list(range(first, end + bucket.length, bucket.length))
    else:
        starts = list(_marks(bucket, zone, start, end))
    if len(starts) - 1 > MAXIMUM_BUCKETS:
        raise TooManyBucketsError
    return starts


# What is asked for again and again, of many sensors, are buckets of the same times.
@functools.lru_cache(maxsize=4096)
def show(moment: int, zone: tzinfo) -> str:
    """Return the moment as RFC 3339 with the zone's offset, `Z` in UTC."""
    if zone is UTC:
        return to_rfc3339(moment)
    local = (_EPOCH_UTC + moment * _MICROSECOND).astimezone(zone)
    offset = local.utcoffset() or timedelta()
    if offset % timedelta(minutes=1):
        # RFC 3339 has no seconds in offsets, which some zones had long ago.
        return to_rfc3339(moment)
    return local.isoformat(timespec="microseconds")


def _marks(bucket: Bucket, zone: tzinfo, start: int, end: int) -> Iterator[int]:
    """Yield the starts from the last one at or before `start` to the first at or after `end`."""
    # What the clocks show twice starts an hour twice, but not what is longer than an hour.
    twice = 0 < bucket.length <= HOUR
    moments: set[int] = set()
    for wall in _walls(bucket, _wall(start, zone) - (_TURNED_BACK if twice else 0)):
        moment, second = _moments(wall, zone)
        moments.add(moment)
        if twice:
            moments.add(second)
        # The next of the first fold may still come before what the second has shown.
        if moment >= end + (_TURNED_BACK if twice else 0):
            break
    ascending = sorted(moments)
    before = max(index for index, moment in enumerate(ascending) if moment <= start)
    for moment in ascending[before:]:
        yield moment
        if moment >= end:
            break


def _walls(bucket: Bucket, wall: int) -> Iterator[int]:
    """Yield the wall clock's times at which buckets start, from before `wall` on, without end."""
    if bucket.length:
        # A step earlier: the clock may have been put forward past the time that it starts at.
        at = wall - (wall - bucket.origin) % bucket.length - bucket.length
        while True:
            yield at
            at += bucket.length
    date = _EPOCH + wall * _MICROSECOND
    months = (date.year - 1970) * 12 + date.month - 1
    months -= months % bucket.months + bucket.months
    while True:
        years, month = divmod(months, 12)
        yield (datetime(1970 + years, month + 1, 1) - _EPOCH) // _MICROSECOND  # noqa: DTZ001 - as above
        months += bucket.months


def _wall(moment: int, zone: tzinfo) -> int:
    """Return what the zone's wall clock shows, as microseconds since 1970-01-01T00:00."""
    local = (_EPOCH_UTC + moment * _MICROSECOND).astimezone(zone)
    return (local.replace(tzinfo=None) - _EPOCH) // _MICROSECOND


def _moments(wall: int, zone: tzinfo) -> tuple[int, int]:
    """Return when the wall clock shows this for the first and for the last time.

    A time that the clock leaves out stands for the moment at which it is put forward.
    """
    local = (_EPOCH + wall * _MICROSECOND).replace(tzinfo=zone)
    first = (local - _EPOCH_UTC) // _MICROSECOND
    second = (local.replace(fold=1) - _EPOCH_UTC) // _MICROSECOND
    if second >= first:
        return first, second
    # Left out: what was valid before the change puts it after, what is valid since, before.
    shown, before = _wall(first, zone) - first, second
    while first - before > 1:
        middle = (before + first) // 2
        if _wall(middle, zone) - middle == shown:
            first = middle
        else:
            before = middle
    return first, first
