"""Lists of sensors on both engines: narrowed and sorted as what is shown of each says."""

import itertools
import json
import random
import uuid

import pytest

from heliograph.access.connected import Connected
from heliograph.http.representation import as_of_now
from heliograph.model.presence import is_late, presence
from heliograph.model.sensor import NewSensor
from heliograph.model.time import MINUTE, SECOND
from heliograph.store.sensors import SORTED_BY, Unwritten

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

INVENTORY = ("manufacturer", "model", "modality")
NOW = 1_700_000_000_000_000


class Known:
    """What of a registry tells of connections."""

    def __init__(self, connected):
        self.connected = connected


async def created(store, members):
    news = [
        NewSensor(identifier=str(uuid.uuid4()), created_at=NOW - 10 * MINUTE + at, **each)
        for at, each in enumerate(members)
    ]
    return [sensor.number for sensor in await store.sensors.create_all(news)]


async def listed(store, **which):
    """Return the numbers of the sensors, read a few at a time."""
    numbers = []
    while True:
        page, total = await store.sensors.list(
            networks=None, offset=len(numbers), limit=70, **which
        )
        numbers += [sensor.number for sensor in page]
        if len(numbers) >= total or not page:
            return numbers


async def everything(store):
    return (await store.sensors.list(networks=None, offset=0, limit=1_000))[0]


@pytest.mark.parametrize("alone", [True, False])
async def test_who_is_connected_is_whom_presence_says(store, alone):
    cases = list(
        itertools.product(
            (None, "online", "offline"),  # said
            (False, True),  # through a broker
            (1, 3),  # when
            (None, False, True),  # stored as connected, at 2
            (False, True),  # out of service
            (None, "open", "gone"),  # what memory knows
        )
    )
    numbers = await created(store, [{}] * len(cases))
    statuses, connections, connected = [], [], Connected(alone=alone)
    for number, (status, by_broker, at, stored, _, live) in zip(numbers, cases, strict=True):
        if status is not None:
            statuses.append((number, NOW + at, status, by_broker))
        if stored is not None:
            connections.append((number, stored, NOW + 2))
        if live is not None:
            connected.enter(number, NOW + 1)
        if live == "gone":
            connected.leave(number, NOW + 4)
    async with store.engine.transaction() as transaction:
        await transaction.fetch("statuses_store", rows=json.dumps(statuses))
    await store.connections.note(connections)
    for number, (*_, is_inactive, _) in zip(numbers, cases, strict=True):
        if is_inactive:
            await store.sensors.change(number, is_active=False)
    is_open, gone = connected.standing()
    unwritten = Unwritten(is_open, gone, alone=alone, moment=NOW)
    expected = [
        sensor.number
        for sensor in await everything(store)
        if presence(as_of_now(sensor, Known(connected))).connected
    ]
    assert 30 < len(expected) < len(cases) - 30
    assert await listed(store, connected=True, unwritten=unwritten) == expected
    others = await listed(store, connected=False, unwritten=unwritten)
    assert sorted([*expected, *others]) == numbers


async def test_who_is_late_is_who_was_silent_for_longer_than_expected(store):
    ahead = NOW + 2 * MINUTE
    cases = list(
        itertools.product(
            (None, 30 * SECOND, 5 * MINUTE, 20 * MINUTE),  # expected
            (None, NOW - 6 * MINUTE, NOW - MINUTE, ahead),  # seen, as is stored
            (None, NOW - 3 * MINUTE, NOW - 20 * SECOND),  # seen, as memory knows
            (False, True),  # out of service
        )
    )
    members = [{"expected_interval": interval} for interval, *_ in cases]
    numbers = await created(store, members)
    touched, noted, expected = [], [], []
    for number, (interval, stored, known, is_inactive) in zip(numbers, cases, strict=True):
        if stored is not None:
            touched.append((number, stored, None))
        if known is not None:
            noted.append((number, known, None))
        if is_inactive:
            await store.sensors.change(number, is_active=False)
        times = [at for at in (stored, known) if at is not None and at != ahead]
        silent = NOW - max(times, default=NOW - 10 * MINUTE)
        if interval is not None and not is_inactive and silent > interval + 100:
            expected.append(number)
    await store.sensors.touch(touched)
    unwritten = Unwritten(noted=noted, alone=True, moment=NOW)
    assert len(expected) > 10
    assert await listed(store, late=True, unwritten=unwritten) == expected
    others = await listed(store, late=False, unwritten=unwritten)
    assert sorted([*expected, *others]) == numbers
    # What memory does not know anything of is as the store has it.
    alone = Unwritten(moment=NOW)
    stored = [
        sensor.number
        for sensor in await everything(store)
        if is_late(sensor, sensor.last_seen_at if sensor.last_seen_at != ahead else None, NOW)
    ]
    assert await listed(store, late=True, unwritten=alone) == stored


async def test_a_text_is_found_in_every_text_of_a_sensor(store):
    texts = (
        "device_id",
        "sensor_name",
        "name",
        "serial_number",
        "manufacturer",
        "model",
        "modality",
    )
    members = [{name: f"A-{at}_x"} for at, name in enumerate(texts)]
    members += [{"name": "100 %"}, {"name": "a_b"}, {"name": "a!b"}, {"name": "Küche"}, {}]
    numbers = await created(store, members)
    for at in range(len(texts)):
        assert await listed(store, text=f"a-{at}_X") == [numbers[at]]
    found = {
        text: await listed(store, text=text)
        for text in ("%", "_", "!", "a_b", "kÜche", "küCHE", "x")
    }
    assert found["%"] == [numbers[7]]
    assert found["_"] == [*numbers[:7], numbers[8]]
    assert (found["!"], found["a_b"]) == ([numbers[9]], [numbers[8]])
    assert (found["küCHE"], found["x"]) == ([numbers[10]], numbers[:7])
    sensor = (await everything(store))[-1]
    assert await listed(store, text=sensor.identifier[4:20].upper()) == [sensor.number]
    assert await listed(store, text="a-", manufacturer="A-4_x") == [numbers[4]]
    assert await listed(store, text="nothing") == []


async def test_sensors_are_sorted_by_each_of_their_members(store):
    chosen = random.Random(7)
    words = ["B", "a", "ä", "Z", "ab", "A ", "10", "9", "", "日本"]
    unique = ("device_id", "sensor_name", "serial_number")
    members = []
    for at in range(40):
        each = {
            name: chosen.choice(words) for name in ("name", "manufacturer", "model", "modality")
        }
        each |= {name: f"{chosen.choice('aBcD')}{at}" for name in unique}
        members.append({name: text for name, text in each.items() if chosen.random() < 0.8})
    numbers = await created(store, members)
    touched = [
        (number, NOW - chosen.randrange(9) * SECOND, chosen.choice([None, NOW - 5, NOW - 9]))
        for number in chosen.sample(numbers, 30)
    ]
    await store.sensors.touch(touched)
    noted = [(number, NOW + 1, NOW + 2) for number in chosen.sample(numbers, 5)]
    unwritten = Unwritten(noted=noted, moment=NOW)
    shown = {}
    for sensor in await everything(store):
        shown[sensor.number] = {name: getattr(sensor, name) for name in SORTED_BY}
    for number, seen, measured in noted:
        shown[number] |= {"last_seen_at": seen, "last_measurement_at": measured}

    def key(name, number):
        value = shown[number][name]
        if isinstance(value, str):
            lower = "".join(c.lower() if c.isascii() else c for c in value)
            return lower.encode()
        return value

    for name in SORTED_BY:
        having = [number for number in numbers if shown[number][name] is not None]
        without = [number for number in numbers if shown[number][name] is None]
        ascending = sorted(having, key=lambda number: key(name, number))
        descending = sorted(having, key=lambda number: key(name, number), reverse=True)
        # Those alike are in the order of their creation, either way.
        descending = [
            number
            for _, alike in itertools.groupby(descending, key=lambda number: key(name, number))
            for number in sorted(alike)
        ]
        assert await listed(store, sort=name, unwritten=unwritten) == [*ascending, *without], name
        assert await listed(store, sort=f"-{name}", unwritten=unwritten) == [*descending, *without]
