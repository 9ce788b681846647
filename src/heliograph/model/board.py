"""Boards: chosen charts and values of a network, on one page."""

import msgspec

MAXIMUM_BOARDS = 100
MAXIMUM_PANELS = 48
MAXIMUM_SERIES = 16


class BoardSeries(msgspec.Struct, frozen=True):
    """An attribute of a sensor, by the sensor's UUID."""

    sensor: str
    attribute: str


class Panel(msgspec.Struct, frozen=True):
    """A part of a board: a `chart` of the last `range` (like `24h`), or the newest `values`."""

    kind: str
    series: list[BoardSeries]
    title: str | None = None
    range: str = "24h"
    wide: bool = False


class Board(msgspec.Struct, frozen=True):
    """A board. Times are microseconds; `author` is the name of the principal who made it."""

    identifier: str
    network_identifier: str
    name: str
    panels: list[Panel]
    author: str | None
    created_at: int
    changed_at: int
