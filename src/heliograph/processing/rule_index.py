"""Which rules fall upon which sensors, in memory, and what of a batch they have to look at.

Where there is no rule nothing is asked; where there is none for a sensor, a row costs a look-up in
a dictionary.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import structlog

from heliograph.model.canonical import canonical
from heliograph.model.records import FINGERPRINT, ID, SENSOR, TIMESTAMP, Kind, ObservationRow
from heliograph.processing.cel import CelError
from heliograph.processing.conditions import Verdict, value_of
from heliograph.processing.members import InvalidMemberError
from heliograph.processing.rules import CompiledRule, parse
from heliograph.store.engine import Batch
from heliograph.store.rules import StoredRule

log = structlog.get_logger()

RECEIPT_TIMESTAMP = 4
# Sensors of which it is remembered what falls upon them; more are looked up again.
REMEMBERED = 200_000
# What a state rests on: the others may change, and what has been raised stays so.
_BASIS = ("condition", "kinds", "match", "for", "clear_for", "late")


class NamedSensor(NamedTuple):
    """A sensor as far as rules are concerned."""

    network_identifier: str
    names: Collection[str]


class IndexedRule(NamedTuple):
    """A rule in use. `basis` is a hash of what its states rest on."""

    stored: StoredRule
    compiled: CompiledRule
    basis: int

    @property
    def identifier(self) -> str:
        """The rule's UUID."""
        return self.stored.identifier


class RuleIndex:
    """The rules in use. `find_sensor` returns what is known of a sensor's number, or None."""

    def __init__(self, find_sensor: Callable[[int], Any]) -> None:
        self._find_sensor = find_sensor
        self.rules: dict[str, IndexedRule] = {}
        # By network those of all its sensors; by network and name; by number, for their tags.
        self._of_all: dict[str, list[IndexedRule]] = {}
        self._named: dict[tuple[str, str], list[IndexedRule]] = {}
        self._by_tag: dict[int, list[IndexedRule]] = {}
        self._kinds: frozenset[Kind] = frozenset()
        self._found: dict[Kind, dict[int, tuple[IndexedRule, ...]]] = {}

    def replace(
        self, stored: Iterable[StoredRule], tagged: Mapping[str, Collection[int]] | None = None
    ) -> None:
        """Take these for the rules in use; `tagged`: the sensors that have tags of a rule."""
        former, self.rules = self.rules, {}
        for rule in stored:
            known = former.get(rule.identifier)
            if known is None or known.stored != rule:
                known = _indexed(rule)
            if known is not None:
                self.rules[rule.identifier] = known
        self._of_all, self._named, self._by_tag = {}, {}, {}
        for indexed in self.rules.values():
            match, network = indexed.compiled.rule.match, indexed.stored.network_identifier
            if not match.sensors and not match.tags:
                self._of_all.setdefault(network, []).append(indexed)
            for name in match.sensors:
                self._named.setdefault((network, name), []).append(indexed)
            for number in (tagged or {}).get(indexed.identifier, ()):
                self._by_tag.setdefault(number, []).append(indexed)
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

    def observe(self, batch: Batch) -> list[ObservationRow]:
        """Return what rules have to look at of a batch."""
        made: list[ObservationRow] = []
        tables: tuple[tuple[Kind, Sequence[Any]], ...] = (
            (Kind.MEASUREMENT, batch.measurements),
            (Kind.LOG, batch.logs),
            (Kind.HEARTBEAT, batch.heartbeats),
            (Kind.PACKET, batch.packets),
        )
        for kind, rows in tables:
            if kind not in self._kinds or not rows:
                continue
            found, by_pair = self._found[kind], dict[tuple[str, int], list[Any]]()
            for row in rows:
                number = row[SENSOR]
                rules = found.get(number)
                if rules is None:
                    if number is None:
                        continue  # a packet of no sensor
                    rules = self._look_up(kind, number)
                if rules:
                    _look(kind, row, rules, by_pair)
            if by_pair:
                first_id = min(row[ID] for row in rows)
                for seen in by_pair.values():
                    must = any(each[-1] for each in seen)
                    made += [(*each[:-1], first_id, must) for each in seen]
        return made

    def _look_up(self, kind: Kind, number: int) -> tuple[IndexedRule, ...]:
        sensor: NamedSensor | None = self._find_sensor(number)
        if sensor is None:
            return ()
        network = sensor.network_identifier
        # Each once, however many ways lead to it.
        rules = {each.identifier: each for each in self._of_all.get(network, ())}
        for name in sensor.names:
            rules.update((each.identifier, each) for each in self._named.get((network, name), ()))
        for each in self._by_tag.get(number, ()):
            if each.stored.network_identifier == network:
                rules[each.identifier] = each
        known = self._found[kind]
        if len(known) >= REMEMBERED:
            known.clear()
        fitting = tuple(each for each in rules.values() if kind in each.compiled.rule.kinds)
        known[number] = fitting
        return fitting


def _look(
    kind: Kind,
    row: Sequence[Any],
    rules: Sequence[IndexedRule],
    by_pair: dict[tuple[str, int], list[Any]],
) -> None:
    """Add to each pair of rule and sensor what the rule has to look at of a row."""
    value = value_of(kind, row)
    number, timestamp = row[SENSOR], row[TIMESTAMP]
    for rule in rules:
        compiled = rule.compiled
        verdict = None if compiled.changing else compiled.evaluate(value, timestamp, {})
        if compiled.by_clock and verdict is not Verdict.CLEARS:
            continue  # not what is waited for
        seen = by_pair.setdefault((rule.identifier, number), [])
        must = compiled.needs_each or verdict is Verdict.HOLDS
        text = "null"
        if not compiled.by_clock and must:
            text = row[7] if kind is Kind.MEASUREMENT else msgspec.json.encode(value).decode()
        frame = rule.identifier, number, timestamp, row[FINGERPRINT], row[ID]
        each = *frame, row[RECEIPT_TIMESTAMP], kind.value, verdict, text, must
        if not compiled.by_clock or not seen:
            seen.append(each)
        else:
            seen[0] = max(seen[0], each, key=_arrival)  # what came before says no more


def _arrival(each: Sequence[Any]) -> tuple[int, int]:
    return each[RECEIPT_TIMESTAMP + 1], each[FINGERPRINT]


def _indexed(stored: StoredRule) -> IndexedRule | None:
    """Return the rule as it runs; None: it can't."""
    document = msgspec.json.decode(stored.definition)
    try:
        compiled = CompiledRule(parse(document))
    except (InvalidMemberError, CelError) as error:
        log.error("rule not runnable", rule=stored.identifier, name=stored.name, reason=str(error))  # noqa: TRY400 - a fault of the rule
        return None
    basis = canonical({name: document.get(name) for name in _BASIS})
    digest = hashlib.blake2b(basis, digest_size=8).digest()
    return IndexedRule(stored, compiled, int.from_bytes(digest) >> 1)
