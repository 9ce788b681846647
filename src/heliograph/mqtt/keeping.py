"""One owner a client id over all servers on one database, and sessions that outlive their server.

    CONNECT ─▶ claim ─▶ mine, or nobody's: CONNACK
                 └─▶ another's ─▶ ask ─▶ given up with all that it has, or taken without ─▶ CONNACK

A session is the server's that its row names, in the epoch that it names. What is written of it,
and whether its last will is published, depends on that: a server that stood still, or was not heard
of, finds that the session is another's by now, and lets go of it.

What a session is owed is in memory, and each second what has changed of it is stored, with the ids
up to which that is so. Whoever goes on with a session of a server that was killed reads what came
since from the tables: so no message costs a write of its own.
"""

import asyncio
import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from dataclasses import field
from typing import Any, Protocol

import structlog

from heliograph.errors import StoreUnavailableError
from heliograph.model.event import Committed
from heliograph.model.mqtt_sessions import Found, Row, WantedSession
from heliograph.model.time import SECOND, now
from heliograph.mqtt.codec.packets import Connect, Subscription
from heliograph.mqtt.codec.reasons import Reason
from heliograph.mqtt.counts import Counts
from heliograph.mqtt.fanout import Fanout
from heliograph.mqtt.host import Host, TopicMessage
from heliograph.mqtt.reading import DOUBT
from heliograph.mqtt.session import (
    LONGEST_SESSION_SECONDS,
    RECOVERED_MESSAGES,
    Client,
    LastWill,
    Session,
    Sessions,
    owner_of,
)
from heliograph.mqtt.stored import (
    Stored,
    key_of,
    pack_client,
    pack_owed,
    pack_subscriptions,
    unpack,
)
from heliograph.mqtt.topics import SENT

log = structlog.get_logger()

# For so long a server is asked for a session before it is taken without its help. One that has
# stood still for less takes nothing from its clients before it knows which are still its own.
PATIENCE_SECONDS = 0.7
SURE_SECONDS = 0.5
TICK_SECONDS = 0.2
# How often what sessions are owed is stored, and which part of the time that may take.
SAVE_SECONDS = 1.0
SAVE_SHARE = 0.05
# So soon where it is in no table.
HURRY_SECONDS = 0.02
RETRY_SECONDS = 0.5
# A server that was not found in so many looks is gone: one whose database was away for a moment
# is found again by then.
LOOK_SECONDS = 1.0
LOOKS = 10
LOSSES_SECONDS = 30.0
CLAIMS_AT_ONCE = 500
ADOPTED_AT_ONCE = 200
HELD_AT_ONCE = 5_000
CLOSE_SECONDS = 3.0
# What is in no table, for those who come from another server: so much, and for so long.
RECENT_MESSAGES = 1_000
RECENT_BYTES = 1 << 20
# By how much later than another server one may hear of it.
RECENT_SLACK = SECOND // 5


class Shelf(Protocol):
    """Where sessions are stored."""

    async def claim(self, token: str, wanted: Sequence[WantedSession]) -> Sequence[Found]:
        """Take those that no other living server has."""

    async def save(self, token: str, rows: Sequence[Row], stand: str | None = None) -> set[bytes]:
        """Store rows as far as they are this server's; return the keys of those."""

    async def end(self, token: str, keys: Sequence[tuple[bytes, int]]) -> set[bytes]:
        """Delete what is this server's."""

    async def held(self, token: str, keys: Sequence[tuple[bytes, int]]) -> set[bytes]:
        """Return which are this server's."""

    async def orphaned(self) -> list[str]:
        """Return the holders that do not live."""

    async def adopt(
        self, token: str, orphaned: Sequence[str], moment: int, limit: int
    ) -> Sequence[Found]:
        """Take sessions of holders that do not live."""

    async def forget_holders(self, token: str) -> None:
        """Forget where others stood who have no session any more."""


class Others(Protocol):
    """The other servers: what they are told, and what was committed anywhere."""

    @property
    def is_alone(self) -> bool:
        """Whether there is no other server."""

    @property
    def stand(self) -> str:
        """Up to which ids of each server everything was shown here."""

    def since(self, stand: str) -> int:
        """Return at which moment a server stood there, in microseconds."""

    async def arrive(self, stand: str) -> None:
        """Return when everything up to there was shown here, or in a moment."""

    def missed(self, after: str, until: str) -> AsyncIterator[Sequence[Committed]]:
        """Yield what was committed between, in its order."""

    def ask(self, keys: Sequence[bytes]) -> None:
        """Ask whoever has these sessions to give them up."""

    def gave(self, keys: Sequence[bytes]) -> None:
        """Tell that these are given up."""


class _Recent:
    """What was published lately and is in no table, by when it was heard of here."""

    def __init__(self) -> None:
        self._messages: deque[tuple[int, TopicMessage]] = deque()
        self._bytes = 0

    def add(self, message: TopicMessage) -> None:
        """Keep a message for a while."""
        self._messages.append((now(), message))
        self._bytes += len(message.payload or b"")
        while len(self._messages) > RECENT_MESSAGES or self._bytes > RECENT_BYTES:
            _, oldest = self._messages.popleft()
            self._bytes -= len(oldest.payload or b"")

    def since(self, moment: int) -> list[TopicMessage]:
        """Return what was heard of from a moment on."""
        return [message for heard, message in self._messages if heard >= moment]


@dataclasses.dataclass(slots=True, eq=False)
class _Recovery:
    """Sessions of another server that stood at `after`; what is shown from `until` on they get."""

    sessions: list[Session]
    after: str
    until: str
    recent: list[TopicMessage]
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Keeper:
    """Keeps the sessions of a server's clients on a database that it shares with others."""

    def __init__(
        self,
        shelf: Shelf,
        others: Others,
        token: str,
        *,
        host: Host,
        counts: Counts,
        sessions: Sessions,
        fanout: Fanout,
        tasks: set[asyncio.Task[None]],
        publish: Callable[[LastWill], Awaitable[None]],
    ) -> None:
        """Keep sessions in the name of this token; `publish` returns once a will is committed."""
        self._shelf = shelf
        self._others = others
        self._token = token
        self._host = host
        self._counts = counts
        self._sessions = sessions
        self._fanout = fanout
        self._tasks = tasks
        self._publish = publish
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self._mine: dict[bytes, Session] = {}
        # Who connects just now, or is given up: one after the other, each with how many wait.
        self._turns: dict[bytes, tuple[asyncio.Lock, int]] = {}
        self._recoveries: dict[Session, _Recovery] = {}
        self._awaited: dict[bytes, asyncio.Event] = {}
        # What is to be written, all of it by one task.
        self._claims: list[tuple[WantedSession, asyncio.Future[Found | None]]] = []
        self._saving: dict[Session, asyncio.Future[bool]] = {}
        self._giving: list[Row] = []
        self._given: list[asyncio.Future[None]] = []
        self._ending: list[tuple[bytes, int]] = []
        self._orphaned: list[str] = []
        self._is_saving_all = False
        self._due = asyncio.Event()
        # Sessions of which something is not stored, and those that stand elsewhere.
        self._unsaved: set[Session] = set()
        self._apart: set[Session] = set()
        # Those that go on without a connection, and are owed something by what they subscribe to.
        self._subscribed: set[Session] = set()
        self._hurry = asyncio.Event()
        self._firing: set[Session] = set()
        # By holder that is gone; None: nobody has looked yet.
        self._looks: dict[str, int] | None = None
        # Those that end with their connection, without a will, while this server is alone: nobody
        # asks for them, and nothing is left of them.
        self._unclaimed: set[Session] = set()
        self._doubtful: list[Client] = []
        self._sure_until = 0.0
        self.recent = _Recent()
        self.tick()

    def _run(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=f"mqtt {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # What it is told of by connections

    @contextlib.asynccontextmanager
    async def _turn(self, key: bytes) -> AsyncIterator[None]:
        lock, waiting = self._turns.get(key) or (asyncio.Lock(), 0)
        self._turns[key] = lock, waiting + 1
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._turns[key]
            if waiting > 1:
                self._turns[key] = lock, waiting - 1
            else:
                del self._turns[key]

    def enter(
        self, connection: Client, connect: Connect, client_id: str, enter: Callable[[], Session]
    ) -> asyncio.Task[None]:
        """Have a client enter once its session is this server's, unless it is gone by then."""
        return self._run(self._enter(connection, connect, client_id, enter), "claim")

    async def _enter(
        self, connection: Client, connect: Connect, client_id: str, enter: Callable[[], Session]
    ) -> None:
        principal = connection.principal
        if principal is None:
            return
        key = key_of(owner_of(principal), client_id)
        async with self._turn(key):
            if connection.closing:
                return
            expiry = min(connect.session_expiry, LONGEST_SESSION_SECONDS)
            client = pack_client(principal, client_id, connection.will)
            found = await self._claim(
                WantedSession(key, expiry, client, connect.clean_start, False)
            )
            session = self._sessions.find(principal, client_id)
            if session is None:
                await self._go_on(found, is_clean=connect.clean_start)
            else:
                is_offline = session.connection is None
                goes_on = session.expiry and not connect.clean_start
                if goes_on or (is_offline and session.will is not None):
                    session.epoch = found.epoch  # else it ends, and with it its own epoch
                if (recovery := self._recoveries.get(session)) is not None:
                    await recovery.over.wait()
            if connection.closing:
                self._let_go(key, found.epoch)
                return
            session = enter()
            self._mine[key] = session
            session.key, session.epoch = key, found.epoch
            session.will, session.will_at = connection.will, 0
            session.unsaved = self._unsaved if session.expiry else None

    def enter_alone(
        self, connection: Client, connect: Connect, client_id: str, enter: Callable[[], Session]
    ) -> bool:
        """Have a client enter at once whose session nobody else can know; False: it may."""
        principal = connection.principal
        if connect.session_expiry or connect.will is not None or principal is None:
            return False
        key = key_of(owner_of(principal), client_id)
        if self._looks != {} or key in self._mine or key in self._turns:
            return False
        if connection.closing or not self._others.is_alone:
            return False
        session = enter()
        session.key = key
        self._unclaimed.add(session)
        return True

    async def _claim_late(self) -> None:
        """Claim what was not claimed while this server was alone; who has come elsewhere stays."""
        sessions, self._unclaimed = self._unclaimed, set()
        claims: list[tuple[Session, asyncio.Future[Found | None]]] = []
        for session in sessions:
            client = pack_client(session.principal, session.client_id, None)
            answer: asyncio.Future[Found | None] = self._loop.create_future()
            wanted = WantedSession(session.key, 0, client, clean=True, forced=False)
            self._claims.append((wanted, answer))
            claims.append((session, answer))
        self._due.set()
        for session, answer in claims:
            try:
                found = await answer
            except StoreUnavailableError:
                if session in self._sessions:
                    self._unclaimed.add(session)
                continue
            if session not in self._sessions:
                if found is not None:
                    self._ending.append((session.key, found.epoch))
                    self._due.set()
            elif found is None:
                self._lose(session)
            else:
                self._mine[session.key], session.epoch = session, found.epoch

    async def _claim(self, wanted: WantedSession) -> Found:
        """Make a session this server's."""
        deadline = self._loop.time() + PATIENCE_SECONDS
        # Of one that begins anew nothing has to be waited for.
        wanted = wanted._replace(forced=wanted.clean)
        while True:
            answer: asyncio.Future[Found | None] = self._loop.create_future()
            self._claims.append((wanted, answer))
            self._due.set()
            found = await answer
            if found is not None:
                if found.holder not in ("", self._token):
                    # It may live, or live again.
                    self._others.ask([wanted.key])
                return found
            event = self._awaited.setdefault(wanted.key, asyncio.Event())
            self._others.ask([wanted.key])
            try:
                async with asyncio.timeout_at(deadline):
                    await event.wait()
            except TimeoutError:
                wanted = wanted._replace(forced=True)
            finally:
                self._awaited.pop(wanted.key, None)

    async def _go_on(self, found: Found, *, is_clean: bool) -> None:
        """Go on with the session that another server had, if it goes on."""
        if (stored := unpack(found)) is None:
            return
        has_something = found.subscriptions or found.owed
        if found.holder == self._token and (found.key in self._mine or not has_something):
            # It has ended here just now; or a claim whose answer was lost may have made it.
            return
        is_over = found.ends_at is not None and found.ends_at <= now()
        if is_clean or is_over or not found.expiry:
            if stored.will is not None and found.ends_at is not None and found.expiry:
                # One that was to come later comes with the session's end [MQTT-3.1.3-9].
                await self._publish(stored.will)
            return
        if found.position is not None:
            await self._others.arrive(found.position)
        session = self._load(found, stored, found.expiry)
        if (recovery := self._begin([session], found.position)) is not None:
            await self._recover(recovery)

    def _let_go(self, key: bytes, epoch: int) -> None:
        """Leave a session whose client is gone before it has entered."""
        session = self._mine.get(key)
        if session is None or session not in self._sessions:
            self._ending.append((key, epoch))
            self._due.set()
        else:
            session.epoch = epoch
            self.save(session)

    def left(self, session: Session, will: LastWill | None) -> None:
        """Note that a session's connection is gone; its will is published if one is due."""
        session.will = will
        delay = 0
        if will is not None:
            delay = min(will.message.delay, session.expiry)
            session.will_at = now() + delay * SECOND
        if session.expiry:
            self._fanout.detach(session)
        self._sessions.leave(session)
        if will is not None and delay:
            self._fire_later(session, delay)
        elif will is not None:
            self._fire(session)
        if session.expiry:
            self.save(session)

    def ended(self, session: Session) -> None:
        """Forget a session that has ended, once its will is published."""
        self._unclaimed.discard(session)
        if self._mine.get(session.key) is not session:
            return
        if session.will is not None and session.connection is None:
            self._fire(session)
            return
        del self._mine[session.key]
        self._forget(session)
        self._ending.append((session.key, session.epoch))
        self._due.set()

    def save(self, session: Session) -> asyncio.Future[bool]:
        """Store what there is of a session; the future says whether it is this server's."""
        stored = self._saving.get(session)
        if stored is None:
            stored = self._saving[session] = self._loop.create_future()
            self._due.set()
        return stored

    async def subscribed(self, session: Session, stand: str | None) -> bool:
        """Return once a session's subscriptions are stored, whether it is this server's.

        `stand` is where this server stood before them, if there was none.
        """
        if not session.expiry or session.key not in self._mine:
            return True
        if stand is not None and session.since is None:
            session.since = stand
        self._subscribed.add(session)
        self._unsaved.add(session)
        return await self.save(session)

    @property
    def stand(self) -> str:
        """Where this server stands."""
        return self._others.stand

    def published(self, message: TopicMessage) -> None:
        """Keep what is in no table for a while, and store soon whom it is owed to."""
        self.recent.add(message)
        if self._subscribed:
            self._hurry.set()

    # Last wills

    def _fire_later(self, session: Session, delay: float) -> None:
        self._sessions.call_later(session, delay, lambda: self._fire(session))

    def _fire(self, session: Session) -> None:
        if session not in self._firing:
            self._firing.add(session)
            self._run(self._publish_when_held(session), "will")

    async def _publish_when_held(self, session: Session) -> None:
        """Publish a session's will if the session is still this server's."""
        will, key = session.will, (session.key, session.epoch)
        try:
            while not self._closing:
                try:
                    held = await self._shelf.held(self._token, [key])
                except StoreUnavailableError:
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                if not held:
                    if session.epoch == key[1]:
                        self._lose(session)
                    return
                if will is not None:
                    await self._publish(will)
                break
            else:
                return  # it stays with the session
        finally:
            self._firing.discard(session)
        if session.will is will and session.epoch == key[1]:
            session.will = None
            if session in self._sessions:
                self.save(session)
            else:
                self.ended(session)

    # From and to other servers

    def asked(self, keys: Iterable[bytes]) -> None:
        """Give up sessions that another server's clients ask for."""
        ending = {key for key, _ in self._ending}
        mine = [k for k in keys if k in self._mine or k in self._turns or k in ending]
        if mine:
            self._run(self._give(mine), "hand over")

    def given(self, keys: Iterable[bytes]) -> None:
        """Claim again what another server has given up."""
        for key in keys:
            if (event := self._awaited.get(key)) is not None:
                event.set()

    async def _give(self, keys: Sequence[bytes]) -> None:
        for key in keys:
            if key in self._awaited:
                continue  # it is this server that asks
            async with self._turn(key):
                session = self._mine.get(key)
                if session is not None:
                    if (recovery := self._recoveries.get(session)) is not None:
                        await recovery.over.wait()
                    self._give_up(session)
        await self._written()
        self._others.gave(keys)

    def _give_up(self, session: Session) -> None:
        """Have a session go on at another server, with all that it has."""
        self._fanout.settle(session)
        if session.expiry:
            was_connected = session.connection is not None
            will = session.will
            if was_connected and session.connection is not None:
                will = session.connection.will
            client = pack_client(session.principal, session.client_id, will, session.will_at)
            ends_at = None if was_connected else self._ends_at(session)
            self._giving.append(
                Row(
                    *(session.key, session.epoch, "", session.expiry, ends_at, client),
                    pack_subscriptions(session.subscriptions.values()),
                    pack_owed(session, is_given=True),
                    session.since if session.held is not None else self._others.stand,
                )
            )
        else:
            self._ending.append((session.key, session.epoch))
        self._due.set()
        self._lose(session)

    def _lose(self, session: Session) -> None:
        """Let go of a session that is another server's: no will is published, nothing written."""
        connection = session.connection
        session.connection, session.will = None, None
        if self._mine.get(session.key) is session:
            del self._mine[session.key]
        self._forget(session)
        self._sessions.hand_over(session, connected=connection is not None)
        self._fanout.remove(session)
        if connection is not None:
            connection.will = None
            connection.fail(Reason.SESSION_TAKEN_OVER, "the client has connected to another server")

    def _forget(self, session: Session) -> None:
        session.unsaved = None
        self._unsaved.discard(session)
        self._apart.discard(session)
        self._subscribed.discard(session)
        stored = self._saving.pop(session, None)
        if stored is not None and not stored.done():
            stored.set_result(False)

    async def _written(self) -> None:
        """Return when all is written that is to be written now."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._given.append(done)
        self._due.set()
        await done

    # What was another server's

    def _load(self, found: Found, stored: Stored, seconds: float) -> Session:
        """Return a session as it is stored, which is in memory from now on."""
        if (before := self._mine.get(found.key)) is not None:
            self._lose(before)
        session = Session(stored.principal, stored.client_id, self._counts)
        session.key, session.epoch, session.expiry = found.key, found.epoch, found.expiry
        for each in stored.subscriptions:
            subscription = Subscription(each.filter, each.qos, each.no_local)
            self._fanout.add(session, subscription, each.qos, each.identifier)
            self._subscribed.add(session)
        session.restore(stored.unacknowledged, stored.queue, stored.last)
        for packet_id in stored.received:
            session.received.begin(packet_id)
            session.received.commit(packet_id)
        self._mine[found.key] = session
        session.unsaved = self._unsaved
        self._unsaved.add(session)
        self._sessions.keep(session, seconds)
        return session

    def _begin(self, sessions: list[Session], after: str | None) -> _Recovery | None:
        """Hold what comes for sessions until what came before is read, from a position on."""
        subscribed = [each for each in sessions if any(e.qos for e in each.subscriptions.values())]
        if after is None or not subscribed:
            for session in sessions:
                session.recovered = bool(session.queue)
            return None
        recent = self.recent.since(self._others.since(after) - RECENT_SLACK)
        recovery = _Recovery(subscribed, after, self._others.stand, recent)
        for session in subscribed:
            session.since, session.held = after, deque(maxlen=RECOVERED_MESSAGES)
            self._recoveries[session] = recovery
            self._apart.add(session)
        return recovery

    async def _recover(self, recovery: _Recovery) -> None:
        """Give sessions what was committed before anything reached them here."""
        sessions, fanout = recovery.sessions, self._fanout
        try:
            if any(_selects_rows(name) for each in sessions for name in each.subscriptions):
                async for events in self._others.missed(recovery.after, recovery.until):
                    messages = map(self._host.message_of, events)
                    with _open(sessions):
                        fanout.deliver_to(sessions, [each for each in messages if each])
            with _open(sessions):
                for session in sessions if recovery.recent else ():
                    owed = (*session.unacknowledged.values(), *(session.queue or ()))
                    known = {(each.topic, each.payload) for each in owed}
                    fanout.deliver_to(
                        [session],
                        [
                            each
                            for each in recovery.recent
                            if not any((topic, each.payload) in known for topic in each.topics)
                        ],
                    )
        except StoreUnavailableError:
            log.warning("messages that sessions are owed not read", sessions=len(sessions))
        finally:
            for session in sessions:
                held, session.held = session.held or (), None
                session.since = recovery.until
                for message in held:
                    session.deliver(message)
                session.recovered = bool(session.queue)
                self._recoveries.pop(session, None)
            recovery.over.set()

    def _adopted(self, found: Sequence[Found]) -> None:
        """Go on with sessions of servers that are gone, or end them."""
        moment = now()
        by_position: dict[str, list[Session]] = {}
        for each in found:
            if (stored := unpack(each)) is None:
                self._ending.append((each.key, each.epoch))
                self._due.set()
                continue
            ends_at = each.ends_at
            if ends_at is None:
                ends_at = moment + each.expiry * SECOND
            session = self._load(each, stored, max(ends_at - moment, 0) / SECOND)
            if stored.will is not None:
                delay = min(stored.will.message.delay, each.expiry) * SECOND
                will_at = stored.will_at if each.ends_at is not None else moment + delay
                self._inherit(session, stored.will, will_at)
            if ends_at <= moment:
                self._sessions.end(session)
            elif each.position is not None:
                by_position.setdefault(each.position, []).append(session)
        for position, sessions in by_position.items():
            going = [session for session in sessions if session in self._sessions]
            if (recovery := self._begin(going, position)) is not None:
                self._run(self._recover(recovery), "recovery")
        if found:
            log.info("sessions of another server taken over", sessions=len(found))

    def _inherit(self, session: Session, will: LastWill, will_at: int) -> None:
        """Publish the will of a client that was another server's once it is due."""
        session.will, session.will_at = will, will_at
        left = (will_at - now()) / SECOND
        if left > 0:
            self.save(session)
            self._fire_later(session, left)
        elif session.expiry:
            self._fire(session)
        else:
            self._sessions.end(session)

    # What is written

    async def run(self) -> None:
        """Write, look for orphans and tell whether this server stood still, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write_for_ever(), name="mqtt sessions write")
            group.create_task(self._save_for_ever(), name="mqtt sessions save")
            group.create_task(self._look_for_ever(), name="mqtt sessions look")
            group.create_task(self._tick_for_ever(), name="mqtt sessions tick")

    async def _write_for_ever(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self._write()
            except StoreUnavailableError as error:
                for _, answer in self._claims:
                    if not answer.done():
                        answer.set_exception(error)
                self._claims.clear()
                await asyncio.sleep(RETRY_SECONDS)
                self._due.set()

    async def _write(self) -> None:
        given, self._given = self._given, []
        try:
            if self._ending:
                await self._shelf.end(self._token, ending := list(self._ending))
                del self._ending[: len(ending)]
            if self._giving:
                await self._shelf.save(self._token, giving := list(self._giving))
                del self._giving[: len(giving)]
            if self._saving or self._is_saving_all:
                await self._save()
        finally:
            for each in given:
                if not each.done():
                    each.set_result(None)
        if self._orphaned:
            orphaned = list(self._orphaned)
            found = await self._shelf.adopt(self._token, orphaned, now(), ADOPTED_AT_ONCE)
            self._adopted(found)
            if len(found) < ADOPTED_AT_ONCE:
                self._orphaned.clear()
                await self._shelf.forget_holders(self._token)
            else:
                self._due.set()
        if self._claims:
            await self._write_claims()

    async def _write_claims(self) -> None:
        # Who claims what is claimed by another one here has to be the later one; and what was given
        # up, or has ended, since this turn began has to be written before.
        barred = {row.key for row in self._giving} | {key for key, _ in self._ending}
        keys: set[bytes] = set()
        for wanted, _ in self._claims[:CLAIMS_AT_ONCE]:
            if wanted.key in keys or wanted.key in barred:
                break
            keys.add(wanted.key)
        if not keys:
            self._due.set()
            return
        claims = self._claims[: len(keys)]
        found = await self._shelf.claim(self._token, [wanted for wanted, _ in claims])
        del self._claims[: len(claims)]
        answers = {each.key: each for each in found}
        for wanted, answer in claims:
            if not answer.done():
                answer.set_result(answers.get(wanted.key))
        if self._claims:
            self._due.set()

    async def _save(self) -> None:
        """Store what is asked for, or all that has changed, with where this server stands."""
        asked, self._saving = self._saving, {}
        sessions, stand = set(asked), None
        if self._is_saving_all:
            self._is_saving_all = False
            sessions |= self._unsaved | self._apart
            # What waits for its turn is not yet among what is owed.
            stand = None if self._fanout.is_behind else self._others.stand
        rows: list[Row] = []
        since = {session: session.since for session in sessions}
        for session in sessions:
            if stand is not None and session.held is None:
                session.since = None
                self._apart.discard(session)
            self._unsaved.discard(session)
            rows.append(self._row(session))
        epochs = {session.key: session.epoch for session in sessions}
        try:
            held = await self._shelf.save(self._token, rows, stand)
        except StoreUnavailableError:
            self._unsaved |= {each for each in sessions if each.unsaved is not None}
            for session, position in since.items():
                # It may have been lost, or read from a later position, meanwhile.
                if session.since is None and self._mine.get(session.key) is session:
                    session.since = position
            self._apart |= {each for each in sessions if each.since is not None}
            for session, stored in asked.items():
                _follow(stored, self.save(session))
            raise
        for session, stored in asked.items():
            if not stored.done():
                stored.set_result(session.key in held)
        for session in sessions:
            if session.key not in held and session.epoch == epochs[session.key]:
                self._lose(session)

    def _row(self, session: Session) -> Row:
        will = session.will
        if session.since is not None:
            self._apart.add(session)
        return Row(
            session.key,
            session.epoch,
            self._token,
            session.expiry,
            None if session.connection is not None else self._ends_at(session),
            pack_client(session.principal, session.client_id, will, session.will_at),
            pack_subscriptions(session.subscriptions.values()),
            pack_owed(session, is_given=False),
            session.since,
        )

    def _ends_at(self, session: Session) -> int:
        return now() + round(self._sessions.left_for(session) * SECOND)

    async def _save_for_ever(self) -> None:
        interval = SAVE_SECONDS
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._hurry.wait()
                    await asyncio.sleep(HURRY_SECONDS)
            self._hurry.clear()
            # Of sessions that nobody subscribes by nothing is owed.
            if not (self._unsaved or self._apart or self._subscribed):
                continue
            began = self._loop.time()
            self._is_saving_all = True
            await self._written()
            interval = max(SAVE_SECONDS, (self._loop.time() - began) / SAVE_SHARE)

    async def _look_for_ever(self) -> None:
        looked = self._loop.time()
        while True:
            await self._look_for_orphaned()
            await asyncio.sleep(LOOK_SECONDS)
            if self._loop.time() - looked > LOSSES_SECONDS:
                # Somebody may have asked, and the notice of it be lost.
                await self._look_for_losses()
                looked = self._loop.time()

    async def _look_for_orphaned(self) -> None:
        try:
            orphaned = await self._shelf.orphaned()
        except StoreUnavailableError:
            # Whom it did not find before the outage it may not find for a moment after it.
            if self._looks:
                self._looks = None
            return
        known = self._looks or {}
        self._looks = {token: known.get(token, 0) + 1 for token in orphaned if token != self._token}
        due = [token for token, looks in self._looks.items() if looks >= LOOKS]
        if due and not self._closing:
            self._orphaned = due
            self._due.set()

    # Whether this server stood still

    def tick(self) -> None:
        """Be sure of all sessions for a moment."""
        self._sure_until = time.monotonic() + SURE_SECONDS

    def is_sure(self, connection: Client) -> bool:
        """Return whether nobody can have taken a connection's session without asking.

        Else the connection is not read from until that is seen.
        """
        if time.monotonic() <= self._sure_until:
            return True
        self._doubtful.append(connection)
        return False

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if time.monotonic() > self._sure_until and not await self._look_for_losses():
                continue
            self.tick()
            if self._unclaimed and not self._others.is_alone:
                self._run(self._claim_late(), "claim late")
            doubtful, self._doubtful = self._doubtful, []
            for connection in doubtful:
                connection.resume(DOUBT)

    async def reconnected(self) -> None:
        """Look for sessions that another server has asked for while nothing was heard of it.

        Until that is done nobody is read from.
        """
        self._sure_until = 0.0

    async def _look_for_losses(self) -> bool:
        """Let go of what is another server's by now; False: that can't be said now."""
        sessions = {(each.key, each.epoch): each for each in self._mine.values()}
        keys = list(sessions)
        for at in range(0, len(keys), HELD_AT_ONCE):
            asked = keys[at : at + HELD_AT_ONCE]
            try:
                held = await self._shelf.held(self._token, asked)
            except StoreUnavailableError:
                return False
            for key in asked:
                session = sessions[key]
                is_same = self._mine.get(key[0]) is session and session.epoch == key[1]
                if key[0] not in held and is_same and key[0] not in self._turns:
                    self._lose(session)
        return True

    def stop(self) -> None:
        """Publish no more wills, and take over nothing."""
        self._closing = True

    async def close(self) -> None:
        """Give up all sessions, for whichever server their clients come to next."""
        for session in list(self._mine.values()):
            if session.connection is not None:
                session.connection = None
                self.left(session, None)
            if session in self._sessions:
                self._give_up(session)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._written()


def _follow(first: asyncio.Future[bool], second: asyncio.Future[bool]) -> None:
    """Have the first of two say what the second does."""

    def follow(_: asyncio.Future[bool]) -> None:
        if not first.done():
            first.set_result(second.result())

    second.add_done_callback(follow)


def _selects_rows(topic_filter: str) -> bool:
    first = topic_filter.partition("/")[0]
    return first in ("#", "+") or first in SENT


@contextlib.contextmanager
def _open(sessions: Sequence[Session]) -> Iterator[None]:
    """Have sessions take what is delivered within; nothing may be awaited there."""
    held = [session.held for session in sessions]
    for session in sessions:
        session.held = None
    try:
        yield
    finally:
        for session, waiting in zip(sessions, held, strict=True):
            session.held = waiting
