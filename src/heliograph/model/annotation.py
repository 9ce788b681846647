"""Annotations: what people know of a time, beside what a sensor measured then."""

import msgspec

MAXIMUM_ANNOTATIONS = 10_000
LONGEST_ANNOTATION = 1_000


class Annotation(msgspec.Struct, frozen=True):
    """A remark on a moment, or on the span up to `ends_at`, which it does not include.

    `sensor` is the sensor's number. Times are microseconds; without `attribute` it is about all of
    the sensor. `author` is the name of the principal who made it.
    """

    identifier: str
    sensor: int
    text: str
    starts_at: int
    ends_at: int | None
    attribute: str | None
    author: str | None
    created_at: int
    changed_at: int
