"""What other servers on the database commit, brought to who watches here; and the other way.

    commit ─▶ hub ─▶ who watches here
       └─▶ ids, networks, kinds ─▶ NOTIFY ─▶ other servers ─▶ their rows by ids ─▶ their hubs

A server commits in the order of its ids. So one id for each of the others says what has been shown
of theirs, and whatever told of more was lost, the rows behind that id are read with the next one.
Of a server that has told nothing for a while the tables are asked. While there is no other server,
nothing is sent and nothing is read.
"""

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

import structlog

from heliograph.access.registry import KnownSensor, Registry
from heliograph.errors import StoreUnavailableError
from heliograph.ingest.batch import Message
from heliograph.ingest.instance import Instance
from heliograph.ingest.state import PipelineState
from heliograph.live import positions, signals
from heliograph.live.hub import Hub
from heliograph.live.positions import Watermarks
from heliograph.model.event import Committed
from heliograph.model.identifiers import (
    INGEST_ID_STEP,
    MAXIMUM_INSTANCE,
    first_ingest_id,
    ingest_id_time,
)
from heliograph.model.records import Kind
from heliograph.model.time import SECOND, now
from heliograph.store.engine import Signals
from heliograph.store.telemetry import Received, ReplayRows

log = structlog.get_logger()

T = TypeVar("T", bound=signals.Message)

# So long what is committed is gathered for one NOTIFY.
GATHER_SECONDS = 0.02
# So often a server tells where it is, if it has nothing else to tell.
TICK_SECONDS = 1.0
# Whoever has told nothing for so long is looked for in the tables: its notice may be lost.
SILENT_SECONDS = 3.0
# Nothing more is to come from a server that has been silent for so long, or alone from its start.
GONE_SECONDS = 120.0
ALONE_SECONDS = 10.0
START_SECONDS = 1.0
RETRY_SECONDS = 0.5
# What is committed longer after its id was made, by a server that stood still, is not looked for
# again: that server tells of it.
LATE = 15 * SECOND
# A page is a part of what a subscriber or a viewer who keeps up has room for.
PAGE_ROWS = 500
PAGE_BYTES = 256 << 10
# For so long who watches is waited for before a page is shown; who has no room by then is not
# waited for again before they have. All together so long, until this server has caught up: until
# nothing is due, or all that was due is shown so soon, however much has come meanwhile.
ROOM_SECONDS = 2.0
WAITING_SECONDS = 8.0
CAUGHT_UP_SECONDS = 1.0
ROOM_LOOK_SECONDS = 0.01
# Of messages that are not sent yet, or not looked at.
MAXIMUM_BYTES = 8 << 20
# Of rows that a session has missed.
MAXIMUM_PAGES = 200
ARRIVAL_SECONDS = 2.0
MAXIMUM_DUE = 10_000

_GREATEST = (1 << 63) - 1


class Interest(NamedTuple):
    """What is watched here: networks, and kinds of events; None: any."""

    networks: frozenset[str] | None
    kinds: frozenset[str] | None

    def wants(self, ids: signals.Ids) -> bool:
        """Return whether something of it may be watched."""
        return (
            self.networks is None
            or ids.networks is None
            or not self.networks.isdisjoint(ids.networks)
        ) and (self.kinds is None or not self.kinds.isdisjoint(ids.kinds))


class _Pending:
    """What is to be told of the ids of a number."""

    def __init__(self, after: int) -> None:
        self.after = self.until = after
        self.networks: set[str] | None = set()
        self.kinds: set[str] = set()

    def add_network(self, sensor: KnownSensor | None) -> None:
        if self.networks is not None:
            if sensor is None or len(self.networks) >= signals.MAXIMUM_NETWORKS:
                self.networks = None
            else:
                self.networks.add(sensor.network_identifier)


class Elsewhere:
    """Tells other servers what is committed here, and shows here what they commit."""

    def __init__(
        self,
        connection: Signals,
        instance: Instance,
        replay: ReplayRows,
        registry: Registry,
        hub: Hub,
        state: PipelineState,
        watermarks: Watermarks,
    ) -> None:
        """Bring what is read to the hub, and note in `watermarks` how far that is."""
        self._connection = connection
        self._instance = instance
        self._replay = replay
        self._registry = registry
        self._hub = hub
        self._state = state
        self._watermarks = watermarks
        watermarks.look = self.look
        # What is watched here; None: nothing.
        self.interest: Callable[[], Interest | None] = lambda: None
        # Who watches here, and has to take what they were shown before they have room for more.
        self.behind: Callable[[], set[object]] = set
        self._slow: set[object] = set()
        self._waited = 0.0
        self._receivers: dict[type[Any], Callable[[Any], Awaitable[None]]] = {}
        self._immediate: dict[type[Any], Callable[[Any], None]] = {}
        # Called when others are heard again.
        self.reconnected: Callable[[], Awaitable[object]] | None = None
        # Messages that could not be told, or not be taken, for want of room or of a connection.
        self.lost_total = 0
        self._is_losing = False
        # To be told: up to which id each own number has been, what is new, and other messages.
        self._announced: dict[int, int] = {}
        self._pending: dict[int, _Pending] = {}
        self._outgoing: deque[bytes] = deque()
        self._outgoing_bytes = 0
        self._pieces = signals.Pieces()
        self._registry_changed = False
        self._to_send = asyncio.Event()
        # Heard: of senders their pieces, of numbers when, and up to which id there is more.
        self._assemblies: dict[int, signals.Assembly] = {}
        self._heard_at: dict[int, float] = {}
        self._last_heard = float("-inf")
        self._due: dict[int, int] = {}
        # Of numbers whose rows were looked for without a notice: from which id on next time.
        self._looked: defaultdict[int, int] = defaultdict(int)
        # Who waits for what servers with these numbers have committed, told of or not.
        self._asked: dict[asyncio.Future[None], Collection[int]] = {}
        self._incoming: deque[signals.Message] = deque()
        self._to_read = asyncio.Event()
        self._answered = asyncio.Event()

    @property
    def is_alone(self) -> bool:
        """Whether there is no other server."""
        return not self._instance.others and _time() - self._last_heard > ALONE_SECONDS

    @property
    def number(self) -> int:
        """The number of this server among all."""
        return self._instance.number

    @property
    def is_connected(self) -> bool:
        """Whether the others' notices arrive."""
        return self._connection.is_open

    async def look(self, numbers: Collection[int]) -> None:
        """Return once all is shown that servers with these numbers have committed by now."""
        shown = asyncio.get_running_loop().create_future()
        self._asked[shown] = numbers
        self._to_read.set()
        try:
            await shown
        finally:
            self._asked.pop(shown, None)

    def receive(self, kind: type[T], receiver: Callable[[T], Awaitable[None]]) -> None:
        """Have messages of a kind taken; that may raise StoreUnavailableError, and is repeated."""
        self._receivers[kind] = receiver

    def receive_at_once(self, kind: type[T], receiver: Callable[[T], None]) -> None:
        """Have messages of a kind taken when they are heard, before all that waits."""
        self._immediate[kind] = receiver

    # What is told

    def committed(self, messages: Sequence[Message]) -> None:
        """Tell the others of a commit, after the state has counted it."""
        first = next((each.rows[0][0] for each in messages if each.rows), None)
        if first is not None:
            until = self._state.newest_id
            pending = self._open(until & MAXIMUM_INSTANCE, first - 1)
            pending.until = max(pending.until, until)
            for message in messages:
                self._describe(pending, message)
        for message in messages:
            if message.status is not None and message.dropped is None:
                number, _, text, _ = message.status
                self.tell(signals.Changed(Kind.STATUS.value, number, text or ""))
        self._to_send.set()

    def _describe(self, pending: _Pending, message: Message) -> None:
        if not message.rows or message.dropped is not None:
            return
        pending.kinds.add(message.kind.value)
        if pending.networks is None:
            return
        if message.merged:
            for number in {row[1] for row in message.rows}:
                pending.add_network(self._registry.number(number))
        else:
            for sensor in message.parts or (message.sensor,):
                pending.add_network(sensor)

    def changed(self, events: Iterable[Committed]) -> None:
        """Tell the others what became of sensors' presence."""
        for event in events:
            row = event.rows[0]
            text = (event.payload or b"").decode()
            self.tell(signals.Changed(event.kind.value, event.number, text, (row[0], row[1])))

    def registry_changed(self) -> None:
        """Have the others look at the registry."""
        if not self.is_alone:
            self._registry_changed = True
            self._to_send.set()

    def tell(self, message: signals.Message) -> None:
        """Tell the others something, if there are any; for want of room it is lost."""
        if self.is_alone:
            return
        encoded = signals.encode(message)
        if len(encoded) > signals.MAXIMUM_BYTES or (
            self._outgoing_bytes + len(encoded) > MAXIMUM_BYTES
        ):
            self._lose(1)
            return
        self._outgoing.append(encoded)
        self._outgoing_bytes += len(encoded)
        self._to_send.set()

    def _lose(self, count: int) -> None:
        self.lost_total += count
        if count and not self._is_losing:
            self._is_losing = True
            log.warning("events not exchanged with other servers", lost=self.lost_total)

    def _open(self, number: int, before: int) -> _Pending:
        """Return what is to be told of a number, of which nothing was told from this id on."""
        pending = self._pending.get(number)
        if pending is None:
            after = self._announced.setdefault(number, before)
            pending = self._pending[number] = _Pending(after)
        return pending

    def _stand(self) -> None:
        """Tell where this server is."""
        own = self._watermarks.own()
        pending = self._open(own & MAXIMUM_INSTANCE, own)
        pending.until = max(pending.until, own)
        self._to_send.set()

    async def start(self) -> None:
        """Listen, and know where the others are before anybody watches, if they say so soon."""
        try:
            await self._listen()
        except StoreUnavailableError as error:
            log.warning("events of other servers come late", reason=str(error))
            return
        if not self._instance.others:
            return
        try:
            async with asyncio.timeout(START_SECONDS):
                while not self._knows_all:
                    self._answered.clear()
                    await self._answered.wait()
        except TimeoutError:
            log.info("other servers do not answer yet")

    async def close(self) -> None:
        """Tell what was committed last."""
        if self._connection.is_open and not self.is_alone:
            await self._send()
        await self._connection.close()

    async def run(self) -> None:
        """Tell and show, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen_for_ever(), name="signals listen")
            group.create_task(self._send_for_ever(), name="signals send")
            group.create_task(self._tick_for_ever(), name="signals tick")
            group.create_task(self._show_for_ever(), name="signals show")

    def forget(self) -> None:
        """Begin anew: the database was put back."""
        for known in (self._announced, self._pending, self._due, self._looked):
            known.clear()
        self._watermarks.others.clear()
        self._outgoing.clear()
        self._outgoing_bytes = 0
        self._incoming.clear()
        self._stand()

    @property
    def _knows_all(self) -> bool:
        return all(other.number in self._watermarks.others for other in self._instance.others)

    def _hello(self) -> signals.Hello:
        return signals.Hello(self._instance.number, self._watermarks.own())

    async def _listen(self) -> None:
        self._assemblies.clear()
        await self._connection.open(self._hear)
        # Even if nobody is known: who has just begun may not know of this server.
        self._pieces = signals.Pieces()
        hello = signals.encode(self._hello())
        await self._connection.send(list(self._pieces.of(hello)))

    async def _listen_for_ever(self) -> None:
        while True:
            if not self._connection.is_open:
                try:
                    await self._listen()
                except StoreUnavailableError:
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                self._to_send.set()
                # Whatever was told meanwhile was told to others.
                self._registry.look()
                if self.reconnected is not None:
                    await self.reconnected()
            await self._connection.lost()
            log.info("connection for signals lost")

    async def _send_for_ever(self) -> None:
        while True:
            await self._to_send.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._to_send.clear()
            if self._connection.is_open:
                await self._send()

    async def _send(self) -> None:
        told = list(self._outgoing)
        self._outgoing.clear()
        self._outgoing_bytes = 0
        pieces = [piece for each in told for piece in self._pieces.of(each)]
        if self._registry_changed:
            self._registry_changed = False
            pieces += self._pieces.of(signals.encode(signals.RegistryChanged()))
        pending, self._pending = self._pending, {}
        for number, each in pending.items():
            self._announced[number] = each.until
            networks = None if each.networks is None else tuple(each.networks)
            ids = signals.Ids(number, each.after, each.until, networks, tuple(each.kinds))
            pieces += self._pieces.of(signals.encode(ids))
        try:
            await self._connection.send(pieces)
        except StoreUnavailableError:
            # Ids are told again with the next ones: whoever lacks them reads what is behind.
            self._lose(len(told))
        else:
            self._is_losing = False

    # Sessions of MQTT that go from one server to another

    @property
    def stand(self) -> str:
        """Where this server stands, for another one."""
        return ",".join(map(str, self._watermarks.position.values()))

    def since(self, stand: str) -> int:
        """Return at which moment a server stood there, in microseconds."""
        return max(map(ingest_id_time, (positions.parse(stand) or {0: 0}).values()))

    async def arrive(self, stand: str) -> None:
        """Return when what was shown where somebody stood was shown here, or in a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ARRIVAL_SECONDS):
                await self._watermarks.reach(positions.parse(stand) or {})

    async def missed(self, after: str, until: str) -> AsyncIterator[Sequence[Committed]]:
        """Yield what was committed between where two stood, in the order of the ids."""
        first, last = positions.parse(after), positions.parse(until)
        if first is None or last is None:
            return
        begin, end = min(first.values()), max(last.values())
        for _ in range(MAXIMUM_PAGES):
            index = await self._replay.index(begin, end, PAGE_ROWS)
            page = _bounded(index)
            wanted = [each.id for each in page if positions.passed(first, last, each.id)]
            if wanted:
                kinds = sorted({each.kind for each in page})
                rows = await self._replay.rows(kinds, wanted[0], wanted[-1])
                yield await self._events([e for e in rows if e[1][0] in set(wanted)])
            if len(page) == len(index) < PAGE_ROWS:
                return
            begin = page[-1].id
        log.warning("too much to read of what sessions are owed", rows=MAXIMUM_PAGES * PAGE_ROWS)

    def ask(self, keys: Sequence[bytes]) -> None:
        """Ask whoever has these sessions to give them up."""
        self.tell(signals.Asked(tuple(keys)))

    def gave(self, keys: Sequence[bytes]) -> None:
        """Tell that these are given up."""
        self.tell(signals.Given(tuple(keys)))

    # What is heard

    def _hear(self, sender: int, text: str) -> None:
        assembly = self._assemblies.get(sender)
        if assembly is None:
            assembly = self._assemblies[sender] = signals.Assembly()
        message = assembly.take(text)
        if message is None:
            return
        self._last_heard = _time()
        if isinstance(message, signals.Ids):
            self._note(message)
        elif isinstance(message, signals.RegistryChanged):
            self._registry.look()
        elif isinstance(message, signals.Hello):
            # A process of the database server may have had another server for its client before.
            self._assemblies = {sender: assembly}
            if message.stands and message.number != self._instance.number:
                # What it commits from now on is not shown yet, whenever it tells of that.
                self._watermarks.others.setdefault(message.number, message.stands)
                self._heard_at[message.number] = self._last_heard
            self._stand()
            if all(other.number != message.number for other in self._instance.others):
                self._instance.look()
        elif (immediate := self._immediate.get(type(message))) is not None:
            immediate(message)
        elif len(self._incoming) >= MAXIMUM_DUE:
            self._lose(1)
        else:
            self._incoming.append(message)
            self._to_read.set()

    def _note(self, ids: signals.Ids) -> None:
        number, others = ids.number, self._watermarks.others
        if number == self._instance.number:
            return
        self._heard_at[number] = self._last_heard
        known = others.get(number)
        if known is None:
            known = others[number] = ids.after
            self._answered.set()
        if ids.until <= known:
            return
        if number not in self._due and known >= ids.after:
            interest = self.interest()
            if interest is None or not interest.wants(ids):
                others[number] = ids.until
                return
        self._due[number] = max(self._due.get(number, 0), ids.until)
        self._to_read.set()

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if self.is_alone:
                self._announced.clear()
                self._pending.clear()
            else:
                self._stand()
                if not self._knows_all:
                    self.tell(self._hello())
            self._look_for_silent()

    def _look_for_silent(self) -> None:
        moment, others = _time(), self._watermarks.others
        for number in list(others):
            silent = moment - self._heard_at.setdefault(number, moment)
            if silent > GONE_SECONDS:
                del others[number], self._heard_at[number]
                self._due.pop(number, None)
                self._looked.pop(number, None)
            elif silent > SILENT_SECONDS and self.interest() is not None:
                self._due[number] = _GREATEST
                self._to_read.set()

    async def _show_for_ever(self) -> None:
        while True:
            await self._to_read.wait()
            self._to_read.clear()
            while self._due or self._asked or self._incoming:
                try:
                    await self._take_all()
                    if self._due or self._asked:
                        began = _time()
                        await self._show_due()
                        if _time() - began <= CAUGHT_UP_SECONDS:
                            self._waited = 0.0
                except StoreUnavailableError:
                    await asyncio.sleep(RETRY_SECONDS)
            self._waited = 0.0

    async def _take_all(self) -> None:
        while self._incoming:
            await self._take(self._incoming[0])
            # Unless all was forgotten meanwhile.
            if self._incoming:
                self._incoming.popleft()

    async def _take(self, message: signals.Message) -> None:
        if isinstance(message, signals.Changed):
            sensor = await self._registry.find_number(message.sensor)
            if sensor is not None and self._hub.wanted:
                rows = [] if message.row is None else [message.row]
                payload = message.payload.encode()
                self._hub.publish([_event(Kind(message.kind), sensor, rows, payload)])
        elif (receiver := self._receivers.get(type(message))) is not None:
            await receiver(message)

    async def _show_due(self) -> None:
        """Show what others have committed, the oldest first, and note how far that is."""
        others = self._watermarks.others
        asked = dict(self._asked)
        wanted = {number for numbers in asked.values() for number in numbers if number in others}
        self._due.update(dict.fromkeys(wanted, _GREATEST))
        due = dict(self._due)
        moment = first_ingest_id(now() - LATE)
        first = [max(others[n], self._looked[n] if due[n] == _GREATEST else 0) for n in due]
        after, until = min(first, default=_GREATEST), max(due.values(), default=0)
        is_all = after >= until
        while not is_all:
            if self.interest() is None and not wanted:
                reached, is_all = until, True
            else:
                await self._wait_for_room()
                await self._take_all()
                index = await self._replay.index_of(list(due), after, until, PAGE_ROWS)
                page = _bounded(index)
                is_all = len(page) == len(index) < PAGE_ROWS
                after = reached = until if is_all else page[-1].id
                await self._show(page, due)
            for number, end in due.items():
                if end < _GREATEST and number in others:
                    others[number] = max(others[number], min(end, reached))
        for number, end in due.items():
            self._looked[number] = moment
            if self._due.get(number) == end:
                del self._due[number]
        for shown in asked:
            if not shown.done():
                shown.set_result(None)
            self._asked.pop(shown, None)

    async def _wait_for_room(self) -> None:
        """Wait until who watches has room for a page.

        A server that stood still has all to show at once that others have committed meanwhile. Who
        takes it is given the time for that; who does not loses the oldest, as from this server's
        own commits, and keeps nobody waiting.
        """
        began, before = _time(), self._waited
        self._slow &= (behind := self.behind())
        while not behind <= self._slow and self._waited < WAITING_SECONDS:
            if _time() - began >= ROOM_SECONDS:
                self._slow |= behind
                return
            await asyncio.sleep(ROOM_LOOK_SECONDS)
            self._waited = before + _time() - began
            self._slow &= (behind := self.behind())

    async def _show(self, page: list[Received], due: Mapping[int, int]) -> None:
        others = self._watermarks.others

        def is_new(ingest_id: int) -> bool:
            number = ingest_id & MAXIMUM_INSTANCE
            return others.get(number, _GREATEST) < ingest_id <= due[number]

        wanted = [each for each in page if is_new(each.id)]
        if wanted:
            kinds = sorted({each.kind for each in wanted})
            rows = await self._replay.rows_of(list(due), kinds, wanted[0].id, wanted[-1].id)
            # What comes of it is published at once: who begins to watch meanwhile is told by
            # `others` what is still to come.
            self._publish(await self._events([each for each in rows if is_new(each[1][0])]))

    async def _events(self, rows: list[tuple[Kind, tuple[Any, ...]]]) -> list[Committed]:
        """Return rows as events, those of a message as one."""
        events: list[Committed] = []
        for kind, row in rows:
            sensor = await self._registry.find_number(row[1])
            if sensor is None or not sensor.identifier:
                continue
            if events and _is_of(events[-1], kind, row):
                events[-1].rows.append(row)
            else:
                events.append(_event(kind, sensor, [row], None))
        return events

    def _publish(self, events: list[Committed]) -> None:
        for number, of_one in groupby(events, lambda each: each.rows[0][0] & MAXIMUM_INSTANCE):
            shown = list(of_one)
            if self._hub.wanted:
                self._hub.publish(shown)
            self._watermarks.others[number] = shown[-1].rows[-1][0]


def _is_of(event: Committed, kind: Kind, row: tuple[Any, ...]) -> bool:
    """Return whether a row came in one message with those of an event."""
    last = event.rows[-1]
    return (
        event.kind is kind
        and row[0] == last[0] + INGEST_ID_STEP
        and (row[1], row[4]) == (last[1], last[4])
    )


def _bounded(index: list[Received]) -> list[Received]:
    """Return as many of the rows, the first at least, as may be read at once."""
    size = 0
    for at, each in enumerate(index):
        if at and size + each.size > PAGE_BYTES:
            return index[:at]
        size += each.size
    return index


def _event(kind: Kind, sensor: KnownSensor, rows: list[Any], payload: bytes | None) -> Committed:
    names = sensor.number, sensor.identifier, sensor.device_id, sensor.network_identifier
    return Committed(kind, *names, rows, payload, None)


def _time() -> float:
    return asyncio.get_running_loop().time()
