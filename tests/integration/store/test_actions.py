"""Packets, observations and the outbox, on both engines."""

import asyncio
import contextlib

import pytest

from heliograph.model.time import SECOND, now
from heliograph.store import open_store
from heliograph.store.actions import (
    CLAIM_SECONDS,
    ENDED,
    FURTHEST_SECONDS,
    SUSPECT_SECONDS,
    ActionState,
    DueAction,
    NextDue,
    SettledAction,
)
from heliograph.store.engine import Batch
from rows import NOON

TYPES = ("publish", "mqtt")
LEASE = 30_000_000


def packet(row_id, fingerprint=1, sensor=None, device_id="d-1"):
    frame = row_id, sensor, NOON, fingerprint, NOON
    return *frame, device_id, None, "admin", "POST /api/v1/packets", '{"a":"\u00e9"}'


def action(message, position=0, due_at=NOON, fingerprint=1):
    key = "", position, 0, NOON, fingerprint
    return *key, message, None, "publish", '{"n":1}', due_at, NOON


def row(row_id, sensor, fingerprint):
    return row_id, sensor, NOON, fingerprint, NOON, None, None, "7"


def observation(sensor, row_id, fingerprint, kind="measurement", must=True):
    return "rule-1", sensor, NOON, fingerprint, row_id, NOON, kind, None, "7", 16, must


async def due(store, now=NOON, limit=10):
    claimed = await store.actions.claim(now, "publish", limit, server="gone")
    return [each.message for each in claimed]


async def test_a_packet_is_stored_once_and_so_is_what_follows_from_it(store):
    first = Batch(packets=[packet(8)], actions=[action(8), action(8, position=1)])
    assert (await store.write(first)).duplicates == {}
    # After an ambiguous commit the same batch comes again.
    assert (await store.write(first)).duplicates == {}
    again = Batch(
        packets=[packet(16), packet(24, 2)], actions=[action(16), action(24, fingerprint=2)]
    )
    assert (await store.write(again)).duplicates == {16: 8}
    assert await due(store) == [8, 8, 24]


async def test_what_its_server_runs_at_once_is_stored_as_claimed(store):
    batch = Batch(packets=[packet(8)], actions=[action(8), action(8, position=1)], runs=True)
    began, written = now(), await store.write(batch)
    claimed = [DueAction(*row, False) for row in written.claimed]
    assert [(each.message, each.position, each.attempts) for each in claimed] == [
        (8, 0, 1),
        (8, 1, 1),
    ]
    # What comes again is not run a second time, and nobody else takes it before its claim lapses.
    assert (await store.write(batch)).claimed == []
    assert await due(store, began) == []
    done = SettledAction(claimed[0].id, ActionState.DONE, 1, 0, NOON, None, 1)
    await store.actions.settle([done])
    assert await due(store, now() + (CLAIM_SECONDS + 1) * SECOND) == [8]


@pytest.mark.parametrize("runs", [True, False])
async def test_only_claims_of_servers_that_are_gone_are_taken_over(postgresql_url, runs):
    async with contextlib.AsyncExitStack() as stack:
        stores = [await open_store(postgresql_url) for _ in range(2)]
        for store, token in zip(stores, "ab", strict=True):
            stack.push_async_callback(store.close)
            await store.instances.take(token, LEASE)
        first, second = stores
        batch = Batch(packets=[packet(8)], actions=[action(8)], runs=runs, server="a")
        written = await first.write(batch)
        if not runs:
            assert await first.actions.claim(now(), "publish", 1, server="a")
        assert len(written.claimed) == runs

        async def taken(*, begins):
            return await second.actions.take_over(now(), TYPES, begins=begins)

        assert (await taken(begins=False), await taken(begins=True)) == (0, 0)
        await first.close()
        # A server that runs may only be connecting anew. One that begins may be what was started
        # in its place.
        assert await taken(begins=False) == 0
        await until_gone(second)
        assert await taken(begins=True) == 1
        assert await taken(begins=True) == 0
        [again] = await second.actions.claim(now(), "publish", 1, server="b")
        assert again.attempts == 2
        await second.instances.release("b", LEASE)
        assert await taken(begins=False) == 1


async def test_what_waits_for_another_attempt_is_nobodys(postgresql_url):
    store = await open_store(postgresql_url)
    await store.write(Batch(packets=[packet(8)], actions=[action(8)]))
    [claimed] = await store.actions.claim(NOON, "publish", 1, server="gone")
    later = NOON + 9 * SECOND
    failed = SettledAction(claimed.id, ActionState.PENDING, 1, later, None, "away", 1)
    await store.actions.settle([failed])
    assert await store.actions.take_over(NOON, TYPES, begins=True) == 0
    assert await store.actions.next_due(TYPES) == NextDue("publish", later)
    await store.close()


async def until_gone(store):
    """Wait until no connection of another server is there."""
    async with asyncio.timeout(30):
        while len(await store.instances.living()) > 1:  # noqa: ASYNC110 - it is in the database
            await asyncio.sleep(0.01)


async def test_what_has_ended_is_noted_with_the_next_claim(store):
    await store.write(Batch(packets=[packet(8)], actions=[action(8), action(8, position=1)]))
    [first] = await store.actions.claim(NOON, "publish", 1)
    done = SettledAction(first.id, ActionState.DONE, 1, 0, NOON, None, 1)
    [second] = await store.actions.claim(NOON, "publish", 10, settled=[done])
    assert (first.position, second.position) == (0, 1)
    assert [each.state for each in await store.actions.of_message(8, "publish")] == [
        "done",
        "pending",
    ]


async def test_only_rows_that_were_inserted_are_observed(store, sensor):
    rows = [row(8, sensor, 1), row(16, sensor, 2)]
    await store.write(Batch(measurements=rows[:1]))
    repeat = row(24, sensor, 1)
    batch = Batch(
        measurements=[rows[1], repeat],
        packets=[packet(32, sensor=sensor)],
        observations=[
            observation(sensor, 16, 2),
            observation(sensor, 24, 1),
            observation(sensor, 32, 3, kind="packet"),
            observation(sensor, 40, 4, kind="log"),
        ],
    )
    assert (await store.write(batch)).duplicates == {24: 8}
    async with store.engine.transaction() as transaction:
        found = await transaction.fetch("observations_take", limit=10, characters=1_000)
    assert sorted(row[4] for row in found) == [16, 32]


async def test_what_is_claimed_is_nobody_elses_until_the_claim_lapses(store):
    await store.write(Batch(packets=[packet(8)], actions=[action(8), action(8, 1)]))
    assert await due(store, NOON - 1) == []
    assert await store.actions.next_due(TYPES) == NextDue("publish", NOON)
    assert await store.actions.next_due(("webhook",)) is None
    one, other = await asyncio.gather(due(store, limit=1), due(store, limit=1))
    assert one == other == [8]
    assert await due(store) == []
    assert await due(store, NOON + CLAIM_SECONDS * SECOND) == [8, 8]
    assert await store.actions.take_over(NOON + CLAIM_SECONDS * SECOND, TYPES, begins=True) == 2
    # Begun twice without a word of how it ended, it is suspect: one of them at a time, if any.
    again = NOON + CLAIM_SECONDS * SECOND
    assert await store.actions.claim(again, "publish", 10, suspects=False) == []
    again += int(SUSPECT_SECONDS * SECOND)
    await store.write(Batch(packets=[packet(16, 2)], actions=[action(16, fingerprint=2)]))
    claimed, fresh = await store.actions.claim(again, "publish", 10)
    assert (claimed.attempts, claimed.body, claimed.is_suspect) == (3, '{"n":1}', True)
    assert (fresh.attempts, fresh.is_suspect) == (1, False)
    waiting, shown = await store.actions.of_message(8, "publish")
    assert (shown.attempts, shown.error, waiting.attempts, waiting.error) == (2, ENDED, 3, ENDED)


async def test_what_became_of_actions_is_kept_listed_repeated_and_pruned(store):
    actions = [action(8, position) for position in range(3)]
    await store.write(Batch(packets=[packet(8)], actions=actions))
    done, failed, again = await store.actions.claim(NOON, "publish", 10)
    keys = {each.id: each.idempotency_key for each in (done, failed, again)}
    assert len(set(keys.values())) == 3
    await store.actions.settle(
        [
            SettledAction(done.id, ActionState.DONE, 1, 0, NOON + 5, None, 1),
            SettledAction(failed.id, ActionState.FAILED, 1, 0, NOON + 6, "no route \u00e9", 1),
            SettledAction(again.id, ActionState.PENDING, 1, NOON + 7, None, "away", 1),
        ]
    )
    listed, count = await store.actions.page(None, offset=0, limit=10)
    assert count == 3
    assert [(each.state, each.error) for each in reversed(listed)] == [
        ("done", None),
        ("failed", "no route \u00e9"),
        ("pending", "away"),
    ]
    assert (await store.actions.page(["other"], offset=0, limit=10)) == ([], 0)
    one, count = await store.actions.page(None, state="failed", offset=0, limit=10)
    assert ([each.id for each in one], count) == ([failed.id], 1)
    # SettledAction twice, by a server whose claim has lapsed: the first word counts.
    await store.actions.settle([SettledAction(done.id, ActionState.FAILED, 9, 0, NOON, "late", 1)])
    assert (await store.actions.find(done.id)).state == "done"
    repeated = await store.actions.repeat(failed.id, NOON + 8)
    assert (repeated.state, repeated.attempts, repeated.error) == ("pending", 0, None)
    assert await store.actions.repeat(again.id, NOON) is None
    assert await store.actions.prune(NOON + 6) == 1
    assert await store.actions.find(done.id) is None
    assert [each.id for each in await store.actions.of_message(8, "publish")] == [
        failed.id,
        again.id,
    ]


async def test_a_lapsed_claim_settles_only_that_it_is_done(store):
    await store.write(Batch(packets=[packet(8)], actions=[action(8), action(8, 1)]))
    first, second = await store.actions.claim(NOON, "publish", 10)
    lapsed = NOON + CLAIM_SECONDS * SECOND
    assert len(await store.actions.claim(lapsed, "publish", 10)) == 2
    pending, done = ActionState.PENDING, ActionState.DONE
    await store.actions.settle(
        [
            SettledAction(first.id, pending, 1, NOON, None, "late", 1),
            SettledAction(second.id, done, 1, 0, lapsed, None, 1),
        ]
    )
    waiting = await store.actions.find(first.id)
    assert (waiting.attempts, waiting.error) == (2, ENDED)
    assert waiting.due_at == lapsed + CLAIM_SECONDS * SECOND
    assert (await store.actions.find(second.id)).state == "done"


async def test_what_a_wrong_clock_has_put_off_is_due_when_it_was_set_back(store):
    ahead = NOON + (FURTHEST_SECONDS + 1) * SECOND
    actions = [action(8, due_at=ahead), action(8, 1, due_at=NOON + 5)]
    await store.write(Batch(packets=[packet(8)], actions=actions))
    await store.actions.hasten(NOON)
    assert len(await store.actions.claim(NOON, "publish", 10)) == 1
    assert await store.actions.next_due(TYPES) == NextDue("publish", NOON + 5)
