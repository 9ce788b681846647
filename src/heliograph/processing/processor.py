"""Moves the states of rules by what was observed, and by the clock; enters what follows from it.

    batch ─▶ observation ─┐
                          ├─▶ state of (rule, sensor) ─▶ outbox (action), alert
    clock, presence ──────┘

One transaction takes observations, moves the states that they are about, enters what follows and
forgets the observations: after a crash the same is done again, or all of it was. On PostgreSQL one
server at a time does it; actions are run by all of them.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple, Self

import msgspec
import structlog

from heliograph.access.registry import KnownSensor, Registry
from heliograph.errors import RowError, StoreUnavailableError
from heliograph.model.actions import idempotency_key
from heliograph.model.alert import AlertChange, ClearedAlert, NewAlert
from heliograph.model.listeners import Listeners
from heliograph.model.presence import presence
from heliograph.model.records import Kind
from heliograph.model.time import SECOND, now
from heliograph.processing import state as states
from heliograph.processing.conditions import Verdict, value_of
from heliograph.processing.rule_actions import alert_of, body_of, variables_of
from heliograph.processing.rule_index import IndexedRule, RuleIndex
from heliograph.processing.rules import Occasion, RuleAction
from heliograph.processing.state import Observation, RuleState, Tick, Transition
from heliograph.processing.templates import TemplateError
from heliograph.store import Store
from heliograph.store.actions import ActionState
from heliograph.store.alerts import change_alerts
from heliograph.store.engine import Batch, Row, Written
from heliograph.store.rule_states import EnteredAction, StoredObservation, StoredState, Turn

log = structlog.get_logger()

# Looked at in one transaction, during which nothing else is written.
AT_ONCE = 500
# A turn is broken off after so long in the event loop, which does nothing else meanwhile. The rest
# is looked at in the next one.
MOVING_SECONDS = 0.02
CHARACTERS = 4 << 20
# States that are compared with their rules before the event loop does something else.
COMPARED_AT_ONCE = 100
# Sensors whose presence is looked up in one go.
PRESENCES = 200
RETRY_SECONDS = 1.0
# Other servers note presence without a word to this one: it is looked at so often.
PRESENCE_SECONDS = 30.0
# Rules change one after another, and messages come so: what does is gathered for so long after a
# turn. Each turn has the writer for itself, and so has each claim of actions that follows it.
GATHER_SECONDS = 0.05
SHORTEST_WAIT_SECONDS = 0.01


class _Seen(NamedTuple):
    """What a state is moved by, and the stored observation that it comes from, if from one."""

    event: Observation | Tick
    stored: StoredObservation | None = None


class _Found(NamedTuple):
    """What states are to be moved by, and what is stored of them; `is_full`: there may be more."""

    taken: list[StoredObservation]
    pairs: dict[tuple[str, int], list[_Seen]]
    known: dict[tuple[str, int], Any]
    is_full: bool

    def first(self, count: int) -> Self:
        """Return what is about the first pairs of rule and sensor; the others are left."""
        if count == len(self.pairs):
            return self
        pairs = dict(islice(self.pairs.items(), count))
        taken = [each for each in self.taken if (each.rule, each.sensor) in pairs]
        return self._replace(taken=taken, pairs=pairs, is_full=True)


class _Moved(NamedTuple):
    """What came of a rule and a sensor, before it is stored; without a state it has ended."""

    rule: str
    sensor: int
    state: StoredState | None
    transitions: int = 0
    actions: Sequence[EnteredAction] = ()
    alerts: Sequence[NewAlert | ClearedAlert] = ()


class Processor:
    """Owns the index of rules and the states; `run` moves them for as long as it runs."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        *,
        interval: float,
    ) -> None:
        """Look for what is due every `interval` seconds without being woken."""
        self._store = store
        self._states = store.rule_states
        self._registry = registry
        self.interval = interval
        self.index = RuleIndex(registry.number, alone=registry.connected.alone)
        # Told whether there are rules, which have to look at what is committed.
        self.used: Listeners[[bool]] = Listeners()
        # Told of each turn that had something to do: seconds, messages looked at, transitions.
        self.traced: Callable[[float, int, int], None] | None = None
        # Called after a commit that has entered actions.
        self.entered: Listeners[[]] = Listeners()
        self._work = asyncio.Event()
        self._is_outdated = True
        self._refreshing = asyncio.Lock()
        # Since when messages can be received without a gap, as far as the clock counts by that.
        self._since = now()
        self._was_away = False
        # When the last turn that had something to do ended, by the loop's clock.
        self._turned_at = 0.0
        # Sensors whose presence is to be looked at.
        self._presences: dict[int, None] = {}
        # By rule that is driven by the clock, and its basis: sensors of which it has begun.
        self._begun: dict[tuple[str, int], frozenset[int]] = {}
        self._looked_at_presence = 0.0
        # Whether there may be observations; rules of such that were looked for in vain just now.
        self._may_wait = True
        self._gone: frozenset[str] = frozenset()
        self._networks: dict[str, str | None] = {}
        # Whether alerts were told of since when there is work without a pause.
        self._has_told = False
        # What has become of alerts in the open transaction.
        self._alerts: list[AlertChange] = []
        self.observed_total = 0
        self.transitions_total = 0

    def wake(self) -> None:
        """Look for work now: something was committed."""
        self._work.set()

    def committed(self, batch: Batch, written: Written, following: Batch | None = None) -> None:
        """Take note of a batch that was committed, while `following` is the next one."""
        if batch.observations:
            self.index.committed(batch, written, following)
        # Some engines say which of them are stored.
        if batch.observations if written.observed is None else written.observed:
            self._may_wait = True
            self.wake()
        if batch.statuses:
            self.present(number for number, *_ in batch.statuses)

    def present(self, numbers: Iterable[int]) -> None:
        """Take note of sensors that have connected, or do so no more."""
        if self.index.has(Kind.PRESENCE):
            self._presences.update(dict.fromkeys(numbers))
            self.wake()

    def changed(self) -> None:
        """Take note that rules, sensors or networks have changed."""
        self.index.forget_sensors()
        self._networks.clear()
        self._is_outdated = True
        self.wake()

    def forget(self) -> None:
        """Forget what was known of a database that was put back since."""
        self._presences.clear()
        self._begun = {}
        self._since = now()
        self.index.doubt()
        self.changed()

    async def is_telling(self) -> bool:
        """Return whether more alerts may follow at once on those that were told of last.

        Raises:
            StoreUnavailableError: not now.
        """
        if self._has_told or self._registry.connected.alone:
            return self._has_told
        # Another server may be about it.
        return await self._is_due()

    async def refresh(self) -> None:
        """Know the rules as they are stored now.

        Raises:
            StoreUnavailableError: not now.
        """
        async with self._refreshing:
            await self._refresh()

    async def _refresh(self) -> None:
        self.index.replace(await self._store.rules.enabled())
        self.used(bool(self.index.rules))

    async def run(self) -> None:
        """Move states, for ever."""
        while True:
            try:
                if self._was_away:
                    await self._store.ping()
                    # What was sent meanwhile is on its way: nobody was silent.
                    self._was_away, self._since = False, now()
                await self.proceed()
            except StoreUnavailableError as error:
                log.debug("rules waiting for the database", reason=str(error))
                self._was_away = True
                await asyncio.sleep(RETRY_SECONDS)
                continue
            except RowError as error:
                # A rule that was deleted meanwhile, say: it comes out next time.
                log.warning("states of rules not stored", reason=str(error))
                self.changed()
                await asyncio.sleep(RETRY_SECONDS)
                continue
            await self._wait()

    async def proceed(self) -> None:
        """Move all that is to be moved by now.

        Raises:
            StoreUnavailableError: not now; nothing of it is lost.
        """
        try:
            while True:
                if not await self._proceed():
                    return
                # Whoever sends waits for the same writer.
                await asyncio.sleep(0)
        finally:
            self._has_told = False

    async def _proceed(self) -> bool:
        """Move what is to be moved, as much as one turn does; return whether there may be more."""
        if self._is_outdated:
            self._is_outdated = False
            try:
                # Nobody else may replace the rules meanwhile.
                async with self._refreshing:
                    await self._refresh()
                    await self._reconcile()
            except BaseException:
                self._is_outdated = True
                raise
        if not self._registry.connected.alone:
            self._may_wait = self._may_wait or bool(self.index.rules)
            self._look_at_all()
        if not (self._may_wait or self._presences or await self._is_due()):
            return False
        return await self._round()

    async def _is_due(self) -> bool:
        due_at = await self._states.due_at() if self.index.rules else None
        return due_at is not None and due_at <= now()

    async def _wait(self) -> None:
        seconds = self.interval
        if self.index.rules:
            with contextlib.suppress(StoreUnavailableError):
                due_at = await self._states.due_at()
                if due_at is not None:
                    seconds = min(seconds, max((due_at - now()) / SECOND, SHORTEST_WAIT_SECONDS))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._work.wait()
        # What comes after a pause is looked at now.
        since = asyncio.get_running_loop().time() - self._turned_at
        await asyncio.sleep(GATHER_SECONDS if self._is_outdated else GATHER_SECONDS - since)
        self._work.clear()

    # What rules of the clock know of their sensors

    async def _matched(self, rule: IndexedRule) -> frozenset[int]:
        match, network = rule.compiled.rule.match, rule.stored.network_identifier
        names = sorted(match.sensors) if match.sensors or match.tags else None
        return frozenset(await self._states.matched(network, names, sorted(match.tags)))

    async def _reconcile(self) -> None:
        """Begin the states of rules that go by the clock, and end those that rest on nothing."""
        moment = now()
        begun: list[StoredState] = []
        former, known = self._begun, dict[tuple[str, int], frozenset[int]]()
        for rule in self.index.rules.values():
            if not rule.compiled.by_clock:
                continue
            known[rule.identifier, rule.basis] = matched = await self._matched(rule)
            fresh = matched - former.get((rule.identifier, rule.basis), frozenset())
            if rule.compiled.operator == "offline":
                self._presences.update(dict.fromkeys(fresh))
            else:
                state = states.start(rule.compiled, moment)
                begun += [self._stored(rule, number, state) for number in sorted(fresh)]
        # Nobody waits for the writer meanwhile: mostly there is nothing to end.
        ended = await self._without_basis(await self._states.active())
        if begun or ended:
            async with self._states.turn() as turn:
                if turn is None:
                    self._is_outdated = True
                    return
                ended = await self._without_basis(await turn.active())
                self._alerts += await turn.run(lambda turn: _reconciled(turn, begun, ended, moment))
        if self._begun is former:  # the database was not put back meanwhile
            self._begun = known
        if self.index.alone and not self.index.knows_awake:
            awake = await self._states.awake()
            if not self._is_outdated:
                self.index.know(awake)
        self._tell_of_alerts()

    async def _without_basis(self, active: Iterable[Row]) -> list[tuple[str, int]]:
        """Return rule and sensor of states whose rule is gone, or another, or not theirs."""
        ended: list[tuple[str, int]] = []
        for at, (identifier, number, basis) in enumerate(active, 1):
            if at % COMPARED_AT_ONCE == 0:
                await asyncio.sleep(0)  # others have something to do, too
            found = self.index.rules.get(identifier)
            if found is None or found.basis != basis or not await self._is_upon(found, number):
                ended.append((identifier, number))
        return ended

    def _look_at_all(self) -> None:
        moment = asyncio.get_running_loop().time()
        if moment - self._looked_at_presence < PRESENCE_SECONDS:
            return
        self._looked_at_presence = moment
        for rule in self.index.rules.values():
            if rule.compiled.operator == "offline":
                begun = self._begun.get((rule.identifier, rule.basis), ())
                self._presences.update(dict.fromkeys(begun))

    async def _is_upon(self, rule: IndexedRule, number: int) -> bool:
        # In memory from here on.
        await self._registry.find_number(number)
        return self.index.falls_upon(rule, number)

    # One turn

    async def _round(self) -> bool:
        """Move what has to be moved, up to `AT_ONCE`; return whether there may be more."""
        moment, began = now(), time.monotonic()
        # Who connects or goes while they are looked at is looked at again: so they are taken first.
        looked = list(self._presences)[:PRESENCES]
        for number in looked:
            del self._presences[number]
        is_done = False
        try:
            present = await self._presence_of(looked)
            self._may_wait = False
            async with self._states.turn() as turn:
                if turn is None:
                    return False
                found = await self._find(turn, present, moment)
                if self._is_outdated:
                    return True  # not before the rules are known
                moved: list[_Moved] = []
                until = time.monotonic() + MOVING_SECONDS
                for (name, number), seen in found.pairs.items():
                    known = found.known.get((name, number))
                    moved.append(await self._move(turn, name, number, seen, known, moment))
                    if time.monotonic() > until:
                        break
                stored = await turn.run(lambda turn: _stored(turn, moved, found, moment))
                found, self._alerts = stored
            is_done = True
            # By the next turn they may be in use again.
            self._gone = frozenset()
        finally:
            if not is_done:
                self._presences.update(dict.fromkeys(looked))
                self._may_wait = True
                self._alerts.clear()
        self.index.wake(
            (each.rule, each.sensor) for each in moved if each.state and each.state.phase != "idle"
        )
        left = {number for name, number in present if (name, number) not in found.pairs}
        self._presences.update(dict.fromkeys(left))
        self.observed_total += len(found.taken)
        transitions = sum(each.transitions for each in moved)
        self.transitions_total += transitions
        if moved:
            self._turned_at = asyncio.get_running_loop().time()
        if self.traced is not None and moved:
            self.traced(time.monotonic() - began, len(found.taken), transitions)
        self._has_told = self._has_told or bool(self._alerts)
        if self._alerts or any(each.actions for each in moved):
            self.entered()
        self._tell_of_alerts()
        self._may_wait = self._may_wait or found.is_full
        return found.is_full or bool(self._presences)

    async def _find(
        self, turn: Turn, present: dict[tuple[str, int], Observation], moment: int
    ) -> _Found:
        """Return what states are to be moved by."""
        taken, due, known = await turn.run(lambda turn: _waiting(turn, present.keys(), moment))
        unknown = frozenset(each.rule for each in taken) - self.index.rules.keys()
        if not unknown <= self._gone:
            # Of a rule that only another server knows so far, or of one that is gone.
            self._gone = unknown
            self._is_outdated = True
        pairs: dict[tuple[str, int], list[_Seen]] = {}
        for each in taken:
            pairs.setdefault((each.rule, each.sensor), []).append(_seen(each))
        for pair, event in present.items():
            pairs.setdefault(pair, []).append(_Seen(event))
        for name, number, *state in due:
            if (name, number) not in pairs:
                known[name, number] = state
                pairs[name, number] = [_Seen(Tick(moment, self._since))]
        is_full = len(taken) == AT_ONCE or len(due) == AT_ONCE
        is_full = is_full or sum(len(each.value) for each in taken) >= CHARACTERS
        return _Found(taken, pairs, known, is_full)

    async def _presence_of(self, numbers: Sequence[int]) -> dict[tuple[str, int], Observation]:
        """Return what rules of presence have to look at of sensors, by rule and sensor."""
        made: dict[tuple[str, int], Observation] = {}
        for number in numbers:
            await self._registry.find_number(number)
            rules = self.index.of(Kind.PRESENCE, number)
            sensor = await self._store.sensors.find_number(number) if rules else None
            if sensor is None:
                continue
            is_connected, since = presence(sensor)
            if is_connected is None or since is None:
                continue
            seen = Observation(since, int(is_connected), since, is_connected)
            made.update(((rule.identifier, number), seen) for rule in rules)
        return made

    async def _move(
        self,
        turn: Turn,
        name: str,
        number: int,
        seen: Sequence[_Seen],
        known: Any,
        moment: int,
    ) -> _Moved:
        """Return the state of a rule and sensor as it is now, and what follows."""
        rule, sensor = self.index.rules.get(name), await self._registry.find_number(number)
        if rule is None or sensor is None or not self.index.falls_upon(rule, number):
            return _Moved(name, number, None)
        actions: list[EnteredAction] = []
        alerts: list[NewAlert | ClearedAlert] = []
        transitions_total = 0
        if known is not None and known[1] != rule.basis:
            # The rule was another one: what it had raised says nothing any more.
            alerts.append(ClearedAlert(name, number, moment))
            known = None
        state = states.start(rule.compiled, moment) if known is None else states.decode(known[0])
        for each in seen:
            state, transitions = states.advance(rule.compiled, state, each.event)
            transitions_total += len(transitions)
            for transition in transitions:
                entered, alert = await self._follow(turn, rule, sensor, transition, seen, moment)
                actions += entered
                alerts += alert
        stored = self._stored(rule, number, state)
        return _Moved(name, number, stored, transitions_total, actions, alerts)

    def _stored(self, rule: IndexedRule, number: int, state: RuleState) -> StoredState:
        phase = "raised" if state.raised else "idle" if state.is_idle else "pending"
        due_at = states.next_due(rule.compiled, state, self._since)
        text = states.encode(state)
        return StoredState(rule.identifier, number, text, rule.basis, phase, due_at)

    async def _follow(
        self,
        turn: Turn,
        rule: IndexedRule,
        sensor: KnownSensor,
        transition: Transition,
        seen: Sequence[_Seen],
        moment: int,
    ) -> tuple[list[EnteredAction], list[NewAlert | ClearedAlert]]:
        """Return what a rule does now, and what becomes of its alert."""
        is_message = transition.occasion is Occasion.MESSAGE
        alerting = None if is_message else rule.compiled.alert
        follow = [
            (position, action)
            for position, action in enumerate(rule.compiled.rule.actions)
            if action is not rule.compiled.alert and action.on is transition.occasion
        ]
        if alerting is None and not follow:
            return [], []
        kind, message, value = await self._cause(turn, rule, sensor.number, transition, seen)
        network = await self._network_name(rule.stored.network_identifier)
        variables = variables_of(rule, sensor, network, transition, kind, value)
        alerts: list[NewAlert | ClearedAlert] = []
        if alerting is not None:
            alert = alert_of(rule, sensor, transition, alerting, variables)
            is_raised = transition.occasion is Occasion.RAISED
            over = ClearedAlert(alert.rule, alert.sensor, transition.at)
            alerts.append(alert if is_raised else over)
        entered = [
            msgspec.structs.replace(
                _entered(rule, position, action, sensor, transition, variables, moment),
                message=message,
            )
            for position, action in follow
        ]
        return entered, alerts

    async def _cause(
        self,
        turn: Turn,
        rule: IndexedRule,
        number: int,
        transition: Transition,
        seen: Sequence[_Seen],
    ) -> tuple[Kind, int | None, Any]:
        """Return kind, id and value of the message that was the cause; None: it is not stored."""
        kinds = rule.compiled.rule.kinds
        if rule.compiled.by_clock:
            return kinds[0], None, None
        for event, stored in seen:
            if (
                stored is not None
                and stored.value != "null"
                and isinstance(event, Observation)
                and (event.timestamp, event.fingerprint) == transition.cause
            ):
                return Kind(stored.kind), stored.id, event.value
        for kind in kinds:
            row = await turn.row(kind, number, *transition.cause)
            if row is not None:
                return kind, int(row[0]), value_of(kind, row)
        return kinds[0], None, None

    async def _network_name(self, identifier: str) -> str | None:
        if identifier not in self._networks:
            network = await self._registry.network(identifier)
            self._networks[identifier] = None if network is None else network.name
        return self._networks[identifier]

    def _tell_of_alerts(self) -> None:
        """Tell what has become of alerts, after the commit."""
        changes, self._alerts = self._alerts, []
        if changes:
            self._store.alerts.changed(changes)


# Steps of a turn that are queries alone: on SQLite each is one way to the writer's thread and back.


async def _waiting(
    turn: Turn, present: Iterable[tuple[str, int]], moment: int
) -> tuple[list[StoredObservation], Sequence[Row], dict[tuple[str, int], Any]]:
    """Return what waits to be looked at, what is due, and the states that both are about."""
    taken = await turn.take(AT_ONCE, CHARACTERS)
    pairs = list(dict.fromkeys([*((each.rule, each.sensor) for each in taken), *present]))
    known = await turn.states(pairs) if pairs else {}
    return taken, await turn.due(moment, AT_ONCE), known


async def _stored(
    turn: Turn, moved: Sequence[_Moved], found: _Found, moment: int
) -> tuple[_Found, list[AlertChange]]:
    """Store what came of a turn; return what of it that was, and what has become of alerts."""
    found = found.first(len(moved))
    alerts: list[NewAlert | ClearedAlert] = []
    for each in moved:
        over = ClearedAlert(each.rule, each.sensor, moment)
        alerts += each.alerts if each.state else (over,)
    changes = await change_alerts(turn.transaction, alerts, moment)
    if ended := [(each.rule, each.sensor) for each in moved if not each.state]:
        await turn.end(ended)
    if kept := [each.state for each in moved if each.state]:
        await turn.store(kept)
    if actions := [action for each in moved for action in each.actions]:
        await turn.enter(actions)
    if found.taken:
        await turn.settle(found.taken)
    return found, changes


async def _reconciled(
    turn: Turn, begun: Sequence[StoredState], ended: Sequence[tuple[str, int]], moment: int
) -> list[AlertChange]:
    """Forget states that rest on nothing any more, clear what they have raised; begin others."""
    if ended:
        await turn.end(ended)
    if begun:
        await turn.begin(begun)
    over = [ClearedAlert(name, number, moment) for name, number in ended]
    return await change_alerts(turn.transaction, over, moment)


def _seen(stored: StoredObservation) -> _Seen:
    newest = {} if stored.newest is None else {"newest": stored.newest}
    observation = Observation(
        stored.timestamp,
        stored.fingerprint,
        stored.receipt_timestamp,
        msgspec.json.decode(stored.value),
        None if stored.verdict is None else Verdict(stored.verdict),
        **newest,
    )
    return _Seen(observation, stored)


def _entered(
    rule: IndexedRule,
    position: int,
    action: RuleAction,
    sensor: KnownSensor,
    transition: Transition,
    variables: dict[str, Any],
    moment: int,
) -> EnteredAction:
    """Return an action as it is entered; one whose templates make nothing usable has failed."""
    state, error, body = ActionState.PENDING, None, "{}"
    timestamp, fingerprint = transition.cause
    key = idempotency_key(
        rule.identifier, position, action.type, sensor.number, timestamp, fingerprint
    )
    try:
        body = body_of(action, sensor, {**variables, "idempotency_key": key})
    except TemplateError as failure:
        state, error = ActionState.FAILED, str(failure)
    return EnteredAction(
        rule.identifier,
        position,
        sensor.number,
        timestamp,
        fingerprint,
        None,
        rule.stored.network_identifier,
        action.type,
        body,
        moment,
        moment,
        state.value,
        None if error is None else moment,
        error,
    )
