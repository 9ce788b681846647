"""A range of stored rows as one stream of pages, in an order that can be gone on with."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import NamedTuple

from heliograph.exchange.chosen_columns import ChosenColumns
from heliograph.exchange.formats import Format, Names, Row, encode_rows, wide_table
from heliograph.exchange.wide import MOST_COLUMNS, ColumnType, Wide, type_of
from heliograph.model.records import Kind
from heliograph.store import Store
from heliograph.store.pages import GREATEST, Cursor, row_chunks
from heliograph.store.telemetry import ExportedSensor

MOST_ROWS = 1_000
FIRST_ROWS = 16
# What the texts of a page come to at most, in characters, and an eighth of which they should:
# large values make for fewer rows.
LARGEST_PAGE = 2 << 20
SENSORS = 500
# Whose newest values are looked at, at once and at most, for what type their attributes have.
TYPED_AT_ONCE = 100
MOST_TYPED = 2_000


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


class EncodedPage(NamedTuple):
    """Encoded rows, how many they are, and where they end."""

    data: bytes
    rows: int
    position: Position


async def each_of(*sensors: ExportedSensor) -> AsyncIterator[ExportedSensor]:
    """Yield the sensors."""
    for sensor in sensors:
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


async def wide_columns(
    store: Store, sensors: AsyncIterator[ExportedSensor], *, typed: bool, spreadsheet: bool = False
) -> Wide:
    """Return the columns of a wide export: the attributes that the sensors have ever measured.

    With `typed` each is of the type that its newest value has, numbers where there is none.
    """
    types: dict[str, ColumnType | None] = {}
    looked_at = 0
    async for numbers in _in_parts(sensors, TYPED_AT_ONCE if typed else SENSORS):
        names = await store.sensors.attributes(numbers)
        for number in numbers:
            for name in sorted(names.get(number, ())):
                if name in types or len(types) < MOST_COLUMNS:
                    types.setdefault(name, None)
        unknown = [
            number
            for number in numbers
            if any(name in types and types[name] is None for name in names.get(number, ()))
        ]
        if typed and unknown and looked_at < MOST_TYPED:
            looked_at += len(unknown)
            for newest in (await store.measurements.latest_of(unknown)).values():
                for attribute in newest:
                    if attribute.name in types and types[attribute.name] is None:
                        types[attribute.name] = type_of(attribute.value)
    known = {name: each or "number" for name, each in types.items()}
    return wide_table(known, spreadsheet=spreadsheet)


async def _in_parts(sensors: AsyncIterator[ExportedSensor], size: int) -> AsyncIterator[list[int]]:
    part: list[int] = []
    async for sensor in sensors:
        part.append(sensor.number)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


async def pages(
    store: Store,
    sensors: AsyncIterator[ExportedSensor],
    wanted: Range,
    form: Format,
    position: Position | None = None,
    *,
    spreadsheet: bool = False,
    wide: Wide | None = None,
    columns: ChosenColumns | None = None,
) -> AsyncGenerator[EncodedPage, None]:
    """Yield the rows of the sensors, by sensor, kind and key; from behind `position` on.

    `spreadsheet` and `wide` are as for `encode_rows`. With `columns` it is these of measurements.

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
            if columns is not None:
                found = store.columns.of(sensor.number, cursor, wanted.end, columns.names)
                async with aclosing(found):
                    async for part in found:
                        reached = Position(sensor.number, kind, part.through)
                        yield EncodedPage(columns.lines(names, part), len(part.times), reached)
                continue
            chunks = _chunks(store, kind, sensor.number, cursor, wanted.end - 1)
            async with aclosing(chunks):
                async for rows in chunks:
                    data = encode_rows(form, kind, names, rows, spreadsheet=spreadsheet, wide=wide)
                    reached = Position(sensor.number, kind, _position(rows[-1]))
                    yield EncodedPage(data, len(rows), reached)


def _chunks(
    store: Store, kind: Kind, sensor: int, after: Cursor, until: int
) -> AsyncGenerator[Sequence[Row], None]:
    async def fetch(at: Cursor, limit: int, longest: int) -> Sequence[Row]:
        return await store.exports.page(kind, sensor, at, until=until, limit=limit, longest=longest)

    return row_chunks(fetch, after, _position, size=LARGEST_PAGE, most=MOST_ROWS, first=FIRST_ROWS)


def _position(row: Row) -> Cursor:
    return row[0], row[1]
