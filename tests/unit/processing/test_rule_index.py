"""Which rules fall upon which sensors, and what of a batch they look at."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from heliograph.model.records import Kind
from heliograph.processing.conditions import Verdict
from heliograph.processing.rule_index import NamedSensor, RuleIndex
from heliograph.processing.rules import document_of, parse
from heliograph.processing.state import Observation, RuleState, Tick, advance
from heliograph.store.engine import Batch, Written
from heliograph.store.rules import StoredRule
from rows import NOON, heartbeat, measurement

HOT = {"attribute": "t", "above": 30}
UUID = "00000000-0000-0000-0000-00000000000{}"
SENSORS = {
    n: NamedSensor("a" if n < 3 else "b", (UUID.format(n), f"d-{n}"), tags=tags)
    for n, tags in enumerate(((), ("y", "x"), ("x",), ()), 1)
}


def stored(name, network="a", condition=None, **members):
    document = document_of(parse({"name": name, "condition": condition or HOT, **members}))
    text = msgspec.json.encode(document).decode()
    return StoredRule(name, network, name, True, text, 1, 1)


def index_of(*rules, alone=True):
    index = RuleIndex(SENSORS.get, alone=alone)
    index.replace(rules)
    return index


def seen(index, *rows):
    """Return rule, sensor and verdict of what is looked at of a batch."""
    batch = Batch(measurements=list(rows))
    batch.observations = index.observe(batch)
    return batch, [(row[0], row[1], row[7]) for row in batch.observations]


def test_rules_fall_upon_their_networks_sensors_by_name_tag_or_all():
    index = index_of(
        stored("all"),
        stored("named", match={"sensors": ["d-2", UUID.format(3)]}),
        stored("tagged", match={"sensors": ["d-1"], "tags": ["x"]}),
        stored("roof", match={"tags": ["y"]}),
        stored("other", "b", kinds=["log"]),
    )
    found = {n: [each.identifier for each in index.of(Kind.MEASUREMENT, n)] for n in range(1, 6)}
    # What a rule names of another network is not its own.
    of_second = ["all", "named", "roof", "tagged"]
    assert found == {1: ["all", "tagged"], 2: of_second, 3: [], 4: [], 5: []}
    assert [each.identifier for each in index.of(Kind.LOG, 3)] == ["other"]


def test_of_a_batch_only_rows_with_rules_are_looked_at():
    index = index_of(stored("hot"), stored("quiet", "b", {"no_data": 60}))
    rows = [measurement(1, NOON, {"t": 31}), measurement(1, NOON + 1, {"t": 20})]
    rows += [measurement(2, NOON, {"t": 20}), measurement(3, NOON)]
    rows += [measurement(3, NOON + 1, receipt=NOON + 1)]
    found = index.observe(Batch(measurements=rows))
    # Of silence the newest says all; what holds has all of its sensor's rows looked at.
    looked = [
        ("hot", 1, 0, "holds", True),
        ("hot", 1, 1, "clears", True),
        ("hot", 2, 0, "clears", False),
        ("quiet", 3, 1, "clears", True),
    ]
    assert [(row[0], row[1], row[2] - NOON, row[7], row[-1]) for row in found] == looked
    assert {row[-2] for row in found} == {rows[0][0]}
    # Once it is known that no rule is awake, what holds nothing is not looked at.
    fresh = index_of(*(each.stored for each in index.rules.values()))
    fresh.know([])
    found = fresh.observe(Batch(measurements=rows))
    assert [(row[0], row[1], row[2] - NOON, row[7], row[-1]) for row in found] == [
        *looked[:2],
        looked[3],
    ]


def test_a_sensor_is_awake_until_the_database_says_that_its_state_is_idle():
    index = index_of(stored("hot"))
    index.know([("hot", 2), ("gone", 1)])
    calm, hot = {"t": 20}, {"t": 31}
    assert seen(index, measurement(1, NOON, calm))[1] == []
    batch, found = seen(index, measurement(2, NOON, calm))
    assert found == [("hot", 2, "clears")]
    # Whether it is known or not: a repeat is not observed.
    index.committed(batch, Written(duplicates={batch.observations[0][4]: 1}, observed=set()), None)
    index.committed(batch, Written(observed={("hot", 2)}), None)
    index.committed(batch, Written(), None)
    assert seen(index, measurement(2, NOON + 1, calm))[1] == [("hot", 2, "clears")]
    # The next batch was made meanwhile, and has rows of the sensor.
    following, found = seen(index, measurement(2, NOON + 1, hot))
    index.committed(batch, Written(observed=set()), following)
    assert seen(index, measurement(2, NOON + 2, calm))[1] == [("hot", 2, "clears")]
    index.committed(batch, Written(observed=set()), None)
    assert seen(index, measurement(2, NOON + 3, calm))[1] == []
    # It was something else that has changed: what is known goes on.
    index.replace([each.stored for each in index.rules.values()])
    assert seen(index, measurement(2, NOON + 4, calm))[1] == []
    # Another rule is there, or the database was put back: nothing is known.
    index.replace([*(each.stored for each in index.rules.values()), stored("other", "b")])
    assert seen(index, measurement(2, NOON + 5, calm))[1] == [("hot", 2, "clears")]


class Model:
    """What the database and the processor do with observations."""

    def __init__(self, index):
        self.index = index
        self.stored, self.waiting, self.states = {}, {}, {}

    def store(self, batch):
        """Store the rows of a batch; return ids of repeats."""
        rows = (*batch.measurements, *batch.heartbeats)
        for row in rows:
            self.stored.setdefault(row[1:4], row[0])
        return {row[0]: 0 for row in rows if self.stored[row[1:4]] != row[0]}

    def kept(self, batch):
        """Return what of a batch is stored as an observation, like `observations_store`."""
        kept = {}
        for row in batch.observations:
            pair, key, must = row[:2], row[2:4], row[-1]
            earlier = [
                at for (of, at, _), one in self.stored.items() if of == row[1] and one < row[-2]
            ]
            is_awake = pair in self.waiting or not self.states.get(pair, RuleState()).is_idle
            if self.stored[row[1], *key] == row[4] and (must or is_awake):
                newest = max(earlier, default=-(1 << 62))
                one = Observation(*key, row[5], None, Verdict(row[7]), newest)
                kept.setdefault(pair, {})[key] = one
        return kept

    def commit(self, batch):
        """Store a batch; return what became of it."""
        repeats, kept = self.store(batch), self.kept(batch)
        for pair, found in kept.items():
            self.waiting.setdefault(pair, {}).update(found)
        return Written(repeats, set(), set(kept))

    def turn(self, moment):
        """Move the states by what waits, and by the clock."""
        for pair in [*self.states, *self.waiting]:
            rule, state = self.index.rules[pair[0]].compiled, self.states.get(pair, RuleState())
            found = self.waiting.pop(pair, {})
            for _, event in sorted(found.items()):
                state, _ = advance(rule, state, event)
            self.states[pair] = advance(rule, state, Tick(moment))[0] if not found else state
        self.index.wake(self.awake())

    def awake(self):
        return [*self.waiting, *(pair for pair, one in self.states.items() if not one.is_idle)]


AWAKE_RULES = [
    stored("hot", condition={"attribute": "t", "above": 30, "clear_below": 20}),
    stored("slow", condition=HOT, **{"for": 2, "clear_for": 3}),
    stored("late", condition=HOT, late=True, kinds=["measurement", "heartbeat"]),
]


@given(st.randoms(use_true_random=False))
def test_what_is_left_out_would_not_have_been_stored(chance):
    index, whole = index_of(*AWAKE_RULES), index_of(*AWAKE_RULES, alone=False)
    model, made, sent, moment = Model(index), [], [], NOON
    for _ in range(chance.randint(1, 60)):
        moment += chance.choice([0, 0, 1_000_000])
        step = chance.choice(
            ["make", "make", "make", "commit", "commit", "turn", "turn", "know", "doubt"]
        )
        if step == "make" and len(made) < 2:
            rows = chance.sample(sent, min(len(sent), chance.choice([0, 0, 1])))
            for _ in range(chance.randint(1, 3)):
                of, at = chance.randint(1, 2), moment - chance.choice([0, 0, 3_000_000])
                if chance.random() < 0.2:
                    row = heartbeat(of, at, fingerprint=chance.randint(1, 3))
                    row = (*row[:8], msgspec.json.encode({"t": chance.choice([10, 40])}).decode())
                else:
                    row = measurement(of, at, {"t": chance.choice([10, 10, 25, 40])}, receipt=at)
                rows.append(row)
            sent += rows
            # A repeat has an id of its own.
            rows = [(measurement(1)[0], *row[1:]) for row in rows]
            batch = Batch(
                measurements=[row for row in rows if isinstance(row[7], str)],
                heartbeats=[row for row in rows if not isinstance(row[7], str)],
            )
            batch.sort()
            batch.observations = index.observe(batch)
            made.append(batch)
        elif step == "commit" and made:
            batch = made.pop(0)
            if chance.random() < 0.1:
                continue  # it was given up
            if chance.random() < 0.2:
                model.commit(batch)  # nobody heard of it
                if chance.random() < 0.5:
                    model.turn(moment)
            every = Batch(measurements=batch.measurements, heartbeats=batch.heartbeats)
            every.observations = whole.observe(every)
            model.store(batch)
            assert model.kept(batch) == model.kept(every)
            index.committed(batch, model.commit(batch), made[0] if made else None)
        elif step == "turn":
            model.turn(moment)
        elif step == "know":
            index.know(model.awake())
        elif step == "doubt":
            index.doubt()


def test_a_rule_that_cannot_run_keeps_no_other_from_running():
    broken = msgspec.structs.replace(stored("broken"), definition='{"name": "x"}')
    assert list(index_of(broken, stored("hot")).rules) == ["hot"]
