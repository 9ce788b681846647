"""One reading is one row, whichever ways it comes in, goes out and comes in again."""

import itertools
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heliograph.access.authenticator import ADMIN
from heliograph.exchange.formats import Format
from heliograph.http import history
from heliograph.http.answers import encode
from heliograph.ingest.decode import decode_reading
from heliograph.model.canonical import canonical
from heliograph.model.records import Kind
from heliograph.model.time import now
from heliograph.store.pages import GREATEST
from ingest_core import NOON
from unit.exchange.test_round_trip import read_back, written
from unit.ingest.payloads import decode_readings, keys, values

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

FRAME = {"timestamp", "revision", "id", "device_id"}
names = itertools.count()
ids = st.text("ab:é ", min_size=1, max_size=2) | st.just(str(NOON * 10**9))
times = st.integers(NOON, NOON + 2) | st.sampled_from([NOON + 0.5, "2026-01-15T12:00:00Z"])
frames = st.fixed_dictionaries(
    {"timestamp": times}, optional={"revision": st.integers(0, 1), "id": ids}
)
measured = values | st.dictionaries(keys, values, max_size=2) | st.sampled_from([1, {"value": 1}])
EXPORTS = [Format.CSV, Format.JSONL, Format.PARQUET]


def elements_of(frame, value):
    """Every element that says the same."""
    bare = value
    if isinstance(value, dict) and value.keys() == {"value"} and type(value["value"]) is not dict:
        bare = value["value"]
    shapes = [{"value": value}, {"value": bare}]
    if not isinstance(bare, dict):
        shapes += [{"value": {"value": bare}}, {"metrics": {"value": bare}}]
    elif bare:
        shapes.append({"metrics": bare})
        flat = bare.keys().isdisjoint({*FRAME, "value", "metrics", "measurements"})
        if flat and any(type(member) in {int, float, bool, str} for member in bare.values()):
            shapes.append(bare)
    return [{**shape, **frame} for shape in shapes]


def told(frame, value):
    """What tells a reading without an id from others."""
    if isinstance(value, dict) and value.keys() == {"value"} and type(value["value"]) is not dict:
        value = value["value"]
    moment = NOON if isinstance(frame["timestamp"], str) else frame["timestamp"]
    return str((float(moment), frame.get("revision"), canonical(value)))


# --- the ways in -----------------------------------------------------------------------------


async def published(core, sensor, elements):
    for message in ({"measurements": elements}, elements, *elements[:1]):
        await core.publish(f"measurements/{sensor.identifier}", message)
    await core.settled()


async def posted(core, sensor, elements):
    for body in ({"measurements": elements}, elements):
        outcome = await core.post(sensor, body, kind=Kind.MEASUREMENT)
        assert outcome.faults == []


async def ingested(core, sensor, elements):
    for element in elements:
        body = json.dumps(element).encode()
        given_reading = [(0, sensor, decode_reading(body, now()))]
        await core.http.post_readings(given_reading, [], body, ADMIN, "POST /ingest")


async def batched(core, sensor, elements):
    for message in ({"readings": elements}, elements):
        body = json.dumps(message).encode()
        readings, faults = decode_readings(body, now())
        assert faults == []
        parts = [(index, sensor, reading) for index, reading in readings]
        await core.http.post_readings(parts, [], body, ADMIN, "POST /ingest/batch")


WAYS = [published, posted, ingested, batched]


async def imported(core, sensor, kind, exported):
    """Post what the import makes of an export; return how many rows were stored."""
    stored = 0
    for form in EXPORTS:
        elements = read_back(form, kind, written(form, kind, exported))
        body = b"[%b]" % b",".join([element.text for element in elements])
        outcome = await core.post(sensor, body, kind=kind)
        assert outcome.faults == []
        assert len(outcome.accepted) == len(exported)
        stored += sum(not accepted.duplicate for accepted in outcome.accepted)
    return stored


async def export(core, sensor, kind):
    return await core.store.exports.page(
        kind, sensor.number, (0, -GREATEST), until=GREATEST, limit=10_000
    )


def lasting(exported):
    """What another server has of an export: all but when it was received there."""
    return [(row[0], row[1], *row[3:]) for row in map(tuple, exported)]


# --- what holds ------------------------------------------------------------------------------


@given(
    said=st.lists(st.tuples(frames, measured), min_size=1, max_size=5),
    ways=st.permutations(WAYS),
)
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
async def test_one_reading_by_all_ways_in_and_out_is_one_row(core, said, ways):
    sensor = await core.device(f"pump-{next(names)}")
    rejected = await core.reasons()
    first = {}
    for frame, value in said:
        name = frame.get("id")
        first.setdefault(told(frame, value) if name is None else ("id", name), value)
    for way in ways:
        for frame, value in said:
            await way(core, sensor, elements_of(frame, value))
    rows = await core.rows(sensor)
    assert len(rows) == len(first)
    # Pages give back what was sent.
    assert sorted(bytes(row.value) for row in rows) == sorted(map(canonical, first.values()))

    entries = json.loads(encode(history._entries(sensor, rows)))
    for way in ways:
        await way(core, sensor, entries)
    assert await core.rows(sensor) == rows

    exported = await export(core, sensor, Kind.MEASUREMENT)
    assert await imported(core, sensor, Kind.MEASUREMENT, exported) == 0
    assert await core.rows(sensor) == rows
    assert await core.reasons() == rejected

    other = await core.device(f"pump-{next(names)}")
    assert await imported(core, other, Kind.MEASUREMENT, exported) == len(rows)
    assert lasting(await export(core, other, Kind.MEASUREMENT)) == lasting(exported)
    for way in ways:
        for frame, value in said:
            await way(core, other, elements_of(frame, value))
    assert len(await core.rows(other)) == len(rows)
