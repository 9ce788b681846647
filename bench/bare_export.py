"""The bare export: all rows of a sensor by one cursor, written as a file that nobody keeps."""

import csv
import io
import json
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from bench.starting_line import report, wait_for_go

ROWS_AT_ONCE = 1_000
GROUP_ROWS = 65_536
QUERY = (
    "SELECT timestamp, receipt_timestamp, revision, device_timestamp, value, element_id"
    " FROM measurement WHERE sensor = 1 ORDER BY timestamp, fingerprint"
)
FRAME = ("sensor_identifier", "device_id", "timestamp", "receipt_timestamp", "revision")
ATTRIBUTES = ("humidity", "pressure", "temperature")

Columns = Sequence[Sequence[Any]]


class Value(msgspec.Struct):
    """What every row holds."""

    humidity: float
    pressure: float
    temperature: float


_values = msgspec.json.Decoder(list[Value]).decode
_encode = msgspec.json.Encoder().encode


def read(url: str) -> Iterator[Columns]:
    """Yield the rows, column by column, some at a time."""
    connection: Any
    if url.startswith("postgresql://"):
        connection = psycopg.connect(url, connect_timeout=10)
        cursor = connection.cursor("bare")
        cursor.itersize = ROWS_AT_ONCE
    else:
        connection = sqlite3.connect(f"file:{url}?mode=ro", uri=True)
        cursor = connection.cursor()
    cursor.execute(QUERY)
    while rows := cursor.fetchmany(ROWS_AT_ONCE):
        yield list(zip(*rows, strict=True))
    connection.close()


def texts(microseconds: Sequence[int]) -> list[str]:
    """Return times as texts."""
    seconds = {each // 1_000_000 for each in microseconds}
    known = {each: f"{datetime.fromtimestamp(each, UTC):%Y-%m-%dT%H:%M:%S}" for each in seconds}
    return [f"{known[each // 1_000_000]}.{each % 1_000_000:06}Z" for each in microseconds]


class Text:
    """CSV, or lines of JSON."""

    def __init__(self, form: str, names: tuple[str, str]) -> None:
        self._names = names
        self.size = 0
        self.write: Callable[[Columns], None] = {
            "csv": self._csv,
            "wide": self._wide,
            "jsonl": self._jsonl,
        }[form]

    def _csv(self, columns: Columns) -> None:
        self._rows(columns, [columns[4], columns[5]])

    def _wide(self, columns: Columns) -> None:
        found = _values(f"[{','.join(columns[4])}]")
        attributes = [[getattr(each, name) for each in found] for name in ATTRIBUTES]
        self._rows(columns, [*attributes, columns[5], [None] * len(found)])

    def _rows(self, columns: Columns, own: Columns) -> None:
        out = io.StringIO(newline="")
        count = len(columns[0])
        names = ([name] * count for name in self._names)
        times = map(texts, columns[:2])
        csv.writer(out).writerows(zip(*names, *times, *columns[2:4], *own, strict=True))
        self.size += len(out.getvalue().encode())

    def _jsonl(self, columns: Columns) -> None:
        own = zip(*map(texts, columns[:2]), *columns[2:], strict=True)
        for moment, receipt, revision, device_timestamp, value, _ in own:
            line = {
                "kind": "measurement",
                **dict(zip(FRAME, (*self._names, moment, receipt, revision), strict=True)),
                "device_timestamp": device_timestamp,
                "value": msgspec.Raw(value.encode()),
            }
            self.size += len(_encode(line)) + 1

    def end(self) -> int:
        """Return the bytes that were written."""
        return self.size


class Parquet:
    """Row groups, packed as soon as they are complete."""

    def __init__(self, names: tuple[str, str]) -> None:
        self._names = names
        moment = pa.timestamp("us", tz="UTC")
        types = [*[pa.string()] * 2, moment, moment, pa.int64(), pa.float64(), *[pa.string()] * 2]
        fields = (*FRAME, "device_timestamp", "value", "element_id")
        self._schema = pa.schema(list(zip(fields, types, strict=True)))
        self._out = io.BytesIO()
        self._writer = pq.ParquetWriter(self._out, self._schema, compression="zstd")
        self._waiting: list[pa.RecordBatch] = []

    def write(self, columns: Columns) -> None:
        """Take rows."""
        names = ([name] * len(columns[0]) for name in self._names)
        arrays = [
            pa.array(column, field.type)
            for column, field in zip((*names, *columns), self._schema, strict=True)
        ]
        self._waiting.append(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        if len(self._waiting) * ROWS_AT_ONCE >= GROUP_ROWS:
            self._write_group()

    def _write_group(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting), row_group_size=1 << 30)
            self._waiting = []

    def end(self) -> int:
        """Return the bytes that were written."""
        self._write_group()
        self._writer.close()
        return self._out.tell()


def main() -> None:
    given = json.loads(sys.argv[1])
    names = (given["names"][0], given["names"][1])
    wait_for_go()
    counted: list[int] = []
    size = 0
    started, processor, seconds = time.perf_counter(), time.process_time(), 0.0
    while not counted or seconds < given["shortest"]:
        file = Parquet(names) if given["form"] == "parquet" else Text(given["form"], names)
        count = 0
        for columns in read(given["url"]):
            file.write(columns)
            count += len(columns[0])
        size += file.end()
        counted.append(count)
        seconds = time.perf_counter() - started
    report(
        seconds=seconds,
        cpu_seconds=time.process_time() - processor,
        rows=counted,
        bytes=size,
    )


if __name__ == "__main__":
    main()
