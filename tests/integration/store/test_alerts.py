"""Alerts and silences, on both engines."""

import uuid

import msgspec
import pytest
from msgspec.structs import replace

from heliograph.model.alert import (
    SETTLING,
    AlertEventKind,
    ClearedAlert,
    Escalation,
    NewAlert,
    Silence,
)
from heliograph.model.audit import Actor, ActorKind
from heliograph.model.grouping import NoticeKind
from heliograph.model.time import HOUR, MINUTE
from heliograph.store import alerts as alerts_module
from heliograph.store.alerts import change_alerts
from rows import NOON

RAISED, CLEARED = NoticeKind.RAISED, NoticeKind.CLEARED
REMINDED = NoticeKind.REMINDED
ALICE = Actor(ActorKind.USER, "alice", "::1")


@pytest.fixture
def told(monkeypatch):
    """What channels are told, in its order: kind, severity, channels."""
    told = []

    async def tell(_transaction, entered, _now):
        told.extend((each.notice.kind, each.notice.severity, each.channels) for each in entered)

    monkeypatch.setattr(alerts_module, "tell", tell)
    return told


@pytest.fixture
async def network(store):
    return (await store.networks.default()).identifier


@pytest.fixture
def new(sensor, network):
    return NewAlert("rule-1", sensor, network, "Too hot", "warning", "31 °C", NOON)


async def begin(store, new, at=NOON):
    async with store.engine.transaction() as transaction:
        return next(iter(await change_alerts(transaction, [new], at)), None)


async def end(store, new, at):
    async with store.engine.transaction() as transaction:
        over = ClearedAlert(new.rule, new.sensor, at)
        return next(iter(await change_alerts(transaction, [over], at)), None)


def silence(network, **members):
    base = Silence(
        str(uuid.uuid4()), network, None, None, None, NOON, NOON + HOUR, None, "alice", NOON
    )
    return replace(base, **members)


async def events(store, alert):
    return [each.event for each in await store.alerts.history(alert)]


async def test_there_is_one_open_alert_of_a_rule_and_sensor(store, new, told):
    change = await begin(store, new)
    assert change.event is AlertEventKind.RAISED
    assert await begin(store, new) is None
    other = await begin(store, replace(new, rule="rule-2", severity="critical"))
    cleared = await end(store, new, NOON + MINUTE)
    assert (cleared.alert.id, cleared.alert.count) == (change.alert.id, 2)
    assert await end(store, new, NOON + MINUTE) is None
    assert told == [
        (RAISED, "warning", None),
        (RAISED, "critical", None),
        (CLEARED, "warning", None),
    ]
    page, total = await store.alerts.page(None, offset=0, limit=10)
    assert ([each.id for each in page], total) == ([other.alert.id, change.alert.id], 2)
    for which, found in (
        ({"state": "open"}, [other.alert.id]),
        ({"state": "raised", "severity": "warning"}, []),
        ({"state": "cleared", "rule": "rule-1"}, [change.alert.id]),
        ({"state": "acknowledged"}, []),
        ({"sensor": new.sensor + 1}, []),
    ):
        page, total = await store.alerts.page([new.network_identifier], offset=0, limit=10, **which)
        assert ([each.id for each in page], total) == (found, len(found)), which
    assert await store.alerts.page([], offset=0, limit=10) == ([], 0)


async def test_changes_of_one_alert_follow_one_another_in_one_go(store, new, told):
    over = ClearedAlert(new.rule, new.sensor, NOON)
    other = msgspec.structs.replace(new, rule="rule-2")
    async with store.engine.transaction() as transaction:
        made = await change_alerts(transaction, [new, over, other, new, new], NOON)
    raised, cleared = AlertEventKind.RAISED, AlertEventKind.CLEARED
    assert [(event, alert.rule) for event, alert in made] == [
        *((raised, "rule-1"), (raised, "rule-2")),
        *((cleared, "rule-1"), (AlertEventKind.RAISED_AGAIN, "rule-1")),
    ]
    page, _ = await store.alerts.page(None, state="open", offset=0, limit=10)
    assert [(alert.rule, alert.count) for alert in page] == [("rule-2", 1), ("rule-1", 3)]
    assert [kind for kind, _, _ in told] == [RAISED, RAISED, CLEARED, RAISED]


async def test_an_acknowledgment_is_not_lost_by_a_clear_and_a_new_raise(store, new, told):
    change = await begin(store, replace(new, remind_every=MINUTE))
    acknowledged = await store.alerts.acknowledge(
        change.alert.id, NOON + 1, comment="on my way", actor=ALICE
    )
    assert (acknowledged.state, acknowledged.due_at) == ("acknowledged", None)
    told.clear()
    at = NOON
    for _ in range(3):
        at += MINUTE
        await end(store, new, at)
        at += MINUTE
        again = await begin(store, new, at)
        assert again.event is AlertEventKind.RAISED_AGAIN
        assert (again.alert.id, again.alert.state) == (change.alert.id, "acknowledged")
    await end(store, new, at + 1)
    assert told == []
    # That it has cleared is told once it has settled.
    assert await store.alerts.due_at() == at + 1 + SETTLING
    assert await store.alerts.proceed(at + SETTLING) == 0
    assert await store.alerts.proceed(at + 1 + SETTLING) == 1
    assert told == [(CLEARED, "warning", None)]
    assert await store.alerts.due_at() is None
    # What comes then is another alert.
    assert (await begin(store, new, at + 2 + SETTLING)).alert.state == "raised"
    audited = [entry.action for entry in await store.audit.list(limit=10)]
    assert audited.count("alert.acknowledge") == 1


async def test_reminders_and_escalations_come_by_the_clock(store, new, told):
    escalate = (Escalation(5 * MINUTE, "critical", ("boss",)),)
    plan = replace(new, channels=("team",), remind_every=2 * MINUTE, escalate=escalate)
    change = await begin(store, plan)
    told.clear()
    seen = []
    for minute in range(10):
        count = await store.alerts.proceed(NOON + minute * MINUTE)
        seen += [(minute, each) for each in told] if count else []
        told.clear()
    team, both = ("team",), ("team", "boss")
    assert seen == [
        (2, (REMINDED, "warning", team)),
        (4, (REMINDED, "warning", team)),
        (5, (NoticeKind.ESCALATED, "critical", both)),
        (7, (REMINDED, "critical", both)),
        (9, (REMINDED, "critical", both)),
    ]
    await store.alerts.acknowledge(change.alert.id, NOON + 10 * MINUTE)
    assert await store.alerts.proceed(NOON + HOUR) == 0
    assert await events(store, change.alert.id) == [
        *("raised", "reminded", "reminded", "escalated", "reminded", "reminded", "acknowledged")
    ]


async def test_what_is_cleared_by_hand_is_told_and_another_one_afterwards(store, new, told):
    change = await begin(store, new)
    cleared = await store.alerts.clear(change.alert.id, NOON + 1, actor=ALICE)
    assert (cleared.state, cleared.cleared_by) == ("cleared", "alice")
    assert await store.alerts.clear(change.alert.id, NOON + 2, actor=ALICE) is None
    assert await store.alerts.acknowledge(change.alert.id, NOON + 2, actor=ALICE) is None
    # The condition clears only now.
    assert await end(store, new, NOON + 3) is None
    assert (await begin(store, new, NOON + 4)).alert.id != change.alert.id
    assert [kind for kind, *_ in told] == [RAISED, CLEARED, RAISED]
    audited = [entry.action for entry in await store.audit.list(limit=10)]
    assert audited.count("alert.clear") == 1


async def test_a_silence_acts_at_once_and_at_its_end_it_is_told_what_holds(
    store, new, network, told
):
    made = await store.silences.create(silence(network, sensor=new.sensor), NOON, actor=ALICE)
    change = await begin(store, new)
    other = await begin(store, replace(new, sensor=0))
    assert told == [(RAISED, "warning", None)]
    told.clear()
    assert change.alert.due_at == made.ends_at
    # It is ended early.
    assert await store.silences.end(made.identifier, NOON + MINUTE, actor=ALICE)
    assert not await store.silences.end(made.identifier, NOON + MINUTE, actor=ALICE)
    assert await store.alerts.due_at() == NOON + MINUTE
    assert await store.alerts.proceed(NOON + MINUTE) == 1
    assert told == [(RAISED, "warning", None)]
    told.clear()
    # One begins while it is known already; whoever knows of it is told that it still holds.
    later = silence(network, tag=None, rule="rule-1", starts_at=NOON + 2 * MINUTE)
    await store.silences.create(later, NOON + MINUTE, actor=ALICE)
    await store.alerts.proceed(NOON + MINUTE)
    assert await store.alerts.due_at() == later.starts_at
    assert await store.alerts.proceed(later.starts_at) == 2
    # What clears meanwhile is told at the end as well.
    await end(store, replace(new, sensor=0), NOON + 3 * MINUTE)
    assert told == []
    assert await store.alerts.proceed(later.ends_at) == 2
    assert sorted(told) == [(CLEARED, "warning", None), (REMINDED, "warning", None)]
    assert await events(store, change.alert.id) == ["raised", "silenced", "silenced", "reminded"]
    assert other is not None


async def test_a_silence_that_is_made_shorter_ends_then(store, new, network, told, monkeypatch):
    woken, shown = [], []
    store.silences.changed.add(lambda: woken.append(1))
    store.alerts.changed.add(lambda changes: shown.extend(each.event for each in changes))
    made = await store.silences.create(silence(network), NOON)
    assert len(woken) == 1
    change = await begin(store, new)
    end = NOON + 2 * MINUTE
    await store.silences.change(
        made.identifier, NOON + MINUTE, starts_at=NOON, ends_at=end, comment=None, actor=ALICE
    )
    assert await store.alerts.proceed(NOON + MINUTE) == 1
    assert (await store.alerts.find(change.alert.id)).due_at == end
    assert told == []
    assert await store.alerts.proceed(end) == 1
    assert told == [(RAISED, "warning", None)]
    later = silence(network, starts_at=end + 1, ends_at=end + 2)
    await store.silences.create(later, end)
    await store.alerts.proceed(end)
    await store.alerts.proceed(end + 1)
    assert shown == [AlertEventKind.SILENCED]
    assert await store.silences.end(later.identifier, end + 2)
    assert len(woken) == 4
    # There are as many as there may be, of those that have not ended.
    monkeypatch.setattr(alerts_module, "MAXIMUM_SILENCES", 1)
    assert await store.silences.create(silence(network), end - 1) is None
    assert await store.silences.create(silence(network), end) is not None


async def test_only_silences_that_are_about_an_alert_keep_it_quiet(store, new, network, told):
    for at, (narrowing, is_silent) in enumerate(
        (
            ({"rule": "rule-9"}, False),
            ({"tag": "cellar"}, False),
            ({"sensor": new.sensor}, True),
            ({"network_identifier": None}, True),
            ({"ends_at": NOON}, False),
            ({"starts_at": NOON + 1}, False),
        )
    ):
        made = await store.silences.create(silence(network, **narrowing), NOON - 1)
        told.clear()
        await begin(store, replace(new, rule=f"rule-{at}"))
        assert (told == []) is is_silent, narrowing
        assert await store.silences.end(made.identifier, NOON)


async def test_alerts_of_what_is_gone_are_cleared(store, new, told):
    change = await begin(store, replace(new, rule=str(uuid.uuid4())))
    server = await begin(store, replace(new, rule="backlog", sensor=0, network_identifier=None))
    shown = []
    store.alerts.changed.add(shown.extend)
    assert await store.alerts.clear_orphans(NOON + 1) == 1
    assert [(event, alert.id) for event, alert in shown] == [
        (AlertEventKind.CLEARED, change.alert.id)
    ]
    assert (await store.alerts.find(change.alert.id)).state == "cleared"
    assert (await store.alerts.find(server.alert.id)).state == "raised"
    for ends_at in (NOON + 1, NOON + 2):
        await store.silences.create(silence(new.network_identifier, ends_at=ends_at), NOON)
    assert await store.alerts.prune(NOON + 1) == 0
    assert await store.alerts.prune(NOON + 2) == 1
    [left], _ = await store.silences.page(None, since=0, offset=0, limit=10)
    assert left.ends_at == NOON + 2
