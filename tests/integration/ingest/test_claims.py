"""Two servers on one PostgreSQL that are sent the same: who claims it first stores it."""

import asyncio
import contextlib

import psycopg
import pytest

from heliograph.errors import ErrorCode, HeliographError
from heliograph.model.records import Kind
from heliograph.store import open_store
from ingest_core import NOON, running
from server import eventually

POST = {"kind": Kind.MEASUREMENT}


@pytest.fixture
async def servers(postgresql_url):
    """The cores of two servers on one database."""
    async with contextlib.AsyncExitStack() as stack:
        cores = []
        for _ in range(2):
            store = await open_store(postgresql_url)
            stack.push_async_callback(store.close)
            core = await stack.enter_async_context(running(store, leased=True))
            core.watching = True
            core.mqtt.watch()
            cores.append(core)
        yield cores


@pytest.fixture(params=["copied", "staged"])
def way(request, servers):
    """The way in which rows get to PostgreSQL."""
    if request.param == "staged":
        for core in servers:
            core.store.engine.writer._staging_until = float("inf")
    return request.param


async def pump(servers):
    """Register a sensor, and return each server's own record of it."""
    await servers[0].device("pump")
    await servers[1].registry.changed()
    return [await core.registry.find("pump") for core in servers]


@contextlib.asynccontextmanager
async def stalled(postgresql_url, table="delivery"):
    """Let everybody read the table and nobody write to it."""
    async with await psycopg.AsyncConnection.connect(postgresql_url) as connection:
        await connection.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
        yield
        await connection.rollback()


async def waiting(postgresql_url, count=2):
    """Return when so many servers wait for a lock."""

    async def blocked():
        async with await psycopg.AsyncConnection.connect(postgresql_url) as connection:
            found = await connection.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE starts_with(application_name, 'heliograph writer')"
                " AND wait_event_type = 'Lock' AND datname = current_database()"
            )
            return (await found.fetchone())[0] >= count

    await eventually(blocked)


@pytest.mark.usefixtures("way")
async def test_one_key_sent_to_two_servers_at_once_is_stored_once(servers, postgresql_url):
    sensors = await pump(servers)
    bodies = [[{"value": at}, {"value": -at}] for at in range(1, 6)]
    async with stalled(postgresql_url):
        posts = [
            asyncio.create_task(core.post(sensor, body, idempotency_key=str(at), **POST))
            for at, body in enumerate(bodies)
            for core, sensor in zip(servers, sensors, strict=True)
        ]
        await waiting(postgresql_url)
    outcomes = await asyncio.gather(*posts)
    assert outcomes[::2] == outcomes[1::2]
    stored = {row.id for row in await servers[0].rows(sensors[0])}
    assert len(stored) == 10
    assert {accepted.id for outcome in outcomes for accepted in outcome.accepted} == stored
    # Nobody is shown what was not stored.
    shown = [row[0] for core in servers for event in core.events for row in event.rows]
    assert sorted(shown) == sorted(stored)


@pytest.mark.usefixtures("way")
async def test_one_element_sent_to_two_servers_at_once_is_stored_once(servers, postgresql_url):
    sensors = await pump(servers)
    async with stalled(postgresql_url):
        posts = [
            asyncio.create_task(core.post(sensor, body, **POST))
            for core, sensor in zip(servers, sensors, strict=True)
            for body in (
                [{"value": 1, "id": "a"}, {"value": servers.index(core) + 10}],
                [{"value": 2, "id": "b"}],
            )
        ]
        await waiting(postgresql_url)
    one, two, three, four = await asyncio.gather(*posts)
    assert one.accepted[0].id == three.accepted[0].id
    assert two.accepted[0].id == four.accepted[0].id
    # Only the element is lost: its neighbour of the same message is stored.
    assert sorted(await servers[0].values(sensors[0])) == [1, 2, 10, 11]
    assert [core.state.duplicates_total for core in servers] in ([0, 2], [1, 1], [2, 0])


async def test_a_key_with_another_body_is_refused_by_whoever_is_second(servers, postgresql_url):
    sensors = await pump(servers)
    async with stalled(postgresql_url):
        posts = [
            asyncio.create_task(core.post(sensor, {"value": at}, idempotency_key="k", **POST))
            for at, (core, sensor) in enumerate(zip(servers, sensors, strict=True))
        ]
        await waiting(postgresql_url)
    outcomes = await asyncio.gather(*posts, return_exceptions=True)
    (refused,) = (outcome for outcome in outcomes if isinstance(outcome, Exception))
    assert refused.code is ErrorCode.IDEMPOTENCY_KEY_REUSED
    assert len(await servers[0].rows(sensors[0])) == 1


@pytest.mark.usefixtures("way")
async def test_what_was_answered_with_503_claims_its_key_when_the_database_is_back(
    servers, postgresql_url, monkeypatch
):
    monkeypatch.setattr("heliograph.ingest.http_ingest.COMMIT_TIMEOUT_SECONDS", 0.05)
    sensors = await pump(servers)
    body = [{"value": 1}, {"value": 2, "id": "a"}, {"value": 3, "timestamp": "soon"}]
    async with stalled(postgresql_url):
        for core, sensor in zip(servers, sensors, strict=True):
            with pytest.raises(HeliographError) as caught:
                await core.post(sensor, body, idempotency_key="k", **POST)
            assert caught.value.code is ErrorCode.DATABASE_UNAVAILABLE
    for core in servers:
        await core.settled()
    monkeypatch.undo()
    stored = [row.id for row in await servers[0].rows(sensors[0])]
    assert len(stored) == 2
    assert await servers[0].reasons() == ["INVALID_TIMESTAMP"]
    for core, sensor in zip(servers, sensors, strict=True):
        outcome = await core.post(sensor, body, idempotency_key="k", **POST)
        assert [accepted.id for accepted in outcome.accepted] == stored


async def test_an_answer_that_is_given_elsewhere_knows_of_repeats(servers, postgresql_url):
    sensors = await pump(servers)
    known = {"value": 1, "timestamp": NOON}
    first = await servers[0].post(sensors[0], known, **POST)
    async with stalled(postgresql_url):
        posts = [
            asyncio.create_task(
                core.post(sensor, [known, {"value": 2}], idempotency_key="k", **POST)
            )
            for core, sensor in zip(servers, sensors, strict=True)
        ]
        await waiting(postgresql_url)
    one, two = await asyncio.gather(*posts)
    assert one == two
    assert one.accepted[0].id == first.accepted[0].id
    assert [accepted.duplicate for accepted in one.accepted] == [True, False]


@pytest.mark.parametrize("payload", [b'{"value":1}', b"{"], ids=["untimed", "rejected"])
async def test_a_packet_sent_again_to_another_server_is_stored_once(
    servers, postgresql_url, payload
):
    sensors = await pump(servers)
    async with stalled(postgresql_url):
        # The first server has it and can't commit; the client has gone to the second one.
        await servers[0].publish("measurements/pump", payload, token=7)
        await waiting(postgresql_url, 1)
        await servers[1].publish("measurements/pump", payload, token=7, redelivered=True)
        await waiting(postgresql_url)
    for core in servers:
        await core.settled()
    kept = len(await servers[0].rows(sensors[0])) + len(await servers[0].rejected())
    assert kept == 1
    assert [core.origin.tokens for core in servers] == [[7], [7]]


async def test_a_packet_that_arrived_late_at_the_ledger_is_known_there(servers):
    sensors = await pump(servers)
    async with servers[0].blocked():
        await servers[0].publish("measurements/pump", b'{"value":1}', token=7)
        await asyncio.sleep(0.002)  # ids tell milliseconds apart
        await servers[1].publish("measurements/pump", b'{"value":1}', token=7, redelivered=True)
        await servers[1].settled()
    assert await servers[0].values(sensors[0]) == [1]
    # Later the packet id is another packet's.
    await servers[0].publish("measurements/pump", b'{"value":1}', token=7)
    await servers[0].settled()
    assert await servers[0].values(sensors[0]) == [1, 1]


async def test_rows_that_are_refused_do_not_cost_the_claim(servers, postgresql_url):
    sensors = await pump(servers)
    for core in servers:
        core.store.refuses = lambda row: row[7] == '"bad"'
    body = [{"value": 1}, {"value": "bad"}]
    async with stalled(postgresql_url, "measurement"):
        posts = [
            asyncio.create_task(core.post(sensor, body, idempotency_key="k", **POST))
            for core, sensor in zip(servers, sensors, strict=True)
        ]
        await waiting(postgresql_url)
    one, two = await asyncio.gather(*posts)
    assert one == two
    assert await servers[0].values(sensors[0]) == [1]
    assert await servers[0].reasons() == ["NOT_STORABLE"]
