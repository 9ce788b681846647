"""Channels and what they are told, on both engines."""

import json
import uuid

import msgspec
import pytest

from heliograph.errors import AlreadyExistsError
from heliograph.model.alert import ClearedAlert, NewAlert
from heliograph.model.audit import Actor, ActorKind
from heliograph.model.grouping import Notice, NoticeKind, Pace
from heliograph.model.time import HOUR, SECOND
from heliograph.store import channels
from heliograph.store.alerts import change_alerts
from heliograph.store.channels import (
    LONGEST_SETTLE,
    NOTIFY,
    SETTLE,
    ChannelDefinition,
    Notification,
    ToldNotice,
    TooManyChannelsError,
    tell,
)

ADA = Actor(ActorKind.USER, "ada")
NOW = 1_800_000_000 * SECOND
PACE = Pace(60 * SECOND, 60)


def definition(name="On call", enabled=True, to="ada@example.org", secrets=None):
    members = {"name": name, "type": "email", "enabled": enabled, "to": [to]}
    text = msgspec.json.encode(members).decode()
    return ChannelDefinition(name, "email", enabled, text, secrets)


@pytest.fixture
def make(store):
    async def make(network, channel=None, *, at=1, identifier=None):
        return await store.channels.create(
            identifier=identifier or str(uuid.uuid4()),
            network=network,
            channel=channel or definition(),
            created_at=at,
            actor=ADA,
        )

    return make


async def entries(store):
    """Return what the audit log has about channels, oldest first."""
    found = await store.audit.list(limit=100)
    return [
        (each.action, each.resource_name, msgspec.json.decode(each.changes))
        for each in reversed(found)
        if each.action.startswith("channel.")
    ]


async def test_a_channel_is_made_found_changed_and_deleted(store, make, monkeypatch):
    network = (await store.networks.default()).identifier
    made = await make(network, definition(secrets="enc:1"), identifier=str(uuid.uuid4()).upper())
    assert (made.network_identifier, made.name, made.enabled) == (network, "On call", True)
    # As a rule may name it.
    named = {"On call", made.identifier}
    assert await store.rules.channels_named([*named, "x"]) == {(network, name) for name in named}
    assert await store.channels.find(made.identifier.upper()) == made
    assert await store.channels.called(network, "On call") == made
    assert await store.channels.called(None, "On call") is None
    for unknown in (str(uuid.uuid4()), "On call", "\0", ""):
        assert await store.channels.find(unknown) is None
    assert await make(str(uuid.uuid4())) is None

    # A name is one network's, or the server's.
    of_server = await make(None, at=2)
    for network_identifier in (network, None):
        with pytest.raises(AlreadyExistsError) as raised:
            await make(network_identifier)
        assert raised.value.field == "name"
    with pytest.raises(AlreadyExistsError) as raised:
        await make(network, definition("x"), identifier=made.identifier)
    assert raised.value.field == "identifier"
    page = {"offset": 0, "limit": 10}
    assert await store.channels.page(networks=None, **page) == ([made, of_server], 2)
    assert await store.channels.page(networks=[network], **page) == ([made], 1)

    other = definition("Nights", to="bob@example.org", enabled=False, secrets="enc:2")
    seen = []

    async def change(identifier, at):
        decide = lambda channel: seen.append(channel) or other  # noqa: E731 - what it was given
        return await store.channels.change(identifier, decide, changed_at=at, actor=ADA)

    changed = await change(made.identifier, 9)
    assert (changed.name, changed.enabled, changed.changed_at) == ("Nights", False, 9)
    assert await change(made.identifier, 10) == changed
    assert await change(str(uuid.uuid4()), 10) is None
    assert seen == [made, changed]
    assert await store.channels.with_secrets() == [changed]
    assert await store.channels.encrypt(changed, "enc:3")
    assert not await store.channels.encrypt(changed, "enc:4")
    assert (await store.channels.find(made.identifier)).secrets == "enc:3"

    monkeypatch.setattr(channels, "MAXIMUM_CHANNELS", 1)
    with pytest.raises(TooManyChannelsError):
        await make(network, definition("y"))
    assert await store.channels.delete(made.identifier, actor=ADA)
    assert not await store.channels.delete(made.identifier)
    assert await entries(store) == [
        ("channel.create", "On call", {}),
        ("channel.create", "On call", {}),
        (
            "channel.change",
            "Nights",
            {
                "name": {"old": "On call", "new": "Nights"},
                "enabled": {"old": True, "new": False},
                "to": {},
                "secrets": {},
            },
        ),
        ("channel.delete", "Nights", {}),
    ]


async def told(store):
    """Return what the outbox is to send, oldest first."""
    actions, _ = await store.actions.page(None, type=NOTIFY, offset=0, limit=100)
    return [msgspec.json.decode(each.body, type=Notification) for each in reversed(actions)]


async def test_a_notice_waits_for_more_as_long_as_they_come_but_not_for_ever(store, make):
    network = (await store.networks.default()).identifier
    await make(network, definition("first"))
    end = NOW + LONGEST_SETTLE

    async def say(at):
        async with store.engine.transaction() as transaction:
            notice = Notice(NoticeKind.RAISED, "info", "-", "a")
            await tell(transaction, [ToldNotice(network, None, notice)], at)

    for at in range(NOW, end, SETTLE - 1):
        await say(at)
        assert await store.channels.due_at(at) == min(at + SETTLE, end)
        assert await store.channels.gather(at, PACE) == 0
    assert await store.channels.gather(end - 1, PACE) == 0
    assert await store.channels.gather(end, PACE) == 1
    # Once the clock was put back, it waits no longer than that.
    await say(end)
    assert await store.channels.due_at(NOW) == 0
    [sent], _ = await store.actions.page(None, offset=0, limit=10)
    assert json.loads(sent.body)["alerts"] == 11


async def test_all_is_clear_for_a_channel_that_is_told_of_no_other_alert(store, make):
    network = (await store.networks.default()).identifier
    of_all, other = [(await make(network, definition(name))).identifier for name in ("a", "b")]

    def alert(rule, channels=None):
        return NewAlert(rule, 0, network, "Hot", "warning", "31 °C", NOW, channels)

    async def change(at, *changes):
        async with store.engine.transaction() as transaction:
            await change_alerts(transaction, changes, at)
        at += PACE.window
        assert await store.channels.gather(at, PACE) == 2
        return {each.channel: each.text for each in await told(store)}

    await change(NOW, alert("1", ("a",)), alert("2"))
    texts = await change(NOW + HOUR, ClearedAlert("2", 0, NOW))
    assert "Raised at this moment: 1." in texts[of_all]
    assert "All clear" in texts[other]


async def test_notices_are_gathered_and_entered_for_the_channels_that_are_named(store, make):
    network = (await store.networks.default()).identifier
    first, second, third, unused, server = (
        await make(network, definition("first")),
        await make(network, definition("second")),
        await make(network, definition("third")),
        await make(network, definition("unused", enabled=False)),
        await make(None, definition("first")),
    )

    async def say(sensor, names, *, at, kind=NoticeKind.RAISED, of=network):
        async with store.engine.transaction() as transaction:
            notice = Notice(kind, "warning", "Hot", sensor)
            await tell(transaction, [ToldNotice(of, names, notice)], at)

    assert await store.channels.due_at(NOW) is None
    await say("a", None, at=NOW)
    await say("b", ["first", second.identifier, "unused", "nobody"], at=NOW)
    assert await store.channels.due_at(NOW) == NOW + SETTLE
    assert await store.channels.gather(NOW + SETTLE - 1, PACE) == 0
    assert await store.channels.gather(NOW + SETTLE, PACE) == 3
    assert await store.channels.due_at(NOW) is None
    by_channel = {each.channel: each for each in await told(store)}
    counts = {channel: each.alerts for channel, each in by_channel.items()}
    assert counts == {first.identifier: 2, second.identifier: 2, third.identifier: 1}
    assert by_channel[first.identifier].title == "[warning] 2 sensors: Hot"
    assert by_channel[first.identifier].network == "default"
    assert unused.identifier not in by_channel

    # The rest of the window is one.
    for sensor in ("c", "d"):
        await say(sensor, ["first"], at=NOW + 2 * SETTLE, kind=NoticeKind.CLEARED)
    assert await store.channels.gather(NOW + 4 * SETTLE, PACE) == 0
    assert await store.channels.due_at(NOW) == NOW + SETTLE + PACE.window
    assert await store.channels.gather(NOW + SETTLE + PACE.window, PACE) == 1
    assert "All clear" in (await told(store))[-1].text

    # By a shorter window that is due now.
    ended = NOW + SETTLE + PACE.window
    await say("f", ["first"], at=ended, kind=NoticeKind.CLEARED)
    later, shorter = ended + SETTLE, PACE._replace(window=SETTLE // 4)
    assert await store.channels.gather(later, PACE) == 0
    assert await store.channels.gather(later, shorter) == 0
    await store.channels.hasten(later)
    assert await store.channels.due_at(later) == later
    assert await store.channels.gather(later, shorter) == 1

    # The server's own are told there alone; what stops being used is told nothing more.
    await say("", None, at=NOW, of=None)
    assert await store.channels.gather(NOW + 9 * PACE.window, PACE) == 1
    last = (await told(store))[-1]
    assert (last.channel, last.network) == (server.identifier, "")
    await say("", None, at=NOW, of=None)
    unused_now = definition("first", enabled=False)
    await store.channels.change(server.identifier, lambda _: unused_now, changed_at=2)
    assert await store.channels.gather(NOW + 99 * PACE.window, PACE) == 0
    assert await store.channels.due_at(NOW) is None

    # The clock was put back since.
    await say("e", ["third"], at=NOW + 1)
    assert await store.channels.due_at(NOW) < NOW
    assert await store.channels.gather(NOW, PACE) == 1
    await say("e", ["third"], at=NOW)
    assert await store.channels.delete(third.identifier)
    assert await store.channels.due_at(NOW) is None
