"""Servers on one PostgreSQL whose ids are their own."""

import asyncio
import contextlib
import os
import socket

import psycopg
import pytest

from heliograph import doctor
from heliograph.doctor import Grade
from heliograph.errors import AlreadyExistsError, StartError, StoreUnavailableError
from heliograph.ingest.batch import IngestIds
from heliograph.ingest.instance import Instance
from heliograph.model.identifiers import MAXIMUM_INSTANCE, ingest_id_time
from heliograph.model.records import Kind
from heliograph.model.time import now
from heliograph.settings import Settings
from heliograph.store import open_store
from heliograph.store.instances import Leased, Living
from ingest_core import running
from server import eventually

POST = {"kind": Kind.MEASUREMENT}
LEASE = 30_000_000


@pytest.fixture
async def start(postgresql_url):
    """Return a function that starts the core of one more server."""
    async with contextlib.AsyncExitStack() as stack:

        async def start():
            store = await open_store(postgresql_url)
            stack.push_async_callback(store.close)
            return await stack.enter_async_context(running(store, leased=True))

        yield start


@pytest.fixture
async def store(postgresql_url):
    store = await open_store(postgresql_url)
    yield store
    await store.close()


@pytest.fixture
def change(postgresql_url):
    """Return a function that runs a statement."""

    async def change(statement):
        async with await psycopg.AsyncConnection.connect(postgresql_url) as connection:
            await connection.execute(statement)

    return change


def run_out(core):
    """Let the lease have ended by the server's own clock."""
    core.pipeline.instance._held_until = 0.0


async def take_over(core, start, change):
    """Let the lease end, and another server have the number after it has rested."""
    number = core.pipeline.instance.number
    await change(f"UPDATE instance SET expires_at = 0, free_at = 0 WHERE number = {number}")
    run_out(core)
    other = await start()
    assert other.pipeline.instance.number == number
    return other


def numbers(ids):
    return {row_id & MAXIMUM_INSTANCE for row_id in ids}


async def test_two_servers_never_make_the_same_id(start):
    servers = [await start(), await start()]
    await servers[0].device("pump")
    await servers[1].registry.changed()
    for turn in range(20):
        for core in servers:
            for at in range(10):
                await core.publish("measurements/pump", {"value": turn * 100 + at})
                await core.publish("measurements/pump", b"{%d" % at)
        await asyncio.sleep(0)
    for core in servers:
        await core.settled()
    sensor = await servers[0].registry.find("pump")
    ids = [row.id for row in await servers[0].rows(sensor)]
    ids += [message.id for message in await servers[0].rejected()]
    assert len(ids) == len(set(ids)) == 2 * 20 * 20
    assert numbers(ids) == {0, 1}
    assert [core.state.rejected_not_kept_total for core in servers] == [0, 0]


async def test_a_number_that_is_lost_gives_what_waits_new_ids(start, change):
    core = await start()
    sensor = await core.device("pump")
    core.watching = True
    core.mqtt.watch()
    key = {"idempotency_key": "k"}
    async with core.blocked():
        other = await take_over(core, start, change)
        # Made with a number that is another server's by now.
        posts = [
            asyncio.create_task(core.post(sensor, body, **options))
            for body, options in (
                ([{"value": 1}, {"value": 2, "id": "a"}], POST),
                ([{"value": 3}], {**POST, **key}),
                ([{"value": 4, "timestamp": "soon"}], POST),
            )
        ]
        await core.publish("measurements/pump", [{"value": 5}, {"value": 6}], token=7)
        await asyncio.sleep(0)
        assert core.ids.instance == 0
    outcomes = await asyncio.gather(*posts)
    assert (core.pipeline.instance.number, other.pipeline.instance.number) == (1, 0)
    stored = {row.id for row in await core.rows(sensor)}
    kept = {message.id for message in await core.rejected()}
    assert len(stored) == 5
    assert len(kept) == 1
    assert numbers(stored | kept) == {1}
    told = {accepted.id for outcome in outcomes for accepted in outcome.accepted}
    assert told == {row.id for row in await core.rows(sensor) if bytes(row.value) in b"123"}
    assert {row[0] for event in core.events for row in event.rows} == stored
    # The ledger has the new ids too.
    assert await core.post(sensor, [{"value": 3}], **POST, **key) == outcomes[1]
    again = await core.post(sensor, [{"value": 9, "id": "a"}], **POST)
    assert again.accepted[0].id == outcomes[0].accepted[1].id
    await core.publish("measurements/pump", [{"value": 5}, {"value": 6}], token=7, redelivered=True)
    await core.settled()
    assert {row.id for row in await core.rows(sensor)} == stored


async def test_a_lease_that_has_run_out_is_renewed_before_the_next_commit(start, change):
    core = await start()
    sensor = await core.device("pump")
    await change("UPDATE instance SET expires_at = 0, free_at = 0")
    run_out(core)
    await core.publish("measurements/pump", {"value": 1})
    await core.settled()
    # Nobody else has had the number: the ids stay.
    assert numbers(row.id for row in await core.rows(sensor)) == {0}
    assert core.pipeline.instance.held
    assert (await start()).pipeline.instance.number == 1


@pytest.mark.parametrize("key", ["k", None])
async def test_what_was_committed_after_all_keeps_its_ids(start, change, key):
    core = await start()
    sensor = await core.device("pump")
    write = core.store.write

    async def lose_the_answer(batch):
        core.store.write = write
        await write(batch)
        await take_over(core, start, change)
        raise StoreUnavailableError("the answer was lost on its way")

    core.store.write = lose_the_answer
    payload = [{"value": 1}, {"value": 2, "timestamp": "soon"}]
    outcome = await core.post(sensor, payload, idempotency_key=key, **POST)
    (row,) = await core.rows(sensor)
    assert [(a.id, a.duplicate) for a in outcome.accepted] == [(row.id, False)]
    assert len(await core.rejected()) == 1
    await core.publish("measurements/pump", {"value": 3})
    await core.settled()
    assert [r.id & MAXIMUM_INSTANCE for r in await core.rows(sensor)] == [0, 1]


async def test_a_server_that_commits_nothing_has_a_number_of_its_own_again(start, change):
    core = await start()
    other = await take_over(core, start, change)
    renewing = asyncio.create_task(core.pipeline.instance.run())
    core.pipeline.instance.lost.add(core.pipeline.number_lost)
    core.pipeline.instance.look()
    await eventually(lambda: core.pipeline.instance.held)
    renewing.cancel()
    assert (core.ids.instance, other.ids.instance) == (1, 0)


async def test_another_server_is_gone_once_it_is_not_found_for_a_while(store):
    instance = Instance(store, IngestIds())
    one, two = Living(1, "one", None), Living(2, "two", None)
    counts = []
    instance.counted.add(lambda: counts.append(len(instance.others)))
    # As after a restart of the database: one of them has renewed its lease in time.
    for began, found in ((0.0, [one, two]), (8.0, []), (15.0, [two])):
        instance._note(Leased(0, found), began)
        assert instance.others == [one, two]
    instance._note(Leased(0, [two]), 24.0)
    assert instance.others == [two]
    assert counts == [2, 1]


async def test_nothing_is_committed_while_the_number_is_uncertain(start, change):
    core = await start()
    sensor = await core.device("pump")
    await change("ALTER TABLE instance RENAME TO away")
    run_out(core)
    await core.publish("measurements/pump", {"value": 1})
    await asyncio.sleep(0.2)
    assert await core.rows(sensor) == []
    assert not core.state.database_available
    await change("ALTER TABLE away RENAME TO instance")
    await core.settled()
    assert await core.values(sensor) == [1]


async def test_who_stands_still_is_told_from_who_has_ended(postgresql_url, store, change):
    stopped = await open_store(postgresql_url)
    await stopped.instances.take("stopped", LEASE)
    await store.instances.take("lives", LEASE)
    assert await store.instances.standing() == []
    await change(f"UPDATE instance SET expires_at = {now()} WHERE token = 'stopped'")
    [standing] = await store.instances.standing()
    assert standing.number == 0
    found = await doctor._servers(Settings(), store)
    assert found.state is Grade.WARNING
    process = f"{os.getpid()}@{socket.gethostname()}"[:44]
    assert found.found.startswith(f"instances 0 ({process} since 20")
    assert "Z) stand still" in found.found
    await stopped.close()

    async def ended():
        return await store.instances.standing() == []

    await eventually(ended, 10)
    assert (await doctor._servers(Settings(), store)).state is Grade.OK


async def test_a_number_rests_for_twice_the_lease(store, change):
    instances = store.instances
    assert (await instances.take("a", LEASE)).number == 0
    assert (await instances.take("b", LEASE)).number == 1
    await instances.release("a", LEASE)
    assert (await instances.take("c", LEASE)).number == 2
    # Its lease has ended, and not long enough ago.
    await change("UPDATE instance SET expires_at = 0")
    assert (await instances.take("d", LEASE)).number == 3
    await change(f"UPDATE instance SET free_at = free_at - {3 * LEASE}")
    assert (await instances.take("e", LEASE)).number == 0
    assert (await instances.renew("a", LEASE)).number is None
    assert (await instances.renew("b", LEASE)).number == 1


async def test_a_database_has_room_for_so_many_instances(store, change):
    await change(
        "INSERT INTO instance SELECT number, 'x', 0, NULL, 0, 9e18"
        f" FROM generate_series(0, {MAXIMUM_INSTANCE}) AS number"
    )
    with pytest.raises(StartError, match="all 512 instances are taken"):
        await Instance(store, IngestIds()).start()


async def test_servers_that_start_at_once_have_numbers_of_their_own(postgresql_url):
    stores = [await open_store(postgresql_url) for _ in range(5)]
    taken = await asyncio.gather(
        *(store.instances.take(str(at), LEASE) for at, store in enumerate(stores))
    )
    assert sorted(leased.number for leased in taken) == list(range(5))
    for store in stores:
        await store.close()


async def test_after_a_kill_another_number_is_taken_at_once(postgresql_url, store):
    killed = await open_store(postgresql_url)
    await killed.instances.take("killed", LEASE, mqtt_client_id="one")
    await killed.close()  # as the system does it, and nothing is released
    leased = await store.instances.take("next", LEASE, mqtt_client_id="one")
    assert (leased.number, leased.others) == (1, [])


async def test_a_client_id_is_one_server_s(postgresql_url, store):
    other = await open_store(postgresql_url)
    await store.instances.take("a", LEASE, mqtt_client_id="one")
    with pytest.raises(AlreadyExistsError):
        await other.instances.take("b", LEASE, mqtt_client_id="one")
    leased = await other.instances.take("b", LEASE, mqtt_client_id="two")
    assert [(each.number, each.mqtt_client_id) for each in leased.others] == [(0, "one")]
    await store.instances.release("a", LEASE)
    third = await open_store(postgresql_url)
    assert (await third.instances.take("c", LEASE, mqtt_client_id="one")).number == 2
    await third.close()
    await other.close()


async def test_ids_go_on_behind_the_newest_whoever_made_it(start, change):
    core, ahead = await start(), await start()
    sensor = await core.device("pump")
    # Another server's clock is minutes ahead.
    ahead.ids.take(now() + 600_000_000, 1)
    await ahead.registry.changed()
    await ahead.publish("measurements/pump", {"value": 1})
    await ahead.settled()
    (newest,) = await core.rows(sensor)
    assert ingest_id_time(newest.id) > newest.receipt_timestamp + 60_000_000
    await take_over(core, start, change)
    await core.publish("measurements/pump", {"value": 2})
    await core.settled()
    assert [row.id > newest.id for row in await core.rows(sensor)].count(True) == 1


async def test_what_counts_on_from_beyond_now_is_nobody_else_s(start, change):
    core = await start()
    await core.device("pump")
    core.ids.take(now() + 600_000_000, 1)
    await core.publish("measurements/pump", {"value": 1})
    await core.settled()
    # What waits here, and will be committed with the ids that it has.
    waiting = {core.ids.last + step * (MAXIMUM_INSTANCE + 1) for step in range(1, 10_001)}
    other = await take_over(core, start, change)
    made = set()
    for _ in range(10_000):
        made.add(other.ids.take(now(), 1))
    assert numbers(made) == numbers(waiting)
    assert not made & waiting
