"""Keeping sessions on a database that fails at the worst moment, or holds what nobody can read."""

import asyncio
import contextlib
from types import SimpleNamespace

import pytest

from heliograph.errors import StoreUnavailableError
from heliograph.model.mqtt_sessions import Found
from heliograph.model.principal import Principal
from heliograph.mqtt import keeping
from heliograph.mqtt.codec.packets import Connect
from heliograph.mqtt.counts import Counts
from heliograph.mqtt.fanout import Fanout
from heliograph.mqtt.host import Outgoing
from heliograph.mqtt.session import RECOVERED_MESSAGES, Session, Sessions
from heliograph.mqtt.stored import key_of, pack_client, pack_owed
from server import eventually

DEVICE = Principal("device", "pump", sensor=7)
ME = "this server"


class Shelf:
    """Sessions by their keys; whatever `failing` names fails once."""

    def __init__(self):
        self.found = {}
        self.calls = []
        self.failing = set()
        self.orphans = []

    def _called(self, name, *told):
        self.calls.append((name, *told))
        if name in self.failing:
            self.failing.discard(name)
            raise StoreUnavailableError("away")

    def of(self, name):
        return [told for called, *told in self.calls if called == name]

    async def claim(self, token, wanted):
        answers = []
        for each in wanted:
            known = self.found.get(each.key, Found(each.key, 0, "", 0, *[None] * 5))
            answers.append(known._replace(epoch=known.epoch + 1))
            self.found[each.key] = answers[-1]._replace(holder=token)
        self._called("claim", [each.key for each in wanted])
        return answers

    async def save(self, _token, rows, stand=None):
        self._called("save", list(rows), stand)
        return {row.key for row in rows}

    async def end(self, _token, keys):
        self._called("end", *keys)
        return set()

    async def held(self, _token, keys):
        self._called("held", keys)
        return {key for key, _ in keys}

    async def orphaned(self):
        return ["gone"] if self.orphans else []

    async def adopt(self, *_):
        found, self.orphans = self.orphans, []
        return found

    async def forget_holders(self, _token):
        pass


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
async def keeper(shelf, monkeypatch):
    """A keeper that runs, with nobody but clients that only the test knows."""
    for name in ("TICK_SECONDS", "LOOK_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(keeping, name, 0.001)
    monkeypatch.setattr(keeping, "LOOKS", 1)
    others = SimpleNamespace(is_alone=False, stand="9", ask=print, gave=print)
    host = SimpleNamespace(entered=print, left=print, handed_over=print)
    tasks = set()
    sessions = Sessions(asyncio.get_running_loop(), host, print)
    keeper = keeping.Keeper(
        *(shelf, others, ME),
        host=host,
        counts=Counts(),
        sessions=sessions,
        tasks=tasks,
        fanout=Fanout(host, Counts(), tasks),
        publish=None,
    )
    running = asyncio.create_task(keeper.run())
    yield keeper
    assert not running.done()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def enter(keeper):
    """Have a client of a session that goes on enter; return what it finds there."""
    found = []

    def enter():
        found.append(keeper._sessions.find(DEVICE, "reader"))
        return found[-1] or Session(DEVICE, "reader", Counts(), expiry=60)

    connection = SimpleNamespace(principal=DEVICE, closing=False, will=None)
    connect = Connect(
        client_id="reader", clean_start=False, session_expiry=60, version=5, keepalive=0
    )
    return keeper.enter(connection, connect, "reader", enter), found


async def test_two_claims_of_one_session_differ(keeper, shelf):
    wanted = keeping.WantedSession(b"k", 0, b"", clean=True, forced=False)
    other = wanted._replace(key=b"other")
    found = await asyncio.gather(*map(keeper._claim, (wanted, other, wanted)))
    assert [each.epoch for each in found] == [1, 1, 2]
    assert shelf.of("claim") == [[[b"k", b"other"]], [[b"k"]]]


async def test_what_was_claimed_without_an_answer_is_found_by_the_next_claim(keeper, shelf):
    session = Session(DEVICE, "reader", Counts(), expiry=60)
    session.restore([], [Outgoing("a/b", b"1", 1, 7, "n")], 0)
    key, owed = key_of(session.owner, "reader"), pack_owed(session, is_given=True)
    client = pack_client(DEVICE, "reader", None)
    shelf.found[key] = Found(key, 1, "", 60, None, client, None, owed, None)
    shelf.failing.add("claim")
    with pytest.raises(StoreUnavailableError):
        await enter(keeper)[0]
    entering, found = enter(keeper)
    await entering
    assert [each.payload for each in found[0].queue] == [b"1"]


async def test_what_cannot_be_read_is_ended(keeper, shelf):
    shelf.orphans = [Found(b"k", 3, "gone", 60, None, b"\xc1", None, None, None)]
    await eventually(lambda: shelf.of("end"))
    assert shelf.of("end") == [[(b"k", 3)]]


async def test_who_was_not_heard_is_asked_until_there_is_an_answer(keeper, shelf):
    await enter(keeper)[0]
    assert keeper.is_sure(None)
    shelf.failing.add("held")
    resumed = []
    await keeper.reconnected()
    assert not keeper.is_sure(SimpleNamespace(resume=resumed.append))
    await eventually(lambda: resumed)
    assert len(shelf.of("held")) == 2
    assert keeper.is_sure(None)


async def test_a_lost_notice_is_made_good_in_time(keeper, shelf, monkeypatch):
    await enter(keeper)[0]
    assert not shelf.of("held")
    monkeypatch.setattr(keeping, "LOSSES_SECONDS", 0)
    await eventually(lambda: shelf.of("held"))


async def test_what_is_given_up_is_written_before_it_is_claimed_again(keeper, shelf):
    """Its client would else be told that there is no session."""
    await enter(keeper)[0]
    [session] = keeper._mine.values()
    save, entering = shelf.save, []

    async def give_up_meanwhile(token, rows, stand=None):
        shelf.save = save
        keeper._give_up(session)
        entering.append(enter(keeper)[0])
        await eventually(lambda: keeper._claims)
        return await save(token, rows, stand)

    shelf.save = give_up_meanwhile
    keeper.save(session)
    await eventually(lambda: entering)
    await entering[0]
    written = [call for call in shelf.calls if call[0] in ("claim", "save")]
    claimed = [at for at, call in enumerate(written) if call[0] == "claim"][1]
    assert any(
        row.holder == "" for name, rows, *_ in written[:claimed] if name == "save" for row in rows
    )


async def test_where_a_session_stands_outlives_a_failed_write(keeper, shelf):
    await enter(keeper)[0]
    [session] = keeper._mine.values()
    session.since = "1"
    shelf.failing.add("save")
    keeper._is_saving_all = True
    keeper._apart.add(session)
    await keeper.save(session)
    rows = [rows[0].position for rows, _ in shelf.of("save")]
    assert rows == [None, "1"]


def test_what_comes_while_a_session_is_read_is_bounded_and_counted():
    session = Session(DEVICE, "reader", Counts(), expiry=60)
    session.held = keeping.deque(maxlen=RECOVERED_MESSAGES)
    for _ in range(RECOVERED_MESSAGES + 2):
        session.deliver(Outgoing("a/b", b"1", 1, 7, "n"))
    assert session.dropped == 2
