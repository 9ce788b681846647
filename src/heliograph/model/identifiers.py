"""Identifiers: what devices are called, and what an ingest id says."""

import re
import uuid

LONGEST_DEVICE_ID = 64
DEVICE_ID = re.compile(rf"[A-Za-z0-9_-]{{1,{LONGEST_DEVICE_ID}}}", re.ASCII)
# Of the own devices of shared keys, which the server registers.
RESERVED_PREFIX = "key-"
DEVICE_ID_RULE = f"1 to 64 of A-Z a-z 0-9 _ -, not a UUID, and not {RESERVED_PREFIX}…"

# An ingest id is ((milliseconds << 12) + sequence) << 9 | instance, 63 bits until the year
# 2109. The instance stands lowest, so that counting on in steps of INGEST_ID_STEP never
# leaves the instance's own ids: an overflowing sequence just borrows from the next millisecond.
INGEST_ID_STEP = 1 << 9
MAXIMUM_INSTANCE = INGEST_ID_STEP - 1
# Where its milliseconds begin.
INGEST_ID_TIME_BIT = 21
GREATEST_INGEST_ID = (1 << 63) - 1


def is_uuid(text: str) -> bool:
    """Return whether the text is a UUID in its canonical 8-4-4-4-12 form, in any case."""
    if len(text) != 36:
        return False
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def is_device_id(text: str) -> bool:
    """Return whether the text may name a device: a slug of up to 64 characters, not a UUID."""
    return DEVICE_ID.fullmatch(text) is not None and not is_uuid(text)


def may_name_a_device(text: str) -> bool:
    """Return whether a device may be given this `device_id`: some are given by the server alone."""
    return is_device_id(text) and not text.lower().startswith(RESERVED_PREFIX)


def ingest_id_time(ingest_id: int) -> int:
    """Return the time (microseconds, to the millisecond) at which the id was made."""
    return (ingest_id >> INGEST_ID_TIME_BIT) * 1_000


def first_ingest_id(time: int) -> int:
    """Return the least id that may be made at this time (microseconds) or later.

    Of a time before 1970 it is 0, of one after 2109 the greatest that there is.
    """
    return min(max(time, 0) // 1_000 << INGEST_ID_TIME_BIT, GREATEST_INGEST_ID)


def as_ingest_id(text: str) -> int | None:
    """Return the ingest id that the text may be, as answers give them; None: it is none."""
    # An id of 2001-09-09, before which there is no time, has 19 digits already.
    if len(text) != 19 or not (text.isascii() and text.isdecimal()):
        return None
    number = int(text)
    return number if number <= GREATEST_INGEST_ID else None
