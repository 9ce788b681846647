"""What other servers commit, shown here once and in their order, whatever is lost or late."""

import asyncio
import contextlib
import itertools
import types

import pytest

from heliograph.errors import StoreUnavailableError
from heliograph.ingest import elsewhere
from heliograph.ingest.elsewhere import Elsewhere, Interest
from heliograph.ingest.state import PipelineState
from heliograph.live import signals
from heliograph.live.hub import Hub
from heliograph.live.positions import Watermarks
from heliograph.model.identifiers import INGEST_ID_STEP, MAXIMUM_INSTANCE, first_ingest_id
from heliograph.model.records import Kind
from heliograph.model.time import HOUR, now
from heliograph.store.telemetry import Received
from server import eventually

# Not so long ago, however long the tests before have taken, that it is not looked for again.
START = first_ingest_id(now() + HOUR)
NETWORK = "7f9c2ba4-e88f-427d-8e9c-0a1b2c3d4e5f"


def an_id(count, number):
    return START + count * INGEST_ID_STEP + number


class Connection:
    """Keeps what is sent; `tell` is another server."""

    def __init__(self):
        self.is_open = False
        self.refuses = False
        self.sent = []
        self._lost = asyncio.Event()
        self._pieces = signals.Pieces()
        self._hear = None
        self.reads = signals.Assembly()

    async def open(self, heard):
        if self.refuses:
            raise StoreUnavailableError("away")
        self._hear, self.is_open = heard, True
        self._lost.clear()

    async def lost(self):
        await self._lost.wait()

    async def send(self, texts):
        if self.refuses:
            await self.close()
            raise StoreUnavailableError("away")
        self.sent += [message for text in texts if (message := self.reads.take(text))]

    async def close(self):
        self.is_open = False
        self._lost.set()

    def tell(self, *messages):
        for message in messages:
            for piece in self._pieces.of(signals.encode(message)):
                self._hear(1, piece)


class Replay:
    """Rows that are committed, by their ids."""

    def __init__(self):
        self.ids = []
        self.reads = 0
        self.is_away = False

    def _of(self, numbers, after, until):
        return sorted(
            each
            for each in self.ids
            if after < each <= until and each & MAXIMUM_INSTANCE in numbers
        )

    async def index_of(self, numbers, after, until, limit):
        self.reads += 1
        if self.is_away:
            raise StoreUnavailableError("away")
        found = self._of(numbers, after, until)[:limit]
        return [Received(Kind.MEASUREMENT, each, 1, 10) for each in found]

    async def rows_of(self, numbers, kinds, first, last):
        assert kinds == [Kind.MEASUREMENT]
        found = self._of(numbers, first - 1, last)
        return [(Kind.MEASUREMENT, (each, 1, 0, 0, each, None, None, "1")) for each in found]


class Looks:
    """Counts the looks that are taken."""

    looks = 0

    def look(self):
        self.looks += 1


class Instance(Looks):
    number = 0

    def __init__(self, *others):
        self.others = [types.SimpleNamespace(number=number) for number in others]


class Registry(Looks):
    def number(self, number):
        return types.SimpleNamespace(
            number=number, identifier="s", device_id="pump", network_identifier=NETWORK
        )

    async def find_number(self, number):
        return self.number(number)


@pytest.fixture
async def here(monkeypatch):
    """An instance 0, to which instances 1 and 2 tell something."""
    monkeypatch.setattr(elsewhere, "GATHER_SECONDS", 0)
    monkeypatch.setattr(elsewhere, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(elsewhere, "PAGE_ROWS", 3)
    hub, marks = Hub(), Watermarks(lambda: an_id(0, 0))
    made = types.SimpleNamespace(
        connection=Connection(),
        replay=Replay(),
        instance=Instance(1),
        registry=Registry(),
        state=PipelineState(),
        marks=marks,
        shown=[],
        positions=[],
    )

    def show(events):
        for event in events:
            made.shown += [row[0] for row in event.rows]

    hub.add(lambda: True, show)
    made.elsewhere = Elsewhere(
        made.connection, made.instance, made.replay, made.registry, hub, made.state, marks
    )
    made.elsewhere.interest = lambda: Interest(None, None)
    await made.connection.open(made.elsewhere._hear)
    running = asyncio.create_task(made.elsewhere.run())
    yield made
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def ids(number, after, until, **options):
    return signals.Ids(number, an_id(after, number), an_id(until, number), **options)


ANY = {"networks": None, "kinds": ("measurement",)}


async def test_ids_that_another_server_commits_later_than_greater_ones_are_shown(here):
    here.replay.ids = [an_id(count, 1) for count in range(1, 9)]
    here.connection.tell(ids(1, 0, 8, **ANY), ids(2, 0, 0))
    await eventually(lambda: len(here.shown) == 8)
    # Made before those of the other server.
    here.replay.ids += [an_id(2, 2), an_id(3, 2)]
    here.connection.tell(ids(2, 0, 3, **ANY))
    await eventually(lambda: len(here.shown) == 10)
    assert here.shown[:8] == [an_id(count, 1) for count in range(1, 9)]
    assert here.shown[8:] == [an_id(2, 2), an_id(3, 2)]
    assert here.marks.others == {1: an_id(8, 1), 2: an_id(3, 2)}


async def test_what_a_lost_notice_told_comes_with_the_next_one(here):
    here.replay.ids = [an_id(1, 1)]
    here.connection.tell(ids(1, 0, 1, **ANY))
    await eventually(lambda: len(here.shown) == 1)
    here.replay.ids += [an_id(2, 1), an_id(3, 1)]
    # One that says which networks, none of which is watched, does not tell of what was lost.
    here.elsewhere.interest = lambda: Interest(frozenset([NETWORK]), None)
    here.connection.tell(ids(1, 2, 3, networks=("other",), kinds=("measurement",)))
    await eventually(lambda: len(here.shown) == 3)
    here.connection.tell(ids(1, 0, 3, **ANY), ids(1, 2, 3, **ANY))
    here.replay.ids += [an_id(4, 1)]
    here.connection.tell(ids(1, 3, 4, **ANY))
    await eventually(lambda: len(here.shown) == 4)
    assert here.shown == [an_id(count, 1) for count in range(1, 5)]


class Subscriber:
    """Holds five rows and loses the oldest; takes one each time that others have a turn."""

    def __init__(self, here):
        self.held, self.taken = [], []
        self.is_asleep = False
        here.elsewhere._hub.add(lambda: True, self.show)

    def show(self, events):
        self.held = [*self.held, *(row[0] for event in events for row in event.rows)][-5:]

    async def run(self):
        while True:
            await asyncio.sleep(0)
            if self.held and not self.is_asleep:
                self.taken.append(self.held.pop(0))


async def test_who_takes_what_is_shown_gets_all_that_came_while_a_server_stood_still(
    here, monkeypatch
):
    monkeypatch.setattr(elsewhere, "ROOM_LOOK_SECONDS", 0)
    monkeypatch.setattr(elsewhere, "ROOM_SECONDS", 0.05)
    # Who takes something at each turn is not given up because the machine stood still in between.
    readings = itertools.count()
    monkeypatch.setattr(elsewhere, "_time", lambda: next(readings) / 1_000)
    takes, sleeps = Subscriber(here), Subscriber(here)
    here.elsewhere.behind = lambda: {each for each in (takes, sleeps) if len(each.held) > 2}
    sleeps.is_asleep = True
    here.replay.ids = [an_id(count, 1) for count in range(1, 301)]
    async with contextlib.AsyncExitStack() as stack:
        for each in (takes, sleeps):
            running = asyncio.create_task(each.run())
            stack.callback(running.cancel)
        here.connection.tell(*(ids(1, at, at + 10, **ANY) for at in range(0, 300, 10)))
        await eventually(lambda: len(takes.taken) == 300)
        assert takes.taken == here.replay.ids
        assert sleeps.held == here.replay.ids[-5:]
        # It is waited for again once it has had room.
        sleeps.is_asleep = False
        await eventually(lambda: not sleeps.held)
        here.replay.ids += [an_id(count, 1) for count in range(301, 401)]
        here.connection.tell(ids(1, 300, 400, **ANY))
        await eventually(lambda: len(takes.taken) == 400)
        assert sleeps.taken[5:] == here.replay.ids[300:]


async def test_nobody_is_waited_for_without_an_end(here, monkeypatch):
    monkeypatch.setattr(elsewhere, "ROOM_LOOK_SECONDS", 0)
    monkeypatch.setattr(elsewhere, "WAITING_SECONDS", 0.05)
    # Each time somebody else.
    here.elsewhere.behind = lambda: {object()}
    here.replay.ids = [an_id(count, 1) for count in range(1, 41)]
    here.connection.tell(ids(1, 0, 40, **ANY))
    await eventually(lambda: here.shown == here.replay.ids)


async def test_who_takes_what_is_shown_is_waited_for_as_long_as_others_go_on_committing(
    here, monkeypatch
):
    monkeypatch.setattr(elsewhere, "ROOM_LOOK_SECONDS", 0)
    monkeypatch.setattr(elsewhere, "WAITING_SECONDS", 0.2)
    readings = itertools.count()
    monkeypatch.setattr(elsewhere, "_time", lambda: next(readings) / 1_000)
    takes = Subscriber(here)
    here.elsewhere.behind = lambda: {takes} if len(takes.held) > 2 else set()
    told = itertools.count(0, 10)
    read = here.replay.index_of

    def tell_more():
        first = next(told)
        here.replay.ids += [an_id(first + count, 1) for count in range(1, 11)]
        here.connection.tell(ids(1, first, first + 10, **ANY))

    async def index_of(numbers, after, until, limit):
        # Meanwhile more is committed: there is always something due.
        if until >= here.replay.ids[-1] and len(here.replay.ids) < 600:
            tell_more()
        return await read(numbers, after, until, limit)

    here.replay.index_of = index_of
    running = asyncio.create_task(takes.run())
    tell_more()
    await eventually(lambda: len(here.shown) == 600 and not takes.held)
    running.cancel()
    assert takes.taken == here.replay.ids


async def test_who_tells_nothing_any_more_is_looked_for(here, monkeypatch):
    monkeypatch.setattr(elsewhere, "SILENT_SECONDS", 0.02)
    here.connection.tell(ids(1, 0, 0), ids(2, 0, 0))
    here.replay.ids = [an_id(count, number) for number in (1, 2) for count in range(1, 6)]
    await eventually(lambda: len(here.shown) == 10)
    assert sorted(here.shown) == sorted(here.replay.ids)
    monkeypatch.setattr(elsewhere, "GONE_SECONDS", 0.04)
    await eventually(lambda: not here.marks.others)


async def test_who_resumes_is_shown_what_a_killed_server_did_not_tell_of(here, monkeypatch):
    monkeypatch.setattr(elsewhere, "RETRY_SECONDS", 0.01)
    here.connection.tell(ids(1, 0, 1), ids(2, 0, 0))
    # Nobody watches; what a client has seen last was a time at which nothing was committed.
    here.elsewhere.interest = lambda: None
    here.replay.ids = [an_id(2, 1), an_id(3, 1), an_id(4, 1), an_id(5, 1), an_id(1, 2)]
    here.replay.is_away = True
    reaching = asyncio.create_task(here.marks.reach({1: an_id(9, 1), 2: an_id(0, 2), 3: 7}))
    await eventually(lambda: here.replay.reads)
    assert not reaching.done()
    here.replay.is_away = False
    await reaching
    assert here.marks.others == {1: an_id(5, 1), 2: an_id(0, 2)}
    assert here.shown == [an_id(count, 1) for count in (2, 3, 4, 5)]
    reads = here.replay.reads
    await here.marks.reach({1: an_id(5, 1), 2: an_id(0, 2)})
    assert here.replay.reads == reads
    here.replay.is_away = True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0):
            await here.marks.reach({1: an_id(6, 1)})
    assert not here.elsewhere._asked


async def test_nothing_is_read_that_nobody_watches(here):
    wanted = None
    here.elsewhere.interest = lambda: wanted
    here.connection.tell(ids(1, 0, 1, **ANY))
    wanted = Interest(frozenset(["other"]), frozenset(["measurement"]))
    here.connection.tell(ids(1, 1, 2, networks=(NETWORK,), kinds=("measurement",)))
    wanted = Interest(None, frozenset(["log"]))
    here.connection.tell(ids(1, 2, 3, **ANY))
    assert here.marks.others == {1: an_id(3, 1)}
    assert not here.elsewhere._due
    wanted = Interest(frozenset([NETWORK]), frozenset(["measurement"]))
    here.replay.ids = [an_id(count, 1) for count in range(1, 5)]
    here.connection.tell(ids(1, 3, 4, networks=(NETWORK,), kinds=("measurement",)))
    await eventually(lambda: here.shown)
    assert here.shown == [an_id(4, 1)]
    assert here.replay.reads == 1


async def test_a_server_that_begins_is_told_where_the_others_are(here):
    here.connection.tell(signals.Hello(1))
    await eventually(lambda: ids(0, 0, 0) in here.connection.sent)


async def test_where_a_server_stands_that_begins_is_known_before_it_tells_of_anything(here):
    """What it commits first would else count as shown where it has not been heard of."""
    here.connection.tell(signals.Hello(1, an_id(5, 1)))
    assert here.elsewhere._watermarks.others == {1: an_id(5, 1)}
    here.connection.tell(signals.Hello(1, an_id(9, 1)))
    assert here.elsewhere._watermarks.others == {1: an_id(5, 1)}


async def test_what_can_t_be_sent_is_lost_but_for_ids(here, monkeypatch):
    monkeypatch.setattr(elsewhere, "RETRY_SECONDS", 0.01)
    here.connection.refuses = True
    here.elsewhere.tell(signals.Revised(((1, 1),)))
    await eventually(lambda: here.elsewhere.lost_total == 1)
    here.elsewhere.tell(signals.Revised(((1, 2),)))
    here.connection.refuses = False
    await eventually(lambda: signals.Revised(((1, 2),)) in here.connection.sent)
    assert signals.Revised(((1, 1),)) not in here.connection.sent
    told = [each for each in here.connection.sent if isinstance(each, signals.Ids)]
    await eventually(lambda: told or any(isinstance(e, signals.Ids) for e in here.connection.sent))


async def test_who_is_alone_says_nothing_and_reads_nothing(here):
    here.instance.others = []
    here.elsewhere.tell(signals.Revised(((1, 1),)))
    assert here.elsewhere.is_alone
    await eventually(lambda: not here.elsewhere._pending)
    sent = len(here.connection.sent)
    here.elsewhere.tell(signals.Revised(((1, 1),)))
    here.elsewhere._look_for_silent()
    assert not here.elsewhere._outgoing
    assert len(here.connection.sent) == sent
    assert not here.replay.reads


async def test_what_waits_to_be_sent_is_bounded(here, monkeypatch):
    monkeypatch.setattr(elsewhere, "MAXIMUM_BYTES", 100)
    here.elsewhere.tell(signals.Configured((("x" * 60, 1),)))
    here.elsewhere.tell(signals.Configured((("y" * 60, 1),)))
    assert here.elsewhere.lost_total == 1


async def test_the_registry_is_looked_at_when_another_has_changed_it_and_after_a_reconnect(
    here, monkeypatch
):
    monkeypatch.setattr(elsewhere, "RETRY_SECONDS", 0.01)
    before = here.registry.looks
    here.connection.tell(signals.RegistryChanged())
    assert here.registry.looks == before + 1
    await eventually(lambda: here.elsewhere._assemblies)
    await here.connection.close()
    await eventually(lambda: here.registry.looks == before + 2)
    # Many changes are told once.
    for _ in range(9):
        here.elsewhere.registry_changed()
    changed = signals.RegistryChanged()
    await eventually(lambda: changed in here.connection.sent)
    assert here.connection.sent.count(changed) == 1


async def test_a_server_that_is_not_known_yet_is_looked_for(here):
    here.connection.tell(signals.Hello(1))
    assert here.instance.looks == 0
    here.connection.tell(signals.Hello(2))
    assert here.instance.looks == 1
