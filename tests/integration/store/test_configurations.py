"""Revisions, what is to be published of them, and what heartbeats say of them."""

import asyncio
import contextlib
import json

import pytest

from heliograph.errors import RowError, StoreUnavailableError
from heliograph.model.time import now
from heliograph.store import open_store
from heliograph.store.engine import Batch
from heliograph.store.publications import Postponed, Published
from heliograph.store.queries import Query
from rows import NOON, again, heartbeat

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

MINE, OTHERS = 1, 2
MUCH = 1_000


def published(claimed, number, revision, at=NOON):
    return [Published(each.name, each.version, number, revision, at) for each in claimed]


async def revisions(store, sensor):
    page = await store.configurations.page(sensor, revision=None, direction=None, limit=100)
    return {each.revision: each for each in page}


async def states(store, sensor):
    """Return the states of a sensor's revisions; lists of sensors tell the newest one's."""
    found = await revisions(store, sensor)
    newest = (await store.sensors.revisions([sensor]))[sensor]
    assert (newest.revision, newest.state) == (max(found), found[max(found)].state)
    return [each.state.value for each in found.values()]


async def claimed_names(store, claim=MINE):
    return sorted(each.name for each in await store.publications.claim(claim, now(), MUCH))


# Revisions


async def test_50_writers_of_two_instances_leave_no_gap(store, database_url, register):
    sensor, other = (await register()).number, (await register()).number
    second = await open_store(database_url)
    stores = (store, second)

    def both(targets):
        return ["0" for _ in targets]

    try:
        network = (await store.networks.default()).identifier
        single = [each.configurations.add(sensor, "1") for each in stores for _ in range(20)]
        several = [
            each.configurations.add_to_each(network, order, both, author=None)
            for each in stores
            for order in ((sensor, other), (other, sensor)) * 3
        ]
        await asyncio.gather(*single, *several)
    finally:
        await second.close()
    assert list(await revisions(store, sensor)) == list(range(52))
    assert list(await revisions(store, other)) == list(range(12))


async def test_a_sensor_that_does_not_exist_gets_none(store):
    with pytest.raises(RowError):
        await store.configurations.add(12_345, "1")


async def test_pages_are_ascending_and_exclusive(store, sensor):
    for revision in range(5):
        assert await store.configurations.add(sensor, str(revision), author="admin") == revision

    async def page(revision, direction, limit=2):
        rows = await store.configurations.page(
            sensor, revision=revision, direction=direction, limit=limit
        )
        assert all(bytes(row.configuration) == str(row.revision).encode() for row in rows)
        assert all(row.author == "admin" for row in rows)
        return [row.revision for row in rows]

    assert await page(None, None) == [3, 4]
    assert await page(None, "previous") == [3, 4]
    assert await page(None, "next") == [0, 1]
    assert await page(1, None) == [2, 3]
    assert await page(1, "next") == [2, 3]
    assert await page(3, "previous") == [1, 2]
    assert await page(4, "next") == []
    assert await page(0, "previous") == []


async def test_each_sensor_of_a_network_gets_what_its_current_one_becomes(store, register):
    first, second = await register(), await register(device_id="pump")
    network = first.network_identifier
    await store.configurations.add(first.number, '{"a":1}')

    def configure(targets):
        return [(bytes(each.configuration or b"null") + b" ").decode() for each in targets]

    numbers = [second.number, first.number]
    tried = await store.configurations.try_on_each(network, numbers, configure)
    assert await revisions(store, second.number) == {}
    done = await store.configurations.add_to_each(network, numbers, configure, author="admin")
    assert tried == done
    assert [
        (each.sensor_identifier, each.device_id, each.revision, bytes(each.configuration))
        for each in done
    ] == [
        (first.identifier, None, 1, b'{"a":1} '),
        (second.identifier, "pump", 0, b"null "),
    ]
    assert bytes((await store.configurations.current(second.number)).configuration) == b"null "
    assert (await revisions(store, second.number))[0].author == "admin"


async def test_what_fails_for_one_is_done_for_none(store, register):
    sensor = await register()

    def fail(_targets):
        raise ValueError

    for each in (store.configurations.add_to_each, store.configurations.try_on_each):
        options = {"author": None} if each == store.configurations.add_to_each else {}
        with pytest.raises(ValueError):
            await each(sensor.network_identifier, [sensor.number], fail, **options)
    assert await revisions(store, sensor.number) == {}
    assert await store.configurations.add(sensor.number, "1") == 0


async def test_another_networks_sensors_get_nothing(store, register):
    sensor = await register()
    other = "00000000-0000-4000-8000-000000000000"

    def one(targets):
        return ["1" for _ in targets]

    assert await store.configurations.add_to_each(other, [sensor.number], one, author=None) == []
    assert await store.configurations.of_network(other, 10) == []
    assert await store.configurations.of_network(sensor.network_identifier, 10) == [sensor.number]


# The outbox


async def test_a_revision_makes_each_of_its_sensors_topics_due(store, register):
    sensor = await register(device_id="pump")
    assert not await store.publications.due(now())
    await store.configurations.add(sensor.number, "1")
    assert await store.publications.due(now())
    assert await claimed_names(store) == sorted(["pump", sensor.identifier])
    assert not await store.publications.due(now())
    assert await claimed_names(store, OTHERS) == []


async def test_topics_hold_the_newest_revision(store, register):
    pump, other = await register(device_id="pump"), await register()
    for number in (pump.number, other.number, other.number):
        await store.configurations.add(number, '"é"')
    contents = await store.publications.contents(["pump", pump.identifier, other.identifier, "x"])
    assert {(each.number, each.revision) for each in contents} == {
        (pump.number, 0),
        (other.number, 1),
    }
    keys = [(each.number, each.revision) for each in contents]
    assert await store.publications.texts([*keys, (99, 0)]) == dict.fromkeys(keys, '"é"')


async def test_a_revision_is_published_with_the_last_of_its_topics(store, register):
    sensor = await register(device_id="pump")
    await store.configurations.add(sensor.number, "1")
    assert await states(store, sensor.number) == ["pending"]
    first, second = published(await store.publications.claim(MINE, now(), MUCH), sensor.number, 0)
    await store.publications.finish(MINE, [first])
    assert await states(store, sensor.number) == ["pending"]
    await store.publications.finish(MINE, [second])
    assert await states(store, sensor.number) == ["published"]
    assert (await revisions(store, sensor.number))[0].publication_timestamp == NOON
    assert await store.publications.count() == 0


async def test_what_has_changed_meanwhile_stays_due(store, sensor):
    await store.configurations.add(sensor, "1")
    claimed = await store.publications.claim(MINE, now(), MUCH)
    await store.configurations.add(sensor, "2")
    assert await claimed_names(store, OTHERS) == []
    await store.publications.finish(MINE, published(claimed, sensor, 0))
    assert await states(store, sensor) == ["superseded", "pending"]
    assert (await revisions(store, sensor))[0].publication_timestamp == NOON
    claimed = await store.publications.claim(OTHERS, now(), MUCH)
    await store.publications.finish(OTHERS, published(claimed, sensor, 1))
    assert await states(store, sensor) == ["superseded", "published"]


async def test_what_another_has_taken_over_is_published_once_more(store, sensor):
    """The older state may have come after the newer one."""
    await store.configurations.add(sensor, "1")
    mine = await store.publications.claim(MINE, now(), MUCH)
    await store.configurations.add(sensor, "2")
    later = now() + 3_600_000_000
    theirs = await store.publications.claim(OTHERS, later, MUCH)
    await store.publications.finish(OTHERS, published(theirs, sensor, 1))
    assert await store.publications.count() == 0
    await store.publications.finish(MINE, published(mine, sensor, 0))
    assert await store.publications.count() == 1
    assert await claimed_names(store, OTHERS) != []


async def test_claims_lapse_are_renewed_and_released(store, sensor):
    await store.configurations.add(sensor, "1")
    moment = now()
    (claimed,) = await store.publications.claim(MINE, moment, MUCH)
    assert not await store.publications.due(moment + 9_000_000)
    assert await store.publications.due(moment + 11_000_000)
    await store.publications.renew(MINE, [claimed.name], moment + 9_000_000)
    assert not await store.publications.due(moment + 11_000_000)
    await store.publications.release(OTHERS)
    assert not await store.publications.due(moment)
    await store.publications.release(MINE)
    assert await store.publications.due(moment)
    await store.publications.claim(MINE, moment, MUCH)
    await store.publications.forget_claims()
    assert await store.publications.due(moment)


async def test_what_is_put_off_waits_until_its_time_or_a_change(store, sensor):
    await store.configurations.add(sensor, "1")
    moment = now()
    later = moment + 60_000_000
    (claimed,) = await store.publications.claim(MINE, moment, MUCH)
    assert claimed.attempts == 0
    await store.publications.postpone(MINE, [Postponed(claimed.name, claimed.version, later, 3)])
    assert not await store.publications.due(moment)
    (claimed,) = await store.publications.claim(MINE, later, MUCH)
    assert claimed.attempts == 3
    await store.publications.postpone(MINE, [Postponed(claimed.name, claimed.version, later, 4)])
    await store.configurations.add(sensor, "2")
    (claimed,) = await store.publications.claim(MINE, moment, MUCH)
    assert claimed.attempts == 0
    # It changes while it is on its way: there is no reason to wait.
    await store.configurations.add(sensor, "3")
    await store.publications.postpone(MINE, [Postponed(claimed.name, claimed.version, later, 5)])
    assert await store.publications.due(moment)


async def test_what_is_due_in_the_far_future_is_due(store, sensor):
    """The clock was wrong when it was put off."""
    await store.configurations.add(sensor, "1")
    (claimed,) = await store.publications.claim(MINE, now(), MUCH)
    far = now() + 10**15
    await store.publications.postpone(MINE, [Postponed(claimed.name, claimed.version, far, 1)])
    assert await store.publications.due(now())
    assert await claimed_names(store) == [claimed.name]


async def test_a_new_name_makes_both_due_and_a_change_of_anything_else_none(store, register):
    sensor, bare = await register(device_id="old"), await register(device_id="bare")
    await store.configurations.add(sensor.number, "1")
    claimed = await store.publications.claim(MINE, now(), MUCH)
    await store.publications.finish(MINE, published(claimed, sensor.number, 0))
    await store.sensors.change(sensor.number, name="Pump", device_id="old")
    await store.sensors.change(bare.number, device_id="barer")
    assert await store.publications.count() == 0
    await store.sensors.change(sensor.number, device_id="new")
    assert await claimed_names(store) == ["new", "old"]
    named = await store.publications.contents(["new", "old"])
    assert [(each.device_id, each.revision) for each in named] == [("new", 0)]


@pytest.mark.parametrize("keep", [True, False])
async def test_a_deleted_sensors_topics_are_due_and_hold_nothing(store, register, keep):
    sensor = await register(device_id="pump")
    await store.configurations.add(sensor.number, "1")
    claimed = await store.publications.claim(MINE, now(), MUCH)
    await store.publications.finish(MINE, published(claimed, sensor.number, 0))
    await delete(store, sensor.number, keep=keep)
    names = await claimed_names(store)
    assert names == sorted(["pump", sensor.identifier])
    assert await store.publications.contents(names) == []


async def delete(store, number, *, keep):
    await store.sensors.delete(number, NOON)
    if not keep:
        await store.sensors.erase(number)


async def test_two_instances_finish_a_topic_each_of_the_same_sensor(store, database_url, register):
    sensors = [await register(device_id=f"pump-{at}") for at in range(20)]
    second = await open_store(database_url)
    try:
        for sensor in sensors:
            await store.configurations.add(sensor.number, "1")
        claimed = await store.publications.claim(MINE, now(), MUCH)
        by_name = {name: each for each in sensors for name in (each.device_id, each.identifier)}
        # Half of them are the other's; each sensor has one on either side.
        owned = {"pump": [], "": []}
        for each in claimed:
            key = "pump" if each.name.startswith("pump") else ""
            number = by_name[each.name].number
            owned[key].append(Published(each.name, each.version, number, 0, NOON))
        await asyncio.gather(
            *(store.publications.finish(MINE, [one]) for one in owned["pump"]),
            *(second.publications.finish(MINE, [one]) for one in owned[""]),
        )
        for sensor in sensors:
            assert await states(store, sensor.number) == ["published"]
    finally:
        await second.close()


async def test_the_second_to_finish_waits_for_the_first_to_commit(postgresql_url, monkeypatch):
    first, second = await open_store(postgresql_url), await open_store(postgresql_url)
    done, go = asyncio.Event(), asyncio.Event()
    transaction = first.engine.transaction

    @contextlib.asynccontextmanager
    async def held():
        async with transaction() as opened:
            yield opened
            done.set()
            await go.wait()

    try:
        sensor = await first.sensors.create(
            identifier="00000000-0000-4000-8000-000000000001", device_id="pump", created_at=1
        )
        await first.configurations.add(sensor.number, "1")
        claimed = await first.publications.claim(MINE, now(), MUCH)
        one, other = published(claimed, sensor.number, 0)
        monkeypatch.setattr(first.engine, "transaction", held)
        finishing = [asyncio.create_task(first.publications.finish(MINE, [one]))]
        await done.wait()
        finishing.append(asyncio.create_task(second.publications.finish(MINE, [other])))
        await asyncio.wait(finishing, timeout=0.2)
        go.set()
        await asyncio.gather(*finishing)
        assert await states(second, sensor.number) == ["published"]
    finally:
        await first.close()
        await second.close()


# Heartbeats


async def say(store, sensor, revision, success, *, at=NOON, receipt=None, fingerprint=1):
    row = list(heartbeat(sensor, at, fingerprint=fingerprint, revision=revision, success=success))
    if receipt is not None:
        row[4] = receipt
    await store.write(Batch(heartbeats=[tuple(row)]))
    return tuple(row)


async def test_a_heartbeat_acknowledges_its_revision_and_no_other(store, sensor):
    for _ in range(3):
        await store.configurations.add(sensor, "1")
    await say(store, sensor, 0, success=True, at=NOON, receipt=NOON + 5)
    await say(store, sensor, 1, success=False, at=NOON + 1)
    assert await states(store, sensor) == ["acknowledged", "failed", "pending"]
    stored = await revisions(store, sensor)
    assert (stored[0].acknowledgment_timestamp, stored[0].receipt_timestamp) == (NOON, NOON + 5)
    assert (stored[1].acknowledgment_timestamp, stored[1].success) == (NOON + 1, False)
    assert (stored[2].acknowledgment_timestamp, stored[2].receipt_timestamp) == (None, None)


@pytest.mark.parametrize(
    ("answers", "success", "at"),
    [
        ([True, True], True, 0),
        ([True, False], True, 0),
        ([False, False], False, 0),
        ([False, True], True, 1),
        ([False, True, True, False], True, 1),
        ([None, True], True, 1),
    ],
)
@pytest.mark.parametrize("together", [True, False])
async def test_the_first_answer_counts_but_for_a_later_success(
    store, sensor, answers, success, at, together
):
    await store.configurations.add(sensor, "1")
    rows = [
        heartbeat(sensor, NOON + number, revision=0, success=answer)
        for number, answer in enumerate(answers)
    ]
    for batch in [rows] if together else [[row] for row in rows]:
        await store.write(Batch(heartbeats=batch))
    (revision,) = (await revisions(store, sensor)).values()
    assert (revision.success, revision.acknowledgment_timestamp) == (success, NOON + at)


async def test_a_repeat_and_an_ambiguous_commit_change_nothing(store, sensor):
    await store.configurations.add(sensor, "1")
    row = await say(store, sensor, 0, success=False)
    before = await revisions(store, sensor)
    for repeat in (row, again(row)):
        await store.write(Batch(heartbeats=[repeat]))
    assert await revisions(store, sensor) == before


async def test_a_heartbeat_of_an_unknown_revision_is_kept_and_flagged(store, sensor, register):
    other = (await register()).number
    await store.configurations.add(sensor, "1")
    await store.write(
        Batch(
            heartbeats=[
                heartbeat(sensor, NOON, revision=0, success=True),
                heartbeat(sensor, NOON + 1, revision=1, success=True),
                heartbeat(sensor, NOON + 2, success=True),
                heartbeat(other, NOON, revision=0),
            ]
        )
    )

    async def flags(number):
        page = await store.heartbeats.page(number, key=None, direction=None, limit=10)
        return [row.unknown_revision for row in page]

    assert (await flags(sensor), await flags(other)) == ([False, True, False], [True])
    await store.configurations.add(sensor, "2")
    assert await states(store, sensor) == ["acknowledged", "pending"]
    await say(store, sensor, 1, success=True, at=NOON + 3)
    assert await states(store, sensor) == ["acknowledged", "acknowledged"]
    assert await flags(sensor) == [False, True, False, False]


async def test_what_is_not_committed_acknowledges_nothing(store, sensor):
    await store.configurations.add(sensor, "1")
    bad = list(heartbeat(sensor, NOON + 1))
    bad[0] = "no id"
    with pytest.raises(RowError):
        await store.write(
            Batch(heartbeats=[heartbeat(sensor, revision=0, success=True), tuple(bad)])
        )
    assert await states(store, sensor) == ["pending"]


async def test_a_heartbeat_is_not_committed_without_what_it_acknowledges(
    store, sensor, monkeypatch
):
    await store.configurations.add(sensor, "1")
    broken = Query("nonsense", ("rows",))
    monkeypatch.setitem(store.engine._queries, "acknowledgments_store", broken)
    row = heartbeat(sensor, revision=0, success=True)
    with pytest.raises(StoreUnavailableError):
        await store.write(Batch(heartbeats=[row]))
    monkeypatch.undo()
    page = await store.heartbeats.page(sensor, key=None, direction=None, limit=10)
    assert page == []
    assert await states(store, sensor) == ["pending"]
    await store.write(Batch(heartbeats=[row]))
    assert await states(store, sensor) == ["acknowledged"]


async def test_heartbeats_beside_publications_of_the_same_revisions(store, database_url, register):
    """Both change the same rows, each many of them, in whatever order they come."""
    sensors = [(await register()).number for _ in range(50)]
    second = await open_store(database_url)
    try:
        for number in sensors:
            await store.configurations.add(number, json.dumps("x"))
        claimed = await store.publications.claim(MINE, now(), MUCH)
        contents = {
            each.identifier: each.number
            for each in await store.publications.contents([each.name for each in claimed])
        }
        done = [Published(c.name, c.version, contents[c.name], 0, NOON) for c in claimed]
        beats = [heartbeat(number, revision=0, success=True) for number in reversed(sensors)]
        await asyncio.gather(
            *(second.publications.finish(MINE, done[at : at + 10]) for at in range(0, 50, 10)),
            *(store.write(Batch(heartbeats=beats[at : at + 10])) for at in range(0, 50, 10)),
        )
        for number in sensors:
            (revision,) = (await revisions(store, number)).values()
            assert revision.success
            assert revision.publication_timestamp == NOON
    finally:
        await second.close()
