"""Messages of all kinds by their ingest ids, on both engines, against a plain model."""

import asyncio
import json
import random

import pytest

from heliograph.model.canonical import canonical
from heliograph.model.identifiers import first_ingest_id
from heliograph.model.records import Kind
from heliograph.model.retention import Retention
from heliograph.model.time import DAY, SECOND, now
from heliograph.retention.plan import DueCounter
from heliograph.retention.runs import RetentionRuns
from heliograph.store import messages
from heliograph.store.engine import Batch
from heliograph.store.messages import KINDS, WantedMessages
from heliograph.store.removal import KeptKind
from packing_rows import pack_range
from rows import NOON, measurement


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Have stretches of few rows, so that a search takes many of them."""
    for name, rows in (("MOST_OF_STRETCH", 40), ("FEW_OF_SENSOR", 12), ("_CONTENTS_AT_ONCE", 7)):
        monkeypatch.setattr(messages, name, rows)
    monkeypatch.setattr(messages, "SEARCH_SECONDS", 60)


async def filled(store, register, count=240):
    """Store messages of four sensors and of none, dense and sparse; return them, newest first."""
    chance, known = random.Random(7), []
    sensors = [await register() for _ in range(4)]
    batch, stored = Batch(), []
    moment = now() - SECOND
    for number in range(count):
        # Bursts of a millisecond, and gaps of up to minutes.
        moment -= chance.choice((0, 0, 0, 1_000, 2_000, 50_000, 90 * SECOND))
        row_id = first_ingest_id(moment) + (count - number << 9)
        kind = chance.choice((Kind.MEASUREMENT,) * 6 + KINDS)
        # The last has few rows.
        place = 3 if number % 50 == 7 else chance.randrange(3)
        sensor = None if kind in (Kind.PACKET, Kind.REJECTED) and number % 3 else sensors[place]
        numbered = None if sensor is None else sensor.number
        frame = row_id, numbered, moment, number, moment
        payload = {"t": number % 5, "name": f"n{number % 3}"}
        text = json.dumps(payload, separators=(",", ":"))
        if kind is Kind.MEASUREMENT:
            batch.measurements.append((*frame, None, None, text))
        elif kind is Kind.LOG:
            payload = {"severity": "info", "subject": "s", "details": None}
            batch.logs.append((*frame, None, None, "info", "s", None))
        elif kind is Kind.HEARTBEAT:
            payload = {"success": True, **payload}
            batch.heartbeats.append((*frame, None, None, True, text))
        elif kind is Kind.PACKET:
            batch.packets.append((*frame, f"d{number}", None, "admin", "packets/d", text))
            if sensor is not None:
                batch.measurements.append((*frame, None, None, text))
        else:
            payload, reason = "{", "WRONG_TYPE" if number % 2 else "MALFORMED_JSON"
            entry = row_id, moment, numbered, "device:d", "POST /x", b"{", 1, reason, "why", None
            batch.rejected.append(entry)
        if number in (5, 120, 121):
            key = "", number, 0, moment, number, row_id, None, "publish", "{}", moment, moment
            batch.actions.append(key)
        stored.append((row_id, kind, numbered, payload))
        known.append(moment)
    batch.sort()
    await store.write(batch)
    return sensors, sorted(stored, key=lambda each: -each[0])


async def packed_in_pieces(store, sensors, start, end):
    """Pack what lies between two times, but for a gap, in chunks of a few rows."""
    for sensor in sensors:
        third = (end - start) // 3
        await pack_range(store.chunks, sensor, start, start + third)
        await pack_range(store.chunks, sensor, start + third + third // 8, end)


@pytest.fixture(params=[False, True], ids=["rows", "packed"])
def pack(request, store, monkeypatch):
    """Pack the measurements of sensors between two times, or do not."""
    for name in ("heliograph.packed.chunk", "heliograph.packed.pieces", "heliograph.store.chunks"):
        monkeypatch.setattr(f"{name}.MAXIMUM_ROWS", 9)
    monkeypatch.setattr("heliograph.store.packed_messages._LISTED_AT_ONCE", 5)
    monkeypatch.setattr("heliograph.store.packed_messages._OPENED_AT_ONCE", 2)
    monkeypatch.setattr("heliograph.store.packed_messages._KEPT", 3)

    async def pack(sensors, start, end):
        if request.param:
            await packed_in_pieces(store, sensors, start, end)
            assert await store.engine.fetch("packed_newest_id")

    return pack


async def read(store, **wanted):
    """Return all pages of a search, and the first one."""
    found, first, before = [], None, None
    while True:
        page = await store.messages.page(WantedMessages(0, before=before, **wanted))
        first = first or page
        found += page.messages
        if page.cursor is None:
            return found, first
        assert before is None or page.cursor < before
        before = page.cursor


async def test_pages_are_what_a_plain_model_says(store, register, pack):
    sensors, stored = await filled(store, register)
    await pack([sensor.number for sensor in sensors], 0, now())
    by_id = {row_id: payload for row_id, _, _, payload in stored}
    networks = [sensors[0].network_identifier]
    pending = {
        row[0]
        for row in await store.engine.fetch(
            "messages_unprocessed", names=json.dumps([[i] for i in by_id])
        )
    }

    def at(payload, key):
        return payload.get(key) if isinstance(payload, dict) else None

    cases = [
        ({}, lambda *_: True),
        ({"kinds": [Kind.PACKET, Kind.LOG]}, lambda _, kind, *__: kind in (Kind.PACKET, Kind.LOG)),
        ({"networks": networks}, lambda _, __, sensor, ___: sensor is not None),
        ({"networks": []}, lambda *_: False),
        ({"reason": "WRONG_TYPE"}, None),
        ({"key": "t", "value": "3"}, lambda *row: at(row[3], "t") == 3),
        ({"key": "t", "value": "3.0", "networks": networks},
         lambda *row: at(row[3], "t") == 3 and row[2] is not None),
        ({"key": "name", "value": "n1"}, lambda *row: at(row[3], "name") == "n1"),
        ({"key": "t"}, lambda *row: at(row[3], "t") is not None),
        ({"processed": False}, lambda *row: row[0] in pending),
        ({"processed": True}, lambda *row: row[0] not in pending),
    ]  # fmt: skip
    for sensor in sensors:
        cases += [
            ({"sensor": sensor.number}, lambda *row, s=sensor.number: row[2] == s),
            ({"sensor": sensor.number, "key": "t", "value": "2", "processed": True},
             lambda *row, s=sensor.number: (
                 row[2] == s and at(row[3], "t") == 2 and row[0] not in pending)),
        ]  # fmt: skip
    for wanted, model in cases:
        found, first = await read(store, **wanted, limit=70)
        ids = [each.id for each in found]
        if model is None:
            assert {each.reason for each in found} == {"WRONG_TYPE"}
            continue
        expected = [row[0] for row in stored if model(*row)]
        assert ids == expected, wanted
        assert (first.total, first.is_lower_bound) == (len(expected), False), wanted
        for each in found:
            assert json.loads(each.payload) == by_id[each.id]
            assert each.processed is (each.id not in pending)
    for row_id, kind, sensor, payload in stored[::9]:
        message = await store.messages.find(row_id, networks=None, sensor=None)
        assert (message.kind, message.sensor) == (kind, sensor)
        assert kind is Kind.REJECTED or json.loads(message.payload) == payload
    assert await store.messages.find(stored[9][0] + 1, networks=None, sensor=None) is None


SAID = (
    22.5, 22, 22.0, "22.5", "on", True, False, None, 1, "true", "null", "", 1e16, -0.0, {"a": 1},
    [True], [1], 'qu"ote', "ü", {"t": "on"},
)  # fmt: skip
ASKED = (
    "22.5", "22.50", "22", "2.2e1", '"22.5"', "on", '"on"', "true", "null", "1", "1.0", "0",
    "10000000000000000", '{"a":1.0}', "[1]", "[true]", 'qu"ote', "ü", "off", "", None,
)  # fmt: skip
PLACES = {"t": ("t",), "air.t": ("air", "t"), "dot\\.ted": ("dot.ted",), "air": ("air",)}


def same(one, other):
    """Return whether two values are the same JSON; Python takes true for 1."""
    return json.dumps(one, sort_keys=True).replace(".0", "") == json.dumps(
        other, sort_keys=True
    ).replace(".0", "")


def says(payload, keys, asked):
    for key in keys:
        if not isinstance(payload, dict) or key not in payload:
            return False
        payload = payload[key]
    if asked is None or payload == asked:
        return True
    try:
        wanted = json.loads(asked)
    except ValueError:
        return False
    if isinstance(payload, int | float) and not isinstance(payload, bool):
        return isinstance(wanted, int | float) and payload == wanted and wanted is not True
    return same(payload, wanted)


async def test_rows_that_come_while_they_are_looked_for_end_no_search_in_a_circle(
    store, sensor, monkeypatch
):
    begin, fetch = first_ingest_id(now() - SECOND // 2), store.engine.fetch
    rows = [(begin + at, sensor, NOON + at, at, NOON, None, None, "1") for at in range(60)]
    await store.write(Batch(measurements=rows))
    asked = []

    async def late(query, **parameters):
        asked.append(query)
        # As it was before they came.
        is_first = asked.count("messages_stretch") == 1 and query == "messages_stretch"
        return [(0, None)] if is_first else await fetch(query, **parameters)

    monkeypatch.setattr(store.engine, "fetch", late)
    wanted = WantedMessages(
        now() - 60 * SECOND, None, KINDS, None, None, None, None, None, None, None, 5
    )
    async with asyncio.timeout(20):
        page = await store.messages.page(wanted)
    assert [each.id for each in page.messages] == [row[0] for row in rows[:-6:-1]]
    assert page.total == 60


@pytest.mark.parametrize(("most", "together"), [(1, {1}), (1 << 20, {8})])
async def test_chunks_are_opened_together_by_their_bytes(
    store, sensor, monkeypatch, most, together
):
    for name in ("heliograph.packed.chunk", "heliograph.packed.pieces", "heliograph.store.chunks"):
        monkeypatch.setattr(f"{name}.MAXIMUM_ROWS", 9)
    monkeypatch.setattr("heliograph.store.packed_messages._OPENED_BYTES", most)
    monkeypatch.setattr("heliograph.store.packed_messages._KEPT_BYTES", most)
    begin, fetch = first_ingest_id(NOON), store.engine.fetch
    # In the order of their times each chunk has ids that lie among those of all others.
    rows = [
        (begin + at, sensor, NOON + at % 8 * SECOND + at, at, NOON, None, None, "1")
        for at in range(72)
    ]
    await store.write(Batch(measurements=rows))
    await pack_range(store.chunks, sensor, NOON, NOON + 7 * SECOND + 71)
    sizes = set()

    async def counting(query, **parameters):
        if query == "chunks_by_id":
            sizes.add(len(json.loads(parameters["ids"])))
        return await fetch(query, **parameters)

    monkeypatch.setattr(store.engine, "fetch", counting)
    found, _ = await read(store)
    assert [each.id for each in found] == [row[0] for row in reversed(rows)]
    assert sizes == together


async def test_any_filters_together_are_what_a_list_in_memory_says(
    store, register, monkeypatch, pack
):
    monkeypatch.setattr(messages, "MOST_OF_STRETCH", 150)
    chance = random.Random(14)
    sensors = [(await register()).number for _ in range(3)]
    stored, batch, end = [], Batch(), now() - SECOND
    for number in range(400):
        moment = end - number * chance.choice((1_000, 700_000))
        row_id = first_ingest_id(moment) + number
        kind, sensor = chance.choice(KINDS), chance.choice(sensors)
        keys = chance.choice(list(PLACES.values()))
        payload = chance.choice(SAID)
        for key in reversed(keys):
            payload = {key: payload}
        text, frame = canonical(payload).decode(), (row_id, sensor, moment, number, moment)
        reason = None
        if kind is Kind.MEASUREMENT:
            batch.measurements.append((*frame, None, None, text))
        elif kind is Kind.LOG:
            payload = {"severity": "info", "subject": f"s{number % 3}", "details": None}
            batch.logs.append((*frame, None, None, "info", payload["subject"], None))
        elif kind is Kind.HEARTBEAT:
            batch.heartbeats.append((*frame, None, None, None, text))
            payload = {"success": None, **payload}
        elif kind is Kind.PACKET:
            batch.packets.append((*frame, "d", None, "admin", "packets/d", text))
        else:
            reason = chance.choice(("WRONG_TYPE", "MALFORMED_JSON"))
            entry = row_id, moment, sensor, "d", "t", text.encode(), 1, reason, "why", None
            batch.rejected.append(entry)
        is_pending = kind is Kind.PACKET and chance.random() < 0.5
        if is_pending:
            key = "", number, 0, moment, number, row_id, None, "publish", "{}", moment, moment
            batch.actions.append(key)
        stored.append((row_id, kind, sensor, payload, is_pending, reason, moment))
    batch.sort()
    await store.write(batch)
    await pack(sensors, end - 500 * SECOND, end - SECOND // 2)
    stored.sort(reverse=True)
    places = {**PLACES, "severity": ("severity",), "success": ("success",)}
    found_any = 0
    for _ in range(80):
        key = chance.choice((None, None, "t", "t", *places))
        wanted = {
            "kinds": chance.choice((KINDS, KINDS, chance.sample(KINDS, 3))),
            "sensor": chance.choice((None,) * 5 + (sensors[0],)),
            "processed": chance.choice((None, None, None, True, False)),
            "reason": chance.choice((None,) * 7 + ("WRONG_TYPE",)),
            "key": key,
            "value": key and chance.choice((None, *ASKED, *ASKED[:10])),
            "end": chance.choice((None, end - 60 * SECOND + 500)),
        }
        start = chance.choice((0, end - 200 * SECOND))
        expected = [
            row_id
            for row_id, kind, sensor, payload, is_pending, reason, moment in stored
            if kind in wanted["kinds"]
            and wanted["sensor"] in (None, sensor)
            and wanted["processed"] in (None, not is_pending)
            and wanted["reason"] in (None, reason)
            and (key is None or says(payload, places[key], wanted["value"]))
            and start // 1_000 <= moment // 1_000
            and (wanted["end"] is None or moment // 1_000 < wanted["end"] // 1_000)
        ]
        ids, total, before, limit = [], None, None, chance.choice((17, 60, 1_000))
        while before is not None or total is None:
            page = await store.messages.page(
                WantedMessages(start, before=before, limit=limit, **wanted)
            )
            assert len(page.messages) <= limit
            assert page.total == len(expected) - len(ids), wanted
            total = page.total
            ids += [each.id for each in page.messages]
            before = page.cursor
        assert ids == expected, wanted
        found_any += bool(expected)
    assert 25 < found_any < 80


async def test_pages_have_each_message_once_while_others_arrive(store, register):
    sensor = (await register()).number
    rows = [measurement(sensor, NOON + n, n, fingerprint=n) for n in range(90)]
    moment = now()

    async def arrive(some):
        # Of one receipt each, like those that are there; all newer than what was read.
        await store.write(
            Batch(
                measurements=[(first_ingest_id(moment - SECOND) + row[3], *row[1:]) for row in some]
            )
        )

    await arrive(rows[:60])
    ids, before = [], None
    for at in range(60, 90, 5):
        page = await store.messages.page(WantedMessages(0, limit=10, before=before))
        ids += [each.id for each in page.messages]
        before = page.cursor
        await arrive(rows[at : at + 5])
    assert before is None
    assert ids == [first_ingest_id(moment - SECOND) + row[3] for row in rows[59::-1]]


@pytest.mark.parametrize(("room", "count"), [(1, 80), (4 * messages.ENTRY_BYTES, 240)])
async def test_a_page_ends_by_bytes_and_nothing_is_missed(
    store, register, monkeypatch, room, count
):
    _, stored = await filled(store, register, count)
    monkeypatch.setattr(messages, "LARGEST_PAGE", room)
    # Of what is larger by itself, one by one.
    for wanted in ({}, {"key": "t", "value": "3"}):
        found, first = await read(store, **wanted)
        assert 1 <= len(first.messages) <= max(1, room // messages.ENTRY_BYTES)
        payloads = (row[3] if isinstance(row[3], dict) else {} for row in stored)
        ids = [
            row[0]
            for row, payload in zip(stored, payloads, strict=True)
            if not wanted or payload.get("t") == 3
        ]
        assert ids
        assert [each.id for each in found] == ids


async def test_a_message_that_comes_after_the_count_leads_on_to_the_next_page(
    store, register, monkeypatch
):
    sensor, moment = await register(), now() - SECOND

    async def add(at):
        row = first_ingest_id(moment) + at, sensor.number, moment, at, moment
        await store.write(Batch(measurements=[(*row, None, None, "{}")]))

    for at in range(3):
        await add(at)
    counted, later, fetch = asyncio.Event(), [], store.engine.fetch

    async def slow(query, **parameters):
        if query == "messages_names" and not later:
            await counted.wait()
            later.append(3)
            await add(3)
        rows = await fetch(query, **parameters)
        if query == "messages_count":
            counted.set()
        return rows

    monkeypatch.setattr(store.engine, "fetch", slow)
    page = await store.messages.page(WantedMessages(0, limit=3))
    assert (len(page.messages), page.total) == (3, 4)
    assert page.cursor == page.messages[-1].id


async def test_a_search_is_bounded_in_what_it_counts_and_looks_at(store, register, monkeypatch):
    sensors, stored = await filled(store, register)
    monkeypatch.setattr(messages, "MOST_COUNTED", 100)
    _, first = await read(store, limit=10)
    assert (first.total, first.is_lower_bound) == (100, True)
    monkeypatch.setattr(messages, "MOST_SCANNED", 60)
    # Nothing is like it: each answer looks at a part, and says from where to go on.
    pages, before = 0, None
    while pages == 0 or before is not None:
        page = await store.messages.page(
            WantedMessages(
                0, before=before, key="t", value="77", networks=[sensors[0].network_identifier]
            )
        )
        assert page.messages == []
        assert page.is_lower_bound is (page.cursor is not None)
        before, pages = page.cursor, pages + 1
    assert 3 <= pages < 10
    assert len(stored) == 240


async def test_a_search_that_is_out_of_time_goes_on_from_where_it_stopped(
    store, register, monkeypatch
):
    _, stored = await filled(store, register)
    monkeypatch.setattr(messages, "SEARCH_SECONDS", 0)
    monkeypatch.setattr(messages, "FEWEST_SCANNED", 20)
    wanted = [row[0] for row in stored if isinstance(row[3], dict) and row[3].get("t") == 3]
    found, first = await read(store, key="t", value="3")
    assert [each.id for each in found] == wanted
    assert first.is_lower_bound
    assert 0 < first.total < len(wanted)


async def test_a_search_that_is_out_of_time_looks_at_no_more_in_its_next_stretch(
    store, register, monkeypatch
):
    await filled(store, register)
    monkeypatch.setattr(messages, "SEARCH_SECONDS", 0)
    monkeypatch.setattr(messages, "FEWEST_SCANNED", 20)
    # All have it: as many are counted as are looked at.
    wanted = WantedMessages(0, kinds=[Kind.MEASUREMENT], key="t", limit=1_000)
    totals, page = [], await store.messages.page(wanted)
    while page.cursor is not None:
        totals.append(page.total)
        page = await store.messages.page(wanted._replace(before=page.cursor))
    assert len(totals) > 5
    assert max(totals) < 20 + messages._CONTENTS_AT_ONCE


async def test_who_sees_some_networks_or_all_finds_the_messages_of_their_sensors(store, register):
    sensors, stored = await filled(store, register)
    network = sensors[0].network_identifier
    other = "7b6f7a3c-93c5-4ed8-a0e0-3f6f0ec3bb01"
    await store.networks.create(identifier=other, name="other", created_at=1, owner=None)
    await store.sensors.change(sensors[1].number, network_identifier=other)
    for networks, numbers in (
        ([network], {sensors[n].number for n in (0, 2, 3)}),
        ([other], {sensors[1].number}),
        ([network, other], {each.number for each in sensors}),
    ):
        found, _ = await read(store, networks=networks, limit=30)
        assert [each.id for each in found] == [row[0] for row in stored if row[2] in numbers]


async def test_packets_go_with_logs_or_with_their_sensor(store, register):
    kept, erased, networks = await register(), await register(), store.retentions
    moment, day = now(), 86_400 * SECOND
    packets = [
        (row_id, number, moment - age * day, 1, moment, f"d{row_id}", None, "admin", "p", "{}")
        for row_id, (number, age) in enumerate(
            [(kept.number, 3), (kept.number, 1), (None, 5), (None, 1), (erased.number, 1)], 1
        )
    ]
    actions = [("", 0, erased.number, 1, 1, 5, None, "publish", "{}", 1, 1)]
    await store.write(Batch(packets=packets, actions=actions))

    async def swept(days):
        planned = await DueCounter(store, Retention(0, 0, days), moment).totals()
        runs = RetentionRuns(store, Retention(0, 0, days), clock=lambda: moment)
        await runs.sweep(moment)
        assert runs.state.removed_total[KeptKind.PACKETS] == planned[KeptKind.PACKETS].rows
        return planned[KeptKind.PACKETS].rows

    async def left():
        page = await store.messages.page(WantedMessages(0, before=100, end=moment))
        return [each.id for each in page.messages]

    assert await left() == [5, 4, 3, 2, 1]
    assert await swept(0) == 0
    assert await swept(4) == 1
    await networks.set_sensor(kept.number, log_days=2)
    assert await swept(0) == 1
    assert await left() == [5, 4, 2]
    await store.sensors.delete(erased.number, moment)
    await store.sensors.erase(erased.number)
    assert await left() == [4, 2]
    assert await store.actions.waiting(1) == 0


async def stored_and_packed(store, register, sensors=4, count=60):
    """Store the same times of several sensors, all packed but the newest; return the ids."""
    numbers = [(await register()).number for _ in range(sensors)]
    moment, ids = now() - DAY, []
    batch = Batch()
    for at in range(count):
        for sensor in numbers:
            time = moment + at * SECOND
            row_id = first_ingest_id(time) + sensor
            batch.measurements.append((row_id, sensor, time, at, time, None, None, f'{{"t":{at}}}'))
            ids.append(row_id)
    batch.sort()
    await store.write(batch)
    for sensor in numbers:
        await pack_range(store.chunks, sensor, 0, now())
    return numbers, ids[::-1]


@pytest.mark.parametrize("wanted", [{}, {"key": "t"}])
async def test_a_search_that_has_opened_its_chunks_goes_on_from_where_it_stopped(
    store, register, monkeypatch, wanted
):
    monkeypatch.setattr("heliograph.packed.chunk.MAXIMUM_ROWS", 6)
    monkeypatch.setattr("heliograph.packed.pieces.MAXIMUM_ROWS", 6)
    monkeypatch.setattr("heliograph.store.packed_messages._OPENED_AT_ONCE", 1)
    monkeypatch.setattr(messages, "MOST_OPENED", 6)
    sensors, ids = await stored_and_packed(store, register)
    for narrowed in ({}, {"sensor": sensors[0]}):
        found, before, pages = [], None, 0
        while True:
            page = await store.messages.page(
                WantedMessages(0, limit=1_000, before=before, **wanted, **narrowed)
            )
            found += [each.id for each in page.messages]
            pages += 1
            if page.cursor is None:
                break
            assert page.is_lower_bound
            assert before is None or page.cursor < before
            before = page.cursor
        assert found == [each for each in ids if not narrowed or each % 512 == sensors[0]]
        assert pages > 2 or narrowed


async def test_what_more_chunks_lie_around_than_are_opened_is_said(store, register, monkeypatch):
    sensors, ids = await stored_and_packed(store, register)
    before = ids[100]
    whole = await store.messages.page(WantedMessages(0, limit=10, before=before))
    assert ([each.id for each in whole.messages], whole.total) == (ids[101:111], len(ids) - 101)
    assert not whole.is_lower_bound
    monkeypatch.setattr("heliograph.store.packed_messages._OPENED_AT_ONCE", 1)
    monkeypatch.setattr(messages, "MOST_OPENED", 3)
    page = await store.messages.page(WantedMessages(0, limit=10, before=before))
    assert page.is_lower_bound
    assert len(page.messages) == 10
    of_one = await store.messages.page(
        WantedMessages(0, limit=10, before=before, sensor=sensors[0])
    )
    expected = [each for each in ids[101:] if each % 512 == sensors[0]]
    assert [each.id for each in of_one.messages] == expected[:10]
    assert (of_one.total, of_one.is_lower_bound) == (len(expected), False)
    for row_id in ids[100:110]:
        assert await store.messages.find(row_id, networks=None, sensor=None)


@pytest.mark.parametrize("query", ["messages_names", "messages_measurement", "packed_below"])
async def test_what_is_packed_while_it_is_looked_for_is_found_once(
    store, register, monkeypatch, query
):
    sensor = (await register()).number
    moment, fetch, left = now() - DAY, store.engine.fetch, [1]
    rows = [
        (first_ingest_id(moment) + at, sensor, moment + at, at, moment, None, None, str(at))
        for at in range(30)
    ]
    await store.write(Batch(measurements=rows))
    await pack_range(store.chunks, sensor, moment, moment + 3)
    ids = [row[0] for row in rows[::-1]]
    end = [moment + 20]

    async def meanwhile(name, **parameters):
        if name == query and left:
            left.pop()
            # What was packed before is packed anew.
            late = rows[0][0] + 99, sensor, moment + 1, 99, *rows[0][4:]
            await store.write(Batch(measurements=[late]))
            await pack_range(store.chunks, sensor, moment, end[0])
        return await fetch(name, **parameters)

    monkeypatch.setattr(store.engine, "fetch", meanwhile)
    page = await store.messages.page(WantedMessages(0, limit=12, before=ids[5]))
    assert not left
    assert [each.id for each in page.messages] == ids[6:18]


async def test_what_history_answered_and_a_cause_are_found_packed(store, register):
    sensors, ids = await stored_and_packed(store, register, sensors=2)
    [message] = (await store.messages.page(WantedMessages(0, limit=1, before=ids[50]))).messages
    name = message.id, message.sensor, message.timestamp
    others = {(message.id + 1, *name[1:]), (*name[:1], sensors[0] + sensors[1], name[2])}
    assert await store.deliveries.stored(Kind.MEASUREMENT, [name, *others]) == {name}
    assert await store.deliveries.stored(Kind.LOG, [name]) == set()
    [row] = await store.chunks.named({name})
    async with store.rule_states.turn() as turn:
        assert tuple(await turn.row(Kind.MEASUREMENT, *row[1:4]))[:8] == row
        assert await turn.row(Kind.MEASUREMENT, row[1], row[2], row[3] + 1) is None
