"""What became of an ingested message."""

from typing import Any, NamedTuple

import msgspec

from heliograph.errors import RejectionReason


class Fault(msgspec.Struct, frozen=True, gc=False):
    """Why an element (by its index in the message; None: the whole message) was rejected."""

    index: int | None
    reason: RejectionReason
    detail: str


class Decoded(NamedTuple):
    """A decoded message: rows ready to store, and what was wrong with the rest.

    `indexes` gives, per row, the index of its element. `untimed` tells that at least one row
    has the receipt time for its timestamp. `identities` are (position in rows, element id)
    pairs of the elements that carried an `id`. `attributes` holds, for measurements, the sets of
    attribute names; elements alike that follow one another share one.
    """

    rows: list[tuple[Any, ...]]
    faults: list[Fault]
    untimed: bool
    identities: list[tuple[int, str]]
    indexes: list[int] | None
    attributes: list[Any]


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """An element that is stored. Of a duplicate, `id` is that of the row stored first."""

    index: int
    id: int
    timestamp: int
    duplicate: bool


class Outcome(NamedTuple):
    """What became of a message's elements, after the commit.

    `retimed` are the indexes of those stored now whose time was none: they got that of receipt.
    """

    accepted: list[Accepted]
    faults: list[Fault]
    retimed: tuple[int, ...] = ()
