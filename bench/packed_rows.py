"""The rows of benchmarks of packed history, as rows, as chunks and as InfluxDB's lines.

Three attributes of two decimals wander as weather does; a device's clock is off by up to 2.5 ms,
and a row is received 2 to 30 ms later.
"""

import itertools
import random
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import psycopg

from bench.scale import Profile
from heliograph.model.canonical import canonical
from heliograph.model.fingerprints import measurement_fingerprint
from heliograph.model.identifiers import INGEST_ID_TIME_BIT, first_ingest_id
from heliograph.model.records import FINGERPRINT, ID, TIMESTAMP, MeasurementRow
from heliograph.model.time import DAY, HOUR
from heliograph.packed.chunk import pack
from heliograph.packed.head import TIMES, ColumnPlace, read_head, write_head
from heliograph.packed.integers import StoredIntegers
from heliograph.packed.pieces import FEWEST_ROWS

JITTER = 2_500
LATENCY = (2_000, 30_000)
# A year repeats what a month has: all values are packed once.
REPEATED = 30 * 24
SEQUENCE = 1 << 9
APART = 100_000

ROW_COLUMNS = (
    "id, sensor, timestamp, fingerprint, receipt_timestamp, revision, device_timestamp, value"
)
COLUMNS = (
    "sensor, first, first_fingerprint, last, last_fingerprint, row_count, first_id, last_id,"
    " head, body"
)


class Row(NamedTuple):
    """What a sensor measured, and when it was received."""

    time: int
    receipt: int
    values: dict[str, float]


def readings(
    start: int, count: int, step: int, seed: int = 1, *, doubles: bool = False
) -> Iterator[Row]:
    """Yield so many readings, about a step (microseconds) apart; `doubles`: of all digits."""
    chosen = random.Random(seed)
    uniform, between = chosen.uniform, chosen.randrange
    temperature, humidity, pressure = 20.0, 45.0, 1013.0
    for at in range(count):
        temperature += uniform(-0.05, 0.05) + (20 - temperature) * 0.001
        humidity += uniform(-0.1, 0.1) + (45 - humidity) * 0.001
        pressure += uniform(-0.02, 0.02) + (1013 - pressure) * 0.001
        found = {"humidity": humidity, "pressure": pressure, "temperature": temperature}
        if not doubles:
            found = {name: round(number, 2) for name, number in found.items()}
        time = start + at * step + between(JITTER)
        yield Row(time, time + between(*LATENCY), found)


def rows_of(sensor: int, found: Iterator[Row]) -> Iterator[MeasurementRow]:
    """Yield readings as the table has them."""
    for at, (time, receipt, values) in enumerate(found):
        text = canonical(values)
        ingest_id = (receipt // 1_000 << INGEST_ID_TIME_BIT) + (4 * sensor + at % 4) * SEQUENCE
        fingerprint = measurement_fingerprint(1, text)
        yield ingest_id, sensor, time, fingerprint, receipt, 1, None, text.decode()


def readings_of(profile: Profile, start: int) -> Iterator[Row]:
    """Yield a packed profile's readings; what comes after a month is that month's once more."""
    hour = HOUR // profile.step
    repeated = list(readings(0, min(REPEATED * hour, profile.rows), profile.step))
    for at in range(profile.rows):
        again, place = divmod(at, len(repeated))
        row = repeated[place]
        later = start + again * REPEATED * HOUR
        yield Row(row.time + later, row.receipt + later, row.values)


def chunks_of(profile: Profile, start: int) -> Iterator[Sequence[Any]]:
    """Yield a profile's rows as the table of chunks has them, a chunk an hour, or a day.

    All sensors measure what the first does.
    """
    for chunk in _chunks_of_first(profile, start):
        for sensor in range(1, profile.sensors + 1):
            yield chunk if sensor == 1 else _of_sensor(chunk, sensor)


def _of_sensor(chunk: Sequence[Any], sensor: int) -> Sequence[Any]:
    *known, head, body = chunk[1:]
    made = write_head(msgspec.structs.replace(read_head(head), sensor=sensor))
    return (sensor, *known, made, body)


def _chunks_of_first(profile: Profile, start: int) -> Iterator[Sequence[Any]]:
    hour = HOUR // profile.step
    size = hour if hour >= FEWEST_ROWS else DAY // profile.step
    found = rows_of(1, readings(start, min(REPEATED * hour, profile.rows_per_sensor), profile.step))
    packed: list[Sequence[Any]] = []
    while rows := list(itertools.islice(found, size)):
        made = pack(rows)
        ids = [row[ID] for row in rows]
        first, last = rows[0], rows[-1]
        ends = (first[TIMESTAMP], first[FINGERPRINT], last[TIMESTAMP], last[FINGERPRINT])
        packed.append((1, *ends, len(rows), min(ids), max(ids), made.head, made.body))
        yield packed[-1]
    for at in range(len(packed), profile.rows_per_sensor // size):
        again, place = divmod(at, len(packed))
        yield _later(packed[place], again * REPEATED * HOUR)


def _later(chunk: Sequence[Any], later: int) -> Sequence[Any]:
    """Return what a chunk is if all of it happens later (microseconds)."""
    sensor, first, first_fingerprint, last, last_fingerprint, count, *ids, head, body = chunk
    ids = [each + first_ingest_id(later) for each in ids]
    known = read_head(head)
    length = known.columns[TIMES].length
    times = msgspec.msgpack.decode(body[:length], type=StoredIntegers)
    moved = msgspec.msgpack.encode(msgspec.structs.replace(times, start=times.start + later))
    columns = known.columns | {TIMES: ColumnPlace(len(moved), zlib.crc32(moved))}
    ends = {"first": first + later, "last": last + later}
    ends |= {"first_id": ids[0], "last_id": ids[1]}
    made = write_head(msgspec.structs.replace(known, columns=columns, **ends))
    times_of_ends = (first + later, first_fingerprint, last + later, last_fingerprint)
    return (sensor, *times_of_ends, count, *ids, made, moved + body[length:])


def fill(
    connection: sqlite3.Connection | psycopg.Connection, rows: Sequence[MeasurementRow]
) -> None:
    """Add rows to the table; on PostgreSQL the partitions have to be there."""
    table = "measurement"
    if isinstance(connection, sqlite3.Connection):
        table = "measurement_row"
        keys = "measurement_key (id, sensor, timestamp, fingerprint)"
        _insert(connection, keys, 4, [row[: FINGERPRINT + 1] for row in rows])
    _insert(connection, f"{table} ({ROW_COLUMNS})", 8, rows)


def fill_chunks(
    connection: sqlite3.Connection | psycopg.Connection, profile: Profile, start: int
) -> None:
    """Add a profile's chunks, and behind them a row of each sensor: the newest is never packed."""
    _insert(connection, f"chunk ({COLUMNS})", 10, chunks_of(profile, start))
    # So far apart that no two have an id.
    newest = readings(start + profile.span, profile.sensors, APART)
    fill(
        connection,
        [(row[ID], at, *row[TIMESTAMP:]) for at, row in enumerate(rows_of(1, newest), 1)],
    )


def _insert(
    connection: sqlite3.Connection | psycopg.Connection,
    table: str,
    columns: int,
    rows: Iterable[Sequence[Any]],
) -> None:
    place = "?" if isinstance(connection, sqlite3.Connection) else "%s"
    insert = f"INSERT INTO {table} VALUES ({', '.join([place] * columns)})"
    connection.cursor().executemany(insert, rows)
