"""A range of stored rows as one stream of pages, in an order that can be gone on with."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import NamedTuple

from heliograph.exchange.formats import Format, Names, encode_rows
from heliograph.model.records import Kind
from heliograph.store import Store
from heliograph.store.exports import ExportedSensor
from heliograph.store.pages import GREATEST, Cursor

MOST_ROWS = 1_000
FEWEST_ROWS = 16
# What a page should come to: large values make for fewer rows.
PAGE_BYTES = 256 * 1024
SENSORS = 500


class Range(NamedTuple):
    """What is wanted: kinds of rows, from `start` inclusive to `end` exclusive (microseconds)."""

    kinds: tuple[Kind, ...]
    start: int
    end: int


class Position(NamedTuple):
    """Behind which row an export goes on: of which sensor (by number), kind and key."""

    sensor: int
    kind: Kind
    cursor: Cursor


class Page(NamedTuple):
    """Encoded rows, how many they are, and where they end."""

    data: bytes
    rows: int
    position: Position


async def one_sensor(sensor: ExportedSensor) -> AsyncIterator[ExportedSensor]:
    """Yield the sensor."""
    yield sensor


async def sensors_of(
    store: Store, network: str | None, position: Position | None = None
) -> AsyncIterator[ExportedSensor]:
    """Yield the sensors of a network (None: of all), by number, from that of `position` on."""
    after = position.sensor - 1 if position else 0
    while page := await store.exports.sensors(network, after, SENSORS):
        after = page[-1].number
        for sensor in page:
            yield sensor


async def pages(
    store: Store,
    sensors: AsyncIterator[ExportedSensor],
    wanted: Range,
    form: Format,
    position: Position | None = None,
) -> AsyncGenerator[Page, None]:
    """Yield the rows of the sensors, by sensor, kind and key; from behind `position` on.

    Each page is a query of its own: what is stored meanwhile appears if it lies ahead.
    """
    first = (wanted.start - 1, GREATEST)
    async for sensor in sensors:
        names = Names(sensor.identifier, sensor.device_id)
        for kind in wanted.kinds:
            cursor = first
            if position is not None and position.sensor == sensor.number:
                if wanted.kinds.index(kind) < wanted.kinds.index(position.kind):
                    continue
                if kind is position.kind:
                    cursor = position.cursor
            limit = FEWEST_ROWS
            while True:
                rows = await store.exports.page(
                    kind, sensor.number, cursor, until=wanted.end - 1, limit=limit
                )
                if not rows:
                    break
                cursor = (rows[-1][0], rows[-1][1])
                data = encode_rows(form, kind, names, rows)
                yield Page(data, len(rows), Position(sensor.number, kind, cursor))
                if len(rows) < limit:
                    break
                limit = _next_limit(limit, len(data) // len(rows))


def _next_limit(limit: int, row_bytes: int) -> int:
    """Return how many rows to read at once: not many more than before, nor than is wanted."""
    wanted = PAGE_BYTES // max(1, row_bytes)
    return max(FEWEST_ROWS, min(MOST_ROWS, limit * 4, wanted))
