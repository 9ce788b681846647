"""Calendar months in UTC, by which PostgreSQL's partitions are made and named.

Beside `partitions`, whose driver only those read who need it.
"""

import datetime as dt
import re

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_NAME = re.compile(r"_(\d{4})_(\d{2})")


def month_of(timestamp: int) -> int:
    """Return the month of a timestamp (microseconds), counted from year 0.

    Raises:
        OverflowError: it is beyond the year 9999.
    """
    moment = _EPOCH + dt.timedelta(microseconds=timestamp)
    return moment.year * 12 + moment.month - 1


def month_start(month: int) -> int:
    """Return the timestamp at which a month begins."""
    first = dt.datetime(month // 12, month % 12 + 1, 1, tzinfo=dt.UTC)
    return (first - _EPOCH) // _MICROSECOND


def month_name(month: int) -> str:
    """Return how the month appears in the name of a partition."""
    return f"{month // 12:04d}_{month % 12 + 1:02d}"


def named_month(table: str, partition: str) -> int | None:
    """Return the month that a partition's name tells; None: it has none, like `past`."""
    match = _NAME.fullmatch(partition.removeprefix(table))
    return int(match[1]) * 12 + int(match[2]) - 1 if match else None


# What lies before is in the partition `past`, made with the tables.
FIRST_MONTH = 2020 * 12
FIRST_TIMESTAMP = month_start(FIRST_MONTH)
# December 9999 has no following month that could bound it.
LAST_TIMESTAMP = month_start(9999 * 12 + 11) - 1
