"""The states of rules, moved by stored messages and the clock, on both engines."""

import asyncio
import contextlib
import uuid

import msgspec
import psycopg
import pytest

from heliograph.access.registry import Registry
from heliograph.errors import StoreUnavailableError
from heliograph.model.time import MINUTE, SECOND, now
from heliograph.processing.dry_run import try_rule
from heliograph.processing.processor import Processor
from heliograph.processing.rules import document_of, parse
from heliograph.store import open_store
from heliograph.store.engine import Batch
from rows import NOON, again, measurement, packet

HOT = {"attribute": "t", "above": 30, "clear_below": 28}


class Flow:
    """What the pipeline, the registry and the processor do, step by step."""

    def __init__(self, store):
        self.store = store
        self.registry = Registry(store)
        self.processor = Processor(store, self.registry, interval=1)

    async def rule(self, condition=None, **members):
        document = {"name": f"rule {uuid.uuid4()}", "condition": condition or HOT, **members}
        network = await self.store.networks.default()
        rule = await self.store.rules.create(
            identifier=str(uuid.uuid4()),
            network_identifier=members.pop("network", network.identifier),
            document=document_of(parse(document)),
            created_at=1,
        )
        await self.follow()
        return rule

    async def follow(self):
        await self.registry.changed()
        self.processor.changed()
        await self.processor.proceed()

    async def send(self, *rows, packets=()):
        batch = Batch(measurements=list(rows), packets=list(packets))
        batch.sort()
        batch.observations = self.processor.index.observe(batch)
        written = await self.store.write(batch)
        self.processor.committed(batch, written)
        return batch

    async def say(self, *rows):
        await self.send(*rows)
        await self.processor.proceed()

    async def actions(self):
        found, _ = await self.store.actions.page(None, offset=0, limit=1_000)
        return found[::-1]

    async def waiting(self):
        async with self.store.engine.transaction() as transaction:
            return await transaction.fetch("observations_take", limit=1_000, characters=1 << 20)


@pytest.fixture
async def flow(store):
    flow = Flow(store)
    await flow.registry.load()
    return flow


@pytest.fixture
def clock(monkeypatch):
    """Return a function that sets how far the processor's clock goes ahead (microseconds)."""

    def set_ahead(microseconds):
        monkeypatch.setattr("heliograph.processing.processor.now", lambda: now() + microseconds)

    return set_ahead


def shown(action):
    return msgspec.json.decode(action.body)["members"]["rule"]["occasion"]


BOTH = [{"type": "sse"}, {"type": "sse", "on": "cleared"}]


async def test_a_rule_raises_and_clears_by_what_is_stored(flow, sensor):
    rule = await flow.rule(actions=BOTH)
    await flow.say(measurement(sensor, NOON, {"t": 20}))
    assert await flow.actions() == []
    await flow.say(
        measurement(sensor, NOON + 1, {"t": 31}), measurement(sensor, NOON + 2, {"t": 32})
    )
    # Between the bounds nothing changes; a repeat does nothing.
    await flow.say(
        measurement(sensor, NOON + 1, {"t": 31}), measurement(sensor, NOON + 3, {"t": 29})
    )
    await flow.say(measurement(sensor, NOON + 4, {"t": 27}))
    await flow.say(measurement(sensor, NOON + 4, {"t": 27}))
    raised, cleared = await flow.actions()
    assert [shown(each) for each in (raised, cleared)] == ["raised", "cleared"]
    assert (raised.rule, raised.sensor, raised.timestamp) == (rule.identifier, sensor, NOON + 1)
    assert raised.message is not None
    assert msgspec.json.decode(raised.body)["members"]["value"] == {"t": 31}
    assert cleared.timestamp == NOON + 4
    assert msgspec.json.decode(cleared.body)["members"]["value"] == {"t": 27}
    assert await flow.waiting() == []


async def test_messages_that_do_not_matter_are_not_observed(flow, sensor, register):
    await flow.rule()
    other = (await register()).number
    await flow.say(measurement(sensor, NOON, {"t": 31}))
    await flow.send(measurement(sensor, NOON + 1, {"t": 20}), measurement(other, NOON, {"t": 20}))
    assert [row[1] for row in await flow.waiting()] == [sensor]
    await flow.processor.proceed()
    await flow.send(measurement(sensor, NOON + 2, {"t": 20}))
    assert await flow.waiting() == []


async def test_a_rule_looks_at_packets_of_known_devices_and_is_tried_on_them(flow, sensor):
    condition = {"attribute": "battery_level", "below": 20, "clear_above": 30}
    rule = await flow.rule(condition, kinds=["packet"], actions=BOTH)
    low = packet(sensor, NOON, battery_level=10)
    unknown = packet(None, NOON, "nobody", battery_level=10)
    # A measurement with the same member is none of its business.
    await flow.send(measurement(sensor, NOON, {"battery_level": 10}), packets=[low, unknown])
    await flow.processor.proceed()
    await flow.send(packets=[again(low)])  # a repeat does nothing
    await flow.send(packets=[packet(sensor, NOON + 1, battery_level=25)])
    await flow.send(packets=[packet(sensor, NOON + 2, battery_level=90)])
    await flow.processor.proceed()
    raised, cleared = await flow.actions()
    assert [shown(each) for each in (raised, cleared)] == ["raised", "cleared"]
    assert (raised.sensor, raised.timestamp, raised.message) == (sensor, NOON, low[0])
    members = msgspec.json.decode(raised.body)["members"]
    assert (members["kind"], members["value"]["battery_level"]) == ("packet", 10)
    assert (await flow.store.messages.find(low[0], networks=None, sensor=sensor)).processed is False
    compiled = flow.processor.index.rules[rule.identifier].compiled
    run = await try_rule(flow.store, compiled, sensor, NOON, NOON + 10)
    assert (run.messages, run.raises, run.raised_for, run.naive_raises) == (3, 1, 2, 1)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_an_ambiguous_commit_of_an_observation_leaves_the_sensor_awake(flow, store, sensor):
    await flow.rule(actions=BOTH)
    batch = Batch(measurements=[measurement(sensor, NOON, {"t": 31})])
    batch.observations = flow.processor.index.observe(batch)
    await store.write(batch)
    # Nobody heard of it, and so it is stored again.
    flow.processor.committed(batch, await store.write(batch))
    await flow.say(measurement(sensor, NOON + 1, {"t": 20}))
    assert [shown(each) for each in await flow.actions()] == ["raised", "cleared"]
    # Idle: the next one is looked at and dropped, the one after that is not looked at.
    for n, count in ((2, 1), (3, 0)):
        batch = await flow.send(measurement(sensor, NOON + n, {"t": 20}))
        assert len(batch.observations) == count
        assert await flow.waiting() == []


async def test_data_about_the_past_raises_nothing_unless_the_rule_asks_for_it(flow, sensor):
    await flow.rule(actions=BOTH)
    late = await flow.rule(actions=BOTH, late=True)
    # Neither matters to a rule, and so neither is observed.
    await flow.say(measurement(sensor, NOON + MINUTE, {"t": 20}))
    await flow.say(measurement(sensor, NOON, {"t": 31}))
    assert [(each.rule, shown(each)) for each in await flow.actions()] == [
        (late.identifier, "raised")
    ]


async def test_the_clock_ends_what_has_held_for_long_enough(flow, sensor):
    await flow.rule(actions=BOTH, **{"for": 1})
    moment = now()
    row = measurement(sensor, moment - 10 * SECOND, {"t": 31}, receipt=moment - 10 * SECOND)
    await flow.say(row)
    await flow.processor.proceed()
    [raised] = await flow.actions()
    assert (raised.message, raised.timestamp) == (row[0], moment - 10 * SECOND)
    assert msgspec.json.decode(raised.body)["members"]["value"] == {"t": 31}


async def test_silence_raises_and_data_that_came_between_keeps_it_from_that(
    flow, sensor, register, clock
):
    other = (await register()).number
    await flow.rule({"no_data": 60}, actions=BOTH)
    clock(2 * MINUTE)
    # It has come, but no rule has looked at it yet.
    row = measurement(sensor, NOON, {"t": 1}, receipt=now() + 2 * MINUTE)
    await flow.send(row)
    await flow.processor.proceed()
    assert [(each.sensor, shown(each)) for each in await flow.actions()] == [(other, "raised")]
    await flow.say(measurement(other, NOON, {"t": 1}, receipt=now() + 2 * MINUTE))
    assert [shown(each) for each in await flow.actions()] == ["raised", "cleared"]


async def test_an_outage_of_the_server_is_nobodys_silence(flow, sensor, clock):
    await flow.rule({"no_data": 60}, actions=BOTH)
    flow.processor.forget()
    clock(MINUTE - SECOND)
    await flow.follow()
    assert await flow.actions() == []
    clock(2 * MINUTE)
    await flow.processor.proceed()
    assert [shown(each) for each in await flow.actions()] == ["raised"]


async def test_sensors_that_go_offline_at_once_raise_each_and_come_back(
    flow, store, register, clock
):
    sensors = [(await register()).number for _ in range(20)]
    await flow.rule({"offline": 60}, actions=BOTH)

    async def note(live):
        moment = now()
        await store.connections.note([(number, live, moment) for number in sensors], "")
        flow.processor.present(sensors)

    for live, count in ((True, 0), (False, 20), (True, 40)):
        await note(live)
        await flow.processor.proceed()
        clock(2 * MINUTE)
        await flow.processor.proceed()
        assert len(await flow.actions()) == count


async def test_a_turn_that_takes_long_leaves_the_rest_to_the_next(
    flow, store, register, clock, monkeypatch
):
    monkeypatch.setattr("heliograph.processing.processor.MOVING_SECONDS", -1)
    sensors = [(await register()).number for _ in range(3)]
    await flow.rule(actions=BOTH)
    await flow.rule({"offline": 60}, actions=BOTH)
    await store.connections.note([(number, False, now()) for number in sensors], "")
    flow.processor.present(sensors)
    await flow.send(*(measurement(number, NOON, {"t": 31}) for number in sensors))
    await flow.processor.proceed()
    assert [shown(each) for each in await flow.actions()] == ["raised"] * 3
    clock(2 * MINUTE)
    await flow.processor.proceed()
    assert [shown(each) for each in await flow.actions()] == ["raised"] * 6
    assert await flow.waiting() == []


async def test_after_a_pause_messages_are_looked_at_at_once_and_then_gathered(
    flow, sensor, monkeypatch
):
    monkeypatch.setattr("heliograph.processing.processor.GATHER_SECONDS", 3_600.0)
    await flow.rule()
    flow.processor._turned_at = -3_600.0  # a start is no turn
    looked = asyncio.Event()
    flow.processor.traced = lambda *_: looked.set()
    running = asyncio.create_task(flow.processor.run())
    try:
        await flow.send(measurement(sensor, NOON, {"t": 31}))
        async with asyncio.timeout(60):
            await looked.wait()
        await flow.send(measurement(sensor, NOON + 1, {"t": 20}))
        for _ in range(30):
            await flow.store.ping()
        assert [row[1] for row in await flow.waiting()] == [sensor]
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_notices_know_that_more_alerts_follow_until_all_turns_are_over(
    flow, store, register, clock, monkeypatch
):
    monkeypatch.setattr("heliograph.processing.processor.MOVING_SECONDS", -1)
    sensors = [(await register()).number for _ in range(3)]
    await flow.rule({"offline": 60}, actions=[{"type": "alert"}])
    await store.connections.note([(number, False, now()) for number in sensors], "")
    flow.processor.present(sensors)
    await flow.processor.proceed()
    clock(2 * MINUTE)
    turn, more_follow = store.rule_states.turn, []

    @contextlib.asynccontextmanager
    async def watched():
        more_follow.append(await flow.processor.is_telling())
        async with turn() as opened:
            yield opened
        # By a turn that tells of nothing, too.
        if len(more_follow) == 1:
            flow.processor.present(sensors[:1])

    monkeypatch.setattr(store.rule_states, "turn", watched)
    await flow.processor.proceed()
    assert len(more_follow) > len(sensors)
    assert all(more_follow[1:])
    assert not await flow.processor.is_telling()
    _, raised = await store.alerts.page(None, offset=0, limit=10)
    assert raised == len(sensors)


async def test_a_rule_falls_upon_the_sensors_that_have_its_tag_from_when_they_do(
    flow, store, register, clock
):
    hot, silent = [
        await flow.rule(condition, match={"tags": ["roof"]}, actions=[{"type": "alert"}])
        for condition in (HOT, {"no_data": 60})
    ]
    other = str(uuid.uuid4())
    await store.networks.create(identifier=other, name="other", created_at=1, owner=None)
    here, away, plain = [
        (await register(tags=tags)).number for tags in (["x", "roof"], ["roof"], ["roofs"])
    ]
    await store.sensors.change(away, network_identifier=other)

    async def raised():
        page, _ = await store.alerts.page(None, state="open", offset=0, limit=10)
        return sorted((each.rule, each.sensor) for each in page)

    await flow.follow()
    clock(2 * MINUTE)
    await flow.processor.proceed()
    assert await raised() == [(silent.identifier, here)]
    clock(0)
    sent = (measurement(number, NOON, {"t": 31}, receipt=now()) for number in (here, away, plain))
    await flow.say(*sent)
    assert await raised() == [(hot.identifier, here)]
    # What comes before the processor has followed is looked at, too.
    await store.sensors.change(plain, tags=["roof"])
    await flow.registry.changed()
    flow.processor.changed()
    await flow.send(measurement(plain, NOON + 1, {"t": 31}, receipt=now()))
    await store.sensors.change(here, tags=[])
    await flow.follow()
    assert await raised() == [(hot.identifier, plain)]
    clock(2 * MINUTE)
    await flow.processor.proceed()
    assert await raised() == sorted((each.identifier, plain) for each in (hot, silent))


async def test_who_goes_while_it_is_looked_at_is_looked_at_again(
    flow, store, sensor, clock, monkeypatch
):
    await flow.rule({"offline": 60}, actions=BOTH)
    find = store.sensors.find_number

    async def note(live):
        await store.connections.note([(sensor, live, now())], "")
        flow.processor.present([sensor])

    async def find_and_lose(number):
        monkeypatch.setattr(store.sensors, "find_number", find)
        found = await find(number)
        await note(False)
        return found

    await note(True)
    monkeypatch.setattr(store.sensors, "find_number", find_and_lose)
    await flow.processor.proceed()
    clock(2 * MINUTE)
    await flow.processor.proceed()
    assert [shown(each) for each in await flow.actions()] == ["raised"]


async def test_a_changed_rule_begins_anew_and_one_that_is_gone_is_over(flow, store, sensor):
    rule = await flow.rule(actions=BOTH)
    await flow.say(measurement(sensor, NOON, {"t": 31}))
    changed = {**HOT, "above": 40, "clear_below": 40}
    await store.rules.change(
        rule.identifier, lambda document: {**document, "condition": changed}, changed_at=2
    )
    await flow.follow()
    await flow.say(measurement(sensor, NOON + 1, {"t": 31}))
    await flow.say(measurement(sensor, NOON + 2, {"t": 41}))
    assert [shown(each) for each in await flow.actions()] == ["raised", "raised"]
    await flow.send(measurement(sensor, NOON + 3, {"t": 42}))
    await store.rules.delete(rule.identifier)
    await flow.follow()
    assert await flow.waiting() == []


async def test_a_rule_that_is_changed_while_states_are_begun_is_begun_anew(
    flow, store, sensor, clock, monkeypatch
):
    rule = await flow.rule({"no_data": 60}, actions=BOTH)
    matched = store.rule_states.matched

    async def matched_while_the_rule_changes(*arguments):
        monkeypatch.setattr(store.rule_states, "matched", matched)
        await store.rules.change(
            rule.identifier, lambda known: {**known, "condition": {"no_data": 90}}, changed_at=2
        )
        changed = asyncio.create_task(flow.processor.refresh())
        await asyncio.wait([changed], timeout=0.1)
        flow.processor.changed()
        found = await matched(*arguments)
        changing.append(changed)
        return found

    changing = []
    monkeypatch.setattr(store.rule_states, "matched", matched_while_the_rule_changes)
    await flow.follow()
    await asyncio.gather(*changing)
    await flow.follow()
    clock(2 * MINUTE)
    await flow.processor.proceed()
    assert [(each.sensor, shown(each)) for each in await flow.actions()] == [(sensor, "raised")]


async def test_what_a_turn_finds_out_of_use_is_cleared_by_it(flow, store, sensor):
    await flow.rule(actions=[{"type": "alert"}])
    await flow.say(measurement(sensor, NOON, {"t": 31}))
    await flow.send(measurement(sensor, NOON + 1, {"t": 32}))
    await store.sensors.change(sensor, is_active=False)
    await flow.registry.changed()
    flow.processor.index.forget_sensors()
    await flow.processor.proceed()
    [alert], _ = await store.alerts.page(None, offset=0, limit=10)
    assert alert.cleared_at is not None


async def test_a_sensor_out_of_use_raises_nothing_and_what_it_has_raised_is_cleared(
    flow, store, sensor, clock
):
    await flow.rule(actions=[{"type": "alert"}])
    await flow.rule({"no_data": 60}, actions=[{"type": "alert"}])
    await flow.say(measurement(sensor, NOON, {"t": 31}))
    await store.sensors.change(sensor, is_active=False)
    await flow.follow()
    clock(2 * MINUTE)
    await flow.processor.proceed()
    [alert], _ = await store.alerts.page(None, offset=0, limit=10)
    assert (alert.summary, alert.cleared_at is not None) == ("t is 31: above 30", True)


async def test_a_rule_that_loses_or_gets_its_alert_begins_anew(flow, store, sensor):
    rule = await flow.rule(actions=[{"type": "alert"}])
    found = []
    for n, actions in enumerate(([{"type": "alert"}], [], [{"type": "alert"}])):
        await store.rules.change(
            rule.identifier,
            lambda known, actions=actions: document_of(parse({**known, "actions": actions})),
            changed_at=2,
        )
        await flow.follow()
        await flow.say(measurement(sensor, NOON + n, {"t": 31}))
        found.append((await store.alerts.page(None, state="open", offset=0, limit=10))[1])
    assert found == [1, 0, 1]


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
async def test_a_rule_that_is_in_use_again_is_known_at_the_next_turn(
    flow, store, sensor, database_url
):
    second = Flow(await open_store(database_url))
    await second.registry.load()
    rule = await flow.rule(actions=BOTH)
    await flow.rule({"attribute": "t", "above": 100})
    await second.follow()

    async def switch(follower, **change):
        await store.rules.change(rule.identifier, lambda known: {**known, **change}, changed_at=2)
        await follower.follow()

    await switch(flow, enabled=False)
    await second.send(measurement(sensor, NOON, {"t": 31}))
    await flow.processor.proceed()
    assert await flow.actions() == await flow.waiting() == []
    await switch(second, enabled=True)
    await second.send(measurement(sensor, NOON + 1, {"t": 31}))
    await flow.processor.proceed()
    assert [shown(each) for each in await flow.actions()] == ["raised"]
    await second.store.close()


async def test_what_no_template_can_make_is_listed_as_failed(flow, sensor):
    topic = {"type": "mqtt", "topic": "measurements/{{value.name}}"}
    await flow.rule(actions=[topic])
    await flow.say(measurement(sensor, NOON, {"t": 31, "name": "a/b"}))
    [failed] = await flow.actions()
    assert (failed.state, failed.finished_at is not None) == ("failed", True)
    assert "more than a level" in failed.error


async def test_each_message_that_holds_is_forwarded(flow, sensor):
    await flow.rule(actions=[{"type": "sse", "on": "message", "template": {"t": "{{value.t}}"}}])
    await flow.say(*(measurement(sensor, NOON + n, {"t": 31 + n}) for n in range(3)))
    events = [msgspec.json.decode(each.body)["members"]["event"] for each in await flow.actions()]
    assert events == [{"t": 31}, {"t": 32}, {"t": 33}]


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
async def test_two_servers_do_not_move_the_same_states(flow, store, sensor, database_url):
    second = Flow(await open_store(database_url))
    await second.registry.load()
    await flow.rule(actions=BOTH)
    await second.follow()
    for n in range(20):
        await flow.send(measurement(sensor, NOON + n, {"t": 31 if n % 2 else 20}))
        await asyncio.gather(flow.processor.proceed(), second.processor.proceed())
    await flow.processor.proceed()
    assert len(await flow.actions()) == 19
    await second.store.close()


async def test_an_alert_is_raised_once_and_cleared_with_what_was_found(flow, store, sensor):
    told = []
    store.alerts.changed.add(told.extend)
    rule = await flow.rule(actions=[{"type": "alert", "remind_every": 60}], severity="critical")
    await flow.say(*(measurement(sensor, NOON + n, {"t": 31 + n}) for n in range(3)))
    [alert], _ = await store.alerts.page(None, offset=0, limit=10)
    assert (alert.rule, alert.sensor, alert.count) == (rule.identifier, sensor, 1)
    assert (alert.severity, alert.summary) == ("critical", "t is 31: above 30")
    await flow.say(measurement(sensor, NOON + 4, {"t": 20}))
    assert (await store.alerts.find(alert.id)).cleared_at is not None
    await flow.say(measurement(sensor, NOON + 5, {"t": 40}))
    # What is changed falls upon nobody as it was before.
    await store.rules.change(
        rule.identifier, lambda document: {**document, "condition": {"no_data": 5}}, changed_at=2
    )
    await flow.follow()
    assert [change.event.value for change in told] == [
        "raised",
        "cleared",
        "raised_again",
        "cleared",
    ]


async def test_a_turn_that_is_broken_off_is_done_again_whole(flow, sensor, monkeypatch):
    await flow.rule(actions=[*BOTH, {"type": "alert"}])
    for step in ("settle", "enter", "store"):
        with monkeypatch.context() as broken:

            async def fail(*_arguments):
                raise asyncio.CancelledError

            broken.setattr(f"heliograph.store.rule_states.Turn.{step}", fail)
            with pytest.raises(asyncio.CancelledError):
                await flow.say(measurement(sensor, NOON, {"t": 31}))
        assert await flow.actions() == []
        assert (await flow.store.alerts.page(None, offset=0, limit=10))[1] == 0
    await flow.processor.proceed()
    assert [shown(each) for each in await flow.actions()] == ["raised"]
    assert (await flow.store.alerts.page(None, offset=0, limit=10))[1] == 1
    assert await flow.waiting() == []


async def test_another_server_goes_on_when_the_one_whose_turn_it_is_dies(postgresql_url):
    first, second = await open_store(postgresql_url), await open_store(postgresql_url)
    flow, other = Flow(first), Flow(second)
    for each in (flow, other):
        await each.registry.load()
    sensor = (
        await first.sensors.create(identifier=str(uuid.uuid4()), device_id="d", created_at=1)
    ).number
    await flow.rule(actions=[{"type": "sse"}])
    await other.follow()
    await flow.send(measurement(sensor, NOON, {"t": 31}))
    ending = contextlib.AsyncExitStack()
    turn = await ending.enter_async_context(first.rule_states.turn())
    await turn.settle(await turn.take(10, 1 << 20))
    await other.processor.proceed()
    assert await other.actions() == []
    # As if its process had been killed: what it has done is undone, its turn is over.
    backend = (await first.engine.changer.open()).get_server_pid()
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", (backend,))
    with contextlib.suppress(StoreUnavailableError):
        await ending.aclose()
    await other.processor.proceed()
    [action] = await other.actions()
    assert (action.sensor, action.timestamp) == (sensor, NOON)
    assert await other.waiting() == []
    for store in (first, second):
        await store.close()
