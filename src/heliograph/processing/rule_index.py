"""Which rules fall upon which sensors, in memory, and what of a batch they have to look at.

Where there is no rule nothing is asked; where there is none for a sensor, a row costs a look-up in
a dictionary. Where a rule is idle a row costs its condition: only one that holds is observed.

Which rules are not idle upon which sensors is in the database, and is remembered here for a server
that has the database to itself: a sensor is awake for a rule from the first message that is
observed until the database says, in the transaction that stores another one, that the state is
idle and nothing waits. So a sensor may be awake for longer than its state, and never for less
(docs/decisions/0043).
"""

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import structlog

from heliograph.model.canonical import canonical
from heliograph.model.records import FINGERPRINT, ID, SENSOR, TIMESTAMP, Kind, ObservationRow
from heliograph.processing.cel import CelError
from heliograph.processing.conditions import Evaluate, Previous, Verdict, value_of
from heliograph.processing.members import InvalidMemberError
from heliograph.processing.rules import CompiledRule, parse
from heliograph.store.engine import Batch, Written
from heliograph.store.rules import StoredRule

log = structlog.get_logger()

RECEIPT_TIMESTAMP = 4
# Of an observation.
_KIND = 6
# Sensors of which it is remembered what falls upon them; more are looked up again.
REMEMBERED = 200_000
_NOTHING: Final[Previous] = {}
# What a state rests on, and whether there is an alert, which would else stay when it is taken away
# or be missing when it is added. The others may change, and what has been raised stays so.
_BASIS = ("condition", "kinds", "match", "for", "clear_for", "late")


class NamedSensor(NamedTuple):
    """A sensor as far as rules are concerned."""

    network_identifier: str
    names: Collection[str]
    is_active: bool = True
    tags: Collection[str] = ()


@dataclasses.dataclass(slots=True, eq=False)
class IndexedRule:
    """A rule in use. `basis` is a hash of what its states rest on.

    `awake` are the sensors upon which it may not be idle, unless it `needs_each` message anyway.
    """

    stored: StoredRule
    compiled: CompiledRule
    basis: int
    awake: set[int] = dataclasses.field(default_factory=set)
    evaluate: Evaluate = dataclasses.field(init=False)
    needs_each: bool = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.evaluate = self.compiled.evaluate
        self.needs_each = self.compiled.needs_each

    @property
    def identifier(self) -> str:
        """The rule's UUID."""
        return self.stored.identifier


class RuleIndex:
    """The rules in use. `find_sensor` returns what is known of a sensor's number, or None.

    `alone`: no other process stores what rules look at, so that what is idle can be remembered.
    """

    def __init__(self, find_sensor: Callable[[int], Any], *, alone: bool) -> None:
        self._find_sensor = find_sensor
        self.alone = alone
        # Whether all sensors are known for which a rule is not idle.
        self.knows_awake = False
        self._stored: list[StoredRule] = []
        self.rules: dict[str, IndexedRule] = {}
        # By network those of all its sensors; by network and name; by network and tag.
        self._of_all: dict[str, list[IndexedRule]] = {}
        self._named: dict[tuple[str, str], list[IndexedRule]] = {}
        self._tagged: dict[tuple[str, str], list[IndexedRule]] = {}
        self._kinds: frozenset[Kind] = frozenset()
        self._found: dict[Kind, dict[int, tuple[IndexedRule, ...]]] = {}

    def replace(self, stored: Iterable[StoredRule]) -> None:
        """Take these for the rules in use; what is known goes on where they are the same."""
        stored = list(stored)
        if stored == self._stored:
            return
        former, self.rules, self._stored = self.rules, {}, stored
        self.doubt()
        for rule in stored:
            known = former.get(rule.identifier)
            if known is None or known.stored != rule:
                known = _indexed(rule, set() if known is None else known.awake)
            if known is not None:
                self.rules[rule.identifier] = known
        self._of_all, self._named, self._tagged = {}, {}, {}
        for indexed in self.rules.values():
            match, network = indexed.compiled.rule.match, indexed.stored.network_identifier
            if not match.sensors and not match.tags:
                self._of_all.setdefault(network, []).append(indexed)
            for name in match.sensors:
                self._named.setdefault((network, name), []).append(indexed)
            for tag in match.tags:
                self._tagged.setdefault((network, tag), []).append(indexed)
        self._kinds = frozenset(
            kind for each in self.rules.values() for kind in each.compiled.rule.kinds
        )
        self.forget_sensors()

    def has(self, kind: Kind) -> bool:
        """Return whether a rule is about this kind."""
        return kind in self._kinds

    def forget_sensors(self) -> None:
        """Look up anew what falls upon which sensor: it may have other names, or have moved."""
        self._found = {kind: {} for kind in self._kinds}

    def of(self, kind: Kind, number: int) -> tuple[IndexedRule, ...]:
        """Return the rules that fall upon messages of a sensor."""
        if kind not in self._found:
            return ()
        found = self._found[kind].get(number)
        return self._look_up(kind, number) if found is None else found

    def falls_upon(self, rule: IndexedRule, number: int) -> bool:
        """Return whether a rule falls upon a sensor."""
        return rule in self.of(rule.compiled.rule.kinds[0], number)

    def doubt(self) -> None:
        """Take all rules for not idle, until `know` says which are."""
        self.knows_awake = False

    def know(self, awake: Iterable[tuple[str, int]]) -> None:
        """Learn which rules are not idle upon which sensors in the database, or have rows waiting.

        What was observed since is known here already, whether it is stored yet or not.
        """
        self.wake(awake)
        self.knows_awake = self.alone

    def wake(self, awake: Iterable[tuple[str, int]]) -> None:
        """Take note that rules are not idle upon sensors."""
        if not self.alone:
            return
        for name, number in awake:
            rule = self.rules.get(name)
            if rule is not None and not rule.needs_each:
                rule.awake.add(number)

    def committed(self, batch: Batch, written: Written, following: Batch | None) -> None:
        """Take note of what became of a batch: what was stored and not observed met an idle rule.

        `following` is the batch that was made since then.
        """
        if written.observed is None:
            return
        kept = written.observed
        if following is not None:
            kept = kept | {(row[0], row[1]) for row in following.observations}
        for name, number, _, _, row_id, *_ in batch.observations:
            # A repeat is not observed, whatever the state is.
            if (name, number) not in kept and row_id not in written.duplicates:
                rule = self.rules.get(name)
                if rule is not None:
                    rule.awake.discard(number)

    def observe(self, batch: Batch) -> list[ObservationRow]:
        """Return what rules have to look at of a batch."""
        passed: list[_Passed] = []
        awake: set[int] = set()
        tables: tuple[tuple[Kind, Sequence[Any]], ...] = (
            (Kind.MEASUREMENT, batch.measurements),
            (Kind.LOG, batch.logs),
            (Kind.HEARTBEAT, batch.heartbeats),
            (Kind.PACKET, batch.packets),
        )
        for kind, rows in tables:
            if kind not in self._kinds or not rows:
                continue
            found, first_id = self._found[kind], 0
            for row in rows:
                number = row[SENSOR]
                rules = found.get(number)
                if rules is None:
                    if number is None:
                        continue  # a packet of no sensor
                    rules = self._look_up(kind, number)
                if rules:
                    first_id = first_id or min(row[ID] for row in rows)
                    value = value_of(kind, row)
                    passed.append((kind, row, value, rules, first_id))
                    if self.alone and self._wakes(rules, row, value):
                        awake.add(number)
        if not self.alone:
            return _looked(passed, remembers=False)
        return _looked([each for each in passed if each[1][SENSOR] in awake]) if awake else []

    def _wakes(self, rules: Sequence[IndexedRule], row: Sequence[Any], value: Any) -> bool:
        """Return whether one of the rules has to look at the sensor's rows in this batch."""
        number, timestamp, knows_awake = row[SENSOR], row[TIMESTAMP], self.knows_awake
        wakes = False
        for rule in rules:
            if rule.needs_each or number in rule.awake:
                wakes = True
            elif not knows_awake or rule.evaluate(value, timestamp, _NOTHING) is Verdict.HOLDS:
                rule.awake.add(number)
                wakes = True
        return wakes

    def _look_up(self, kind: Kind, number: int) -> tuple[IndexedRule, ...]:
        sensor: NamedSensor | None = self._find_sensor(number)
        if sensor is None or not sensor.is_active:
            return ()
        network = sensor.network_identifier
        # Each once, however many ways lead to it.
        rules = {each.identifier: each for each in self._of_all.get(network, ())}
        for name in sensor.names:
            rules.update((each.identifier, each) for each in self._named.get((network, name), ()))
        for tag in sensor.tags:
            rules.update((each.identifier, each) for each in self._tagged.get((network, tag), ()))
        known = self._found[kind]
        if len(known) >= REMEMBERED:
            known.clear()
        fitting = tuple(each for each in rules.values() if kind in each.compiled.rule.kinds)
        known[number] = fitting
        return fitting


# Kind, row, decoded value, the rules that fall upon it, and the least id of its kind in the batch.
_Passed: TypeAlias = tuple[Kind, Sequence[Any], Any, Sequence[IndexedRule], int]


def _looked(passed: Sequence[_Passed], *, remembers: bool = True) -> list[ObservationRow]:
    """Return what rules have to look at of rows; unless it is remembered, whether idle or not."""
    by_pair: dict[tuple[str, int], list[Any]] = {}
    for kind, row, value, rules, first_id in passed:
        number, timestamp = row[SENSOR], row[TIMESTAMP]
        for rule in rules:
            if remembers and not rule.needs_each and number not in rule.awake:
                continue
            compiled = rule.compiled
            verdict = None if compiled.changing else rule.evaluate(value, timestamp, _NOTHING)
            if compiled.by_clock and verdict is not Verdict.CLEARS:
                continue  # not what is waited for
            seen = by_pair.setdefault((rule.identifier, number), [])
            must = rule.needs_each or verdict is Verdict.HOLDS
            text = "null"
            if not compiled.by_clock and must:
                text = row[7] if kind is Kind.MEASUREMENT else msgspec.json.encode(value).decode()
            frame = rule.identifier, number, timestamp, row[FINGERPRINT], row[ID]
            rest = row[RECEIPT_TIMESTAMP], kind.value, verdict, text, first_id, must
            each = *frame, *rest
            if compiled.by_clock and seen and seen[-1][_KIND] == kind.value:
                seen[-1] = max(seen[-1], each, key=_arrival)  # what came before says no more
            else:
                seen.append(each)
    made: list[ObservationRow] = []
    for seen in by_pair.values():
        must = any(each[-1] for each in seen)
        made += [(*each[:-1], must) for each in seen]
    return made


def _arrival(each: Sequence[Any]) -> tuple[int, int]:
    return each[RECEIPT_TIMESTAMP + 1], each[FINGERPRINT]


def _indexed(stored: StoredRule, awake: set[int]) -> IndexedRule | None:
    """Return the rule as it runs; None: it can't."""
    document = msgspec.json.decode(stored.definition)
    try:
        compiled = CompiledRule(parse(document))
    except (InvalidMemberError, CelError) as error:
        log.error("rule not runnable", rule=stored.identifier, name=stored.name, reason=str(error))  # noqa: TRY400 - a fault of the rule
        return None
    alerts = {"alerts": compiled.alert is not None}
    basis = canonical({name: document.get(name) for name in _BASIS} | alerts)
    digest = hashlib.blake2b(basis, digest_size=8).digest()
    return IndexedRule(stored, compiled, int.from_bytes(digest) >> 1, awake)
