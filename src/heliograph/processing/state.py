"""What a rule remembers of a sensor, and how messages and the clock move it: pure functions.

A rule is clear or raised. It raises when its condition has held for `for`, and clears when it has
not for `clear_for`. Both are counted in the data's own time, which goes on with the clock after the
newest message: a value counts until the next one says otherwise. So a clock that ticks between two
messages finds what the second would have shown, and ticks change nothing but when one learns of it.
Between two raises there are a clear and the cooldown; a condition that still holds then raises.

Messages older than the newest, and repeats of it, change nothing. Where the rule asks for late data
they are followed apart, by their own times, and may raise; newer messages clear that again.

`no_data` and `offline` count by the clock alone, from when messages arrived. An outage of the
server itself does not count: see `Tick.since`. Why all this: docs/decisions/0039.
"""

import copy
from typing import Any, Final, TypeAlias

import msgspec

from heliograph.model.attributes import value_at
from heliograph.model.time import SECOND
from heliograph.processing.conditions import Verdict, finite_number
from heliograph.processing.rules import CompiledRule, Occasion

# A message may say otherwise at the very time that a raise is due: it is waited for.
GRACE: Final = 2 * SECOND
# Before all times.
_NEVER: Final = -(1 << 62)

# Timestamp and fingerprint: which message of the sensor. The fingerprint is 0 where there is none.
MessageKey: TypeAlias = tuple[int, int]


class RuleState(msgspec.Struct, omit_defaults=True):
    """What a rule remembers of a sensor. Times are microseconds.

    While the rule is clear its condition holds since `since`, while it is raised it does not since
    then (None: not now); `cause` is the message that began it. `delay` is by how much the newest
    message came later than its timestamp. `late_since` and so on are those of late data.
    """

    raised: bool = False
    since: int | None = None
    cause: MessageKey | None = None
    changed_at: int = _NEVER
    raised_at: int = _NEVER
    newest: MessageKey | None = None
    delay: int = 0
    previous: dict[str, tuple[int, float]] = {}
    late_since: int | None = None
    late_cause: MessageKey | None = None
    late_newest: MessageKey | None = None

    @property
    def is_idle(self) -> bool:
        """Whether only a message that fulfils the condition could change anything."""
        return not self.raised and self.since is None and self.late_since is None


class Observation(msgspec.Struct, frozen=True):
    """A message of the sensor. `value` is decoded; for `offline` it is whether it is connected.

    `verdict` is what the condition says of it, if that is known. `newest` is the newest timestamp
    that the sensor has sent of this kind before it, if messages are left out that did not matter.
    """

    timestamp: int
    fingerprint: int
    received_at: int
    value: Any = None
    verdict: Verdict | None = None
    newest: int = _NEVER


class Tick(msgspec.Struct, frozen=True):
    """The clock says `now`; `since` is when the server last began to receive messages."""

    now: int
    since: int = _NEVER


class Transition(msgspec.Struct, frozen=True):
    """What happens to a rule, when (the data's own time), and the message that was its cause.

    It has one cause, no matter whether a message or the clock showed it.
    """

    occasion: Occasion
    at: int
    cause: MessageKey
    late: bool = False


def start(rule: CompiledRule, at: int) -> RuleState:
    """Return the state of a sensor that the rule falls upon from `at`, which has sent nothing."""
    if rule.operator == "no_data":
        return RuleState(since=at, cause=(at, 0))
    return RuleState()


def advance(
    rule: CompiledRule, state: RuleState, event: Observation | Tick
) -> tuple[RuleState, list[Transition]]:
    """Return the state after a message or a tick, and what happened to the rule."""
    state = copy.copy(state)
    made: list[Transition] = []
    if isinstance(event, Tick):
        _run(rule, state, event.now - _behind(rule, state), made, event.since)
        return state, made
    # What the clock drives is counted by the clock.
    at = event.received_at if rule.by_clock else event.timestamp
    key = (at, event.fingerprint)
    if key == state.newest:
        return state, made
    if (state.newest is not None and key < state.newest) or at < event.newest:
        if rule.rule.late:
            _follow_late(rule, state, event, key, made)
        return state, made
    if not rule.by_clock:
        _run(rule, state, at - 1, made)
    verdict = event.verdict
    if verdict is None or rule.changing:
        verdict = rule.evaluate(event.value, at, state.previous)
    _apply(state, verdict, key)
    state.newest = key
    state.delay = event.received_at - at
    _keep_previous(rule, state, event.value, at)
    _run(rule, state, at, made)
    if rule.operator == "no_data" and verdict is Verdict.CLEARS:
        state.since, state.cause = at, key
    if rule.forwards and state.raised and verdict is Verdict.HOLDS:
        made.append(Transition(Occasion.MESSAGE, at, key))
    return state, made


def next_due(rule: CompiledRule, state: RuleState, since: int = _NEVER) -> int | None:
    """Return when a tick will change the rule if no message comes, by the clock; None: never.

    `since` is as in `Tick`.
    """
    return None if state.since is None else _due(rule, state, since) + _behind(rule, state)


def encode(state: RuleState) -> str:
    """Return the state as JSON."""
    return msgspec.json.encode(state).decode()


def decode(text: str) -> RuleState:
    """Return the state that `encode` made the text of."""
    return msgspec.json.decode(text, type=RuleState)


def _apply(state: RuleState, verdict: Verdict, key: MessageKey) -> None:
    """Note what the message says: BETWEEN leaves all as it is, as does what says nothing."""
    turns = Verdict.CLEARS if state.raised else Verdict.HOLDS
    stays = Verdict.HOLDS if state.raised else Verdict.CLEARS
    if verdict is turns and state.since is None:
        state.since, state.cause = key[0], key
    elif verdict is stays:
        state.since = state.cause = None


def _keep_previous(rule: CompiledRule, state: RuleState, value: Any, at: int) -> None:
    for attribute, keys in rule.changing:
        found = value_at(value, keys)
        if finite_number(found):
            state.previous = {**state.previous, attribute: (at, found)}


def _due(rule: CompiledRule, state: RuleState, since: int) -> int:
    """Return when what began at `state.since` raises or clears the rule, in the data's own time."""
    began = state.since or 0
    if state.raised:
        return began + rule.clear_for
    if rule.by_clock:
        began = max(began, since)
    return max(began + rule.hold, state.raised_at + rule.cooldown)


def _behind(rule: CompiledRule, state: RuleState) -> int:
    """Return how far the clock goes before the time up to which it tells about the data."""
    return 0 if rule.by_clock else state.delay + GRACE


def _run(
    rule: CompiledRule, state: RuleState, to: int, made: list[Transition], since: int = _NEVER
) -> None:
    """Let the time go on, at which a raise or a clear may be due."""
    if state.since is None or state.cause is None:
        return
    due = _due(rule, state, since)
    if due > to:
        return
    # A tick may have gone ahead of a message that comes only now.
    at = max(due, state.changed_at)
    state.raised = not state.raised
    occasion = Occasion.RAISED if state.raised else Occasion.CLEARED
    made.append(Transition(occasion, at, state.cause))
    state.changed_at = at
    if state.raised:
        state.raised_at = at
    state.since = state.cause = None


def _follow_late(
    rule: CompiledRule,
    state: RuleState,
    event: Observation,
    key: MessageKey,
    made: list[Transition],
) -> None:
    """Follow messages that are older than the newest, as far as each is newer than the last one."""
    if key == state.late_newest:
        return
    verdict = event.verdict
    if verdict is None or rule.changing:
        # The number before it is not known.
        verdict = rule.evaluate(event.value, key[0], {})
    goes_back = state.late_newest is not None and key < state.late_newest
    if verdict is Verdict.CLEARS or goes_back:
        state.late_since = state.late_cause = None
    if verdict is Verdict.HOLDS and state.late_since is None:
        state.late_since, state.late_cause = key[0], key
    state.late_newest = key
    if state.late_since is None or state.late_cause is None:
        return
    due = state.late_since + rule.hold
    if not state.raised and due <= key[0] and abs(due - state.raised_at) >= rule.cooldown:
        made.append(Transition(Occasion.RAISED, due, state.late_cause, late=True))
        state.raised = True
        state.raised_at = max(state.raised_at, due)
        state.changed_at = max(state.changed_at, due)
        state.since = state.cause = state.late_since = state.late_cause = None
    if rule.forwards and state.raised and verdict is Verdict.HOLDS:
        made.append(Transition(Occasion.MESSAGE, key[0], key, late=True))
