"""Pages of an export: every row of a range once, in an order that can be gone on with."""

import io
import uuid

import pyarrow.parquet as pq

from heliograph.exchange.formats import EXPORTED_KINDS, Format
from heliograph.exchange.pages import Range, each_of, pages, sensors_of
from heliograph.exchange.parquet import Packing
from heliograph.model.records import Kind
from heliograph.store.engine import Batch
from heliograph.store.telemetry import ExportedSensor
from rows import NOON, heartbeat, log, measurement

ALL = Range(EXPORTED_KINDS, 0, 1 << 62)


async def sensor(store, device_id, network=None):
    found = await store.sensors.create(
        identifier=str(uuid.uuid4()),
        device_id=device_id,
        created_at=NOON,
        network_identifier=network,
    )
    return ExportedSensor(found.number, found.identifier, device_id)


async def collected(found):
    return [page async for page in found]


def lines(found):
    return b"".join(page.data for page in found).splitlines()


async def test_every_row_of_every_sensor_once(store):
    first, second = [await sensor(store, name) for name in ("a", "b")]
    rows = [measurement(first.number, NOON + number // 3, number) for number in range(3_000)]
    rows += [measurement(second.number, NOON, 1)]
    logs = [log(first.number, NOON + number) for number in range(40)]
    beats = [heartbeat(second.number, success=True)]
    await store.write(Batch(measurements=rows, logs=logs, heartbeats=beats))
    found = await collected(pages(store, sensors_of(store, None), ALL, Format.JSONL))
    every = lines(found)
    assert len(every) == len(set(every)) == 3_042 == sum(page.rows for page in found)
    assert max(page.rows for page in found) <= 1_000
    assert b'"success":true' in every[-1]


async def test_any_position_is_gone_on_from(store):
    first, second = [await sensor(store, name) for name in ("a", "b")]
    for one in (first, second):
        rows = [measurement(one.number, NOON + number // 3, number) for number in range(70)]
        logs = [log(one.number, fingerprint=number) for number in range(20)]
        await store.write(Batch(measurements=rows, logs=logs))
    whole = await collected(pages(store, sensors_of(store, None), ALL, Format.JSONL))
    for index, page in enumerate(whole):
        position = page.position
        rest = pages(store, sensors_of(store, None, position), ALL, Format.JSONL, position)
        assert lines(whole[: index + 1]) + lines(await collected(rest)) == lines(whole)


async def test_start_is_inclusive_and_end_exclusive(store):
    only = await sensor(store, "a")
    rows = [measurement(only.number, NOON + number, number) for number in range(5)]
    await store.write(Batch(measurements=rows))
    wanted = Range((Kind.MEASUREMENT,), NOON + 1, NOON + 3)
    found = await collected(pages(store, each_of(only), wanted, Format.CSV))
    # Behind the value the element's id would be.
    values = [line.split(b",")[-2:] for line in lines(found)]
    assert values == [[b"1", b""], [b"2", b""]]


async def test_a_network_has_its_own_sensors_and_no_deleted_ones(store):
    identifier = str(uuid.uuid4())
    await store.networks.create(identifier=identifier, name="x", created_at=NOON, owner=None)
    await sensor(store, "elsewhere")
    mine = [await sensor(store, name, identifier) for name in ("a", "b")]
    gone = await sensor(store, "gone", identifier)
    await store.sensors.delete(gone.number, NOON)
    assert [found async for found in sensors_of(store, identifier)] == mine


async def test_large_values_make_small_pages(store):
    only = await sensor(store, "a")
    rows = [measurement(only.number, NOON + number, "x" * 50_000) for number in range(100)]
    await store.write(Batch(measurements=rows))
    found = await collected(pages(store, each_of(only), ALL, Format.CSV))
    assert sum(page.rows for page in found) == 100
    assert max(page.rows for page in found) == 16


async def test_pages_of_parquet_are_the_rows_of_either_engine(store):
    only = await sensor(store, "a")
    beats = [
        heartbeat(only.number, NOON + number, fingerprint=number, success=success)
        for number, success in enumerate((True, False, None))
    ]
    rows = [measurement(only.number, NOON + number, number) for number in range(50)]
    await store.write(Batch(measurements=rows, heartbeats=beats))
    for kind, column, expected in (
        (Kind.HEARTBEAT, "success", [True, False, None]),
        (Kind.MEASUREMENT, "value", [str(number) for number in range(50)]),
    ):
        wanted = Range((kind,), 0, 1 << 62)
        packing = Packing(kind)
        found = await collected(pages(store, each_of(only), wanted, Format.PARQUET))
        data = b"".join([packing.add(page.data) for page in found]) + packing.end()
        assert pq.read_table(io.BytesIO(data))[column].to_pylist() == expected
