"""Who is sent what, in whose turn, with sessions that note what they are sent."""

import asyncio
import itertools
import time
from types import SimpleNamespace

import pytest

from heliograph.access.policy import Grants, KnownAccount, UnknownSensor, may_receive
from heliograph.model.event import Committed
from heliograph.model.principal import Principal, Role
from heliograph.model.records import Kind
from heliograph.mqtt import fanout as fanout_module
from heliograph.mqtt.codec.packets import Subscription
from heliograph.mqtt.counts import Counts
from heliograph.mqtt.fanout import Fanout, SubscriptionTree
from heliograph.mqtt.host import TopicMessage
from heliograph.mqtt.session import Session
from server import eventually

MICROSECOND = 1e-6
EVERY_WAY = [
    *("#", "+/#", "+/+", "+/+/#", "+/pump", "+/pump/#", "measurements/#"),
    *("measurements/+", "measurements/+/#", "measurements/pump", "measurements/pump/#"),
]


class Accounts(dict):
    """Accounts that view the network which they are called after, unless they have lost that."""

    def __init__(self):
        super().__init__()
        self.lost = set()
        self.asked = 0

    def get(self, account):
        self.asked += 1
        roles = {} if account in self.lost else {account.split(":")[0]: Role.VIEWER}
        return KnownAccount(None, roles)


class House:
    """A host to which the networks belong that principals are called after."""

    def __init__(self):
        self.rights = self.generation = 0
        self.publish_topic = "commands"
        self.accounts = Accounts()
        self.grants = Grants(accounts=self.accounts)

    def watch(self):
        pass

    def may_see(self, principal, sensor, network_identifier):
        if principal.device is not None:
            return True
        return may_receive(principal, UnknownSensor(sensor, network_identifier), self.grants)

    def message_of(self, event):
        topics = (f"measurements/{event.device_id}", f"measurements/{event.identifier}")
        return TopicMessage(topics, event.number, event.network_identifier, event.payload, event)


class Noting(Session):
    """A session that notes what it is sent."""

    __slots__ = ("sent",)

    def __init__(self, principal, client_id="c", *, connected=True):
        super().__init__(principal, client_id, Counts())
        self.connection = SimpleNamespace(retained=None, checked=0) if connected else None
        self.sent = []

    def deliver(self, message):
        self.sent.append((message.topic, message.payload, message.qos))


@pytest.fixture
def house():
    return House()


@pytest.fixture
def counts():
    return Counts()


@pytest.fixture
def tasks():
    return set()


@pytest.fixture
def fanout(house, counts, tasks):
    return Fanout(house, counts, tasks)


def test_a_connection_is_looked_at_once_a_change_before_it_is_sent_anything(fanout, house):
    session, sent = Noting(user("here")), []
    subscribe(fanout, session, "#")

    def recheck():
        session.connection.checked = house.generation
        sent.append(len(session.sent))

    session.connection.recheck = recheck
    for generation in (0, 1, 1, 2):
        house.generation = house.rights = generation
        fanout.show([event("here")])
    assert sent == [1, 3]


def user(place, number=0):
    return Principal("user", f"user:{place}:{number}", account=f"{place}:{number}")


def event(place, payload=b"1", *, name="pump", number=1):
    return Committed(Kind.MEASUREMENT, number, f"uuid-{name}", name, place, [(1,)], payload, None)


def subscribe(fanout, session, *filters, qos=1):
    for topic_filter in filters:
        fanout.add(session, Subscription(topic_filter, qos), qos)


@pytest.fixture
def matched(monkeypatch):
    """Return the topics that were looked for among anybody's filters."""
    looked_for = []
    matches = SubscriptionTree.matches

    def noting(tree, topic):
        looked_for.append(topic)
        return matches(tree, topic)

    monkeypatch.setattr(SubscriptionTree, "matches", noting)
    return looked_for


def test_who_may_see_is_decided_before_filters_are_matched_and_per_network(fanout, house, matched):
    """A hundred sessions of a stranger, each with every filter that selects the topic."""
    strangers = [Noting(user("elsewhere"), f"c{n}") for n in range(100)]
    for stranger in strangers:
        subscribe(fanout, stranger, *EVERY_WAY)
    fanout.show([event("here")] * 10_000)
    assert matched == []
    assert house.accounts.asked == 1
    assert not any(stranger.sent for stranger in strangers)
    house.rights += 1
    fanout.show([event("here")] * 10)
    assert house.accounts.asked == 2


def test_each_session_gets_a_message_once_with_the_highest_quality(fanout):
    sessions = [Noting(user("here"), f"c{n}") for n in range(3)]
    for session in sessions:
        subscribe(fanout, session, *EVERY_WAY, qos=0)
        subscribe(fanout, session, "measurements/uuid-pump")
    fanout.show([event("here")])
    for session in sessions:
        assert session.sent == [("measurements/pump", b"1", 1)]


@pytest.mark.parametrize("qos", [0, 1])
def test_a_session_without_a_connection_costs_nothing_at_qos_0(fanout, matched, qos):
    session = Noting(user("here"))
    subscribe(fanout, session, *EVERY_WAY, qos=qos)
    assert fanout.watched()
    session.connection = None
    fanout.detach(session)
    fanout.detach(session)
    assert fanout.watched() is bool(qos)
    fanout.show([event("here")])
    assert len(session.sent) == qos
    # What is subscribed to meanwhile by a packet that came before the end, too.
    subscribe(fanout, session, "measurements/uuid-pump", qos=qos)
    assert fanout.watched() is bool(qos)
    session.connection = SimpleNamespace(retained=None, checked=0)
    for _ in range(2):
        fanout.attach(session)
    session.sent.clear()
    fanout.show([event("here")])
    assert len(session.sent) == 1
    fanout.remove(session)
    assert not fanout.watched()
    assert not fanout._audiences


def test_devices_and_shared_keys_see_their_own(fanout):
    own = Noting(Principal("device", "device:pump", sensor=1))
    other = Noting(Principal("device", "device:other", sensor=2))
    shared = Noting(Principal("shared", "shared:pump", device="pump"))
    for session in (own, other, shared):
        subscribe(fanout, session, "measurements/pump")
    fanout.show([event("here")])
    assert [len(session.sent) for session in (own, other, shared)] == [1, 0, 1]
    for session in (own, other, shared):
        fanout.remove(session)
    assert not fanout._of_device


@pytest.fixture
def hurried(monkeypatch):
    """Let the first message alone go out at once."""
    monkeypatch.setattr(fanout_module, "DELIVERIES_BETWEEN_LOOKS", 1)
    monkeypatch.setattr(fanout_module, "TURN_SECONDS", 1e-9)


@pytest.mark.usefixtures("hurried")
async def test_what_is_too_much_at_once_comes_in_turns_and_in_order(fanout, tasks):
    """Everybody else has turns meanwhile."""
    session = Noting(user("here"))
    subscribe(fanout, session, "#")
    events = [event("here", b"%d" % number) for number in range(300)]
    fanout.show(events[:200])
    fanout.show(events[200:])
    assert len(session.sent) < 10
    turns = 0
    while len(session.sent) < 300:
        await asyncio.sleep(0)
        turns += 1
    assert turns > 30
    assert [payload for _, payload, _ in session.sent] == [each.payload for each in events]
    await eventually(lambda: not tasks)
    assert fanout._behind_bytes == 0


@pytest.mark.usefixtures("hurried")
async def test_one_principals_much_does_not_hold_up_anothers_little(fanout):
    greedy, modest = Noting(user("here", 1)), Noting(user("here", 2))
    subscribe(fanout, greedy, "measurements/#")
    subscribe(fanout, modest, "measurements/rare")
    fanout.show([event("here", b"%d" % number) for number in range(100)])
    other = Noting(user("there"))
    subscribe(fanout, other, "#")
    fanout.show([event("there")])
    async with asyncio.timeout(60):
        while not other.sent:  # noqa: ASYNC110 - turns are what is looked at
            await asyncio.sleep(0)
    assert len(greedy.sent) < 50


@pytest.mark.usefixtures("hurried")
async def test_a_right_that_ends_while_a_message_waits_for_its_turn(fanout, house, counts, tasks):
    session = Noting(user("here"))
    subscribe(fanout, session, "#")
    fanout.show([event("here", b"%d" % number) for number in range(100)])
    sent = len(session.sent)
    house.accounts.lost.add(session.principal.account)
    await asyncio.gather(*tasks)
    assert len(session.sent) == sent
    assert counts.withheld == 100 - sent


@pytest.mark.usefixtures("hurried")
async def test_what_waits_for_its_turn_is_bounded(fanout, counts, tasks, monkeypatch):
    """The oldest goes first, and is counted."""
    monkeypatch.setattr(fanout_module, "MAXIMUM_BEHIND_BYTES", 50 * 403)
    session = Noting(user("here"))
    subscribe(fanout, session, "#")
    fanout.show([event("here", b"%03d" % number) for number in range(1_000)])
    sent = len(session.sent)
    assert fanout._behind_bytes == 50 * 403
    assert counts.dropped == 950 - sent
    await asyncio.gather(*tasks)
    assert [payload for _, payload, _ in session.sent[sent:]] == [
        b"%03d" % number for number in range(950, 1_000)
    ]


@pytest.mark.usefixtures("hurried")
async def test_what_waits_in_all_is_bounded(fanout, counts, tasks, monkeypatch):
    monkeypatch.setattr(fanout_module, "MAXIMUM_BEHIND_BYTES_IN_ALL", 100 * 403)
    for number in range(10):
        subscribe(fanout, Noting(user("here", number)), "#")
    fanout.show([event("here", b"one")] * 50)
    assert fanout._behind_bytes == 100 * 403
    assert counts.dropped > 350
    await asyncio.gather(*tasks)


@pytest.mark.usefixtures("hurried")
async def test_what_waits_goes_with_the_last_session(fanout, tasks):
    session = Noting(user("here"))
    subscribe(fanout, session, "#")
    fanout.show([event("here")] * 100)
    assert fanout._behind
    fanout.remove(session)
    assert (fanout._behind_bytes, len(fanout._behind)) == (0, 0)
    await asyncio.gather(*tasks)
    assert fanout._catching_up is None


@pytest.mark.usefixtures("hurried")
async def test_a_configuration_comes_at_once_and_makes_whoever_publishes_wait(fanout, monkeypatch):
    # While a machine stands still as much may be earned as any message takes: not by this clock.
    readings = itertools.count()
    clock = SimpleNamespace(
        thread_time=time.thread_time, perf_counter=lambda: next(readings) * MICROSECOND
    )
    monkeypatch.setattr(fanout_module, "time", clock)
    session = Noting(user("here"))
    subscribe(fanout, session, "#")
    fanout.show([event("here")] * 100)
    session.sent.clear()
    topics = ("configurations/pump", "configurations/uuid-pump")
    turns = 0

    async def count():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count(), name="count")
    configuring = fanout.configure(TopicMessage(topics, 1, "here", b"{}"))
    await asyncio.create_task(configuring, name="configure")
    assert session.sent.index(("configurations/pump", b"{}", 1)) < 50
    assert turns > 3
    counting.cancel()
    fanout.remove(session)


def test_filters_that_select_nothing_that_is_shown_take_no_room_among_the_others(fanout):
    session = Noting(user("here"))
    deep = ["a/b/c", "+/+/+", "a/b/c/#", "/".join("+" * 16)]
    subscribe(fanout, session, *deep)
    assert not fanout.watched()
    assert list(session.subscriptions) == deep
    assert all(fanout.discard(session, topic_filter) for topic_filter in deep)
    subscribe(fanout, session, *EVERY_WAY)
    assert fanout._entries == len(EVERY_WAY)


async def test_devices_too_see_what_everybody_sees_and_are_found_by_their_topics(
    fanout, house, matched
):
    """A fleet that subscribes to its own is not gone through for each message."""
    house.grants.everybody, house.grants.open_networks = Role.VIEWER, frozenset({"open"})
    fleet = [
        Noting(Principal("device", f"device:{number}", sensor=number)) for number in range(50, 90)
    ]
    for session in fleet:
        subscribe(fanout, session, f"measurements/{session.principal.sensor}")
    own = Noting(Principal("device", "device:pump", sensor=1))
    curious = Noting(Principal("device", "device:other", sensor=2))
    greedy = Noting(Principal("device", "device:greedy", sensor=3))
    subscribe(fanout, own, "measurements/pump", "measurements/uuid-pump")
    subscribe(fanout, curious, "measurements/uuid-pump")
    subscribe(fanout, greedy, "measurements/pump", "measurements/+")
    fanout.show([event("open")])
    assert [len(session.sent) for session in (own, curious, greedy)] == [1, 1, 1]
    assert len(matched) == 3 * 2
    fanout.show([event("here")])
    assert [len(session.sent) for session in (own, curious, greedy)] == [2, 1, 1]
    topics = ("measurements/pump", "measurements/uuid-pump")
    await fanout.configure(TopicMessage(topics, 1, "open", b"{}"))
    assert [len(session.sent) for session in (own, curious, greedy)] == [3, 2, 2]
    for session in (own, curious, greedy, *fleet):
        fanout.remove(session)
    assert not fanout._of_topic
    assert not fanout._viewers
    assert not fanout.watched()


def test_a_fleet_that_connects_does_not_have_everybodys_rights_asked_again(fanout, house):
    viewer = Noting(user("here"))
    subscribe(fanout, viewer, "#")
    fanout.show([event("here")])
    for number in range(100):
        session = Noting(Principal("device", f"device:{number}", sensor=number))
        subscribe(fanout, session, f"configurations/{number}")
        fanout.show([event("here")])
        if number % 2:
            fanout.remove(session)
    assert house.accounts.asked == 1
