"""Which rules fall upon which sensors, and what of a batch they look at."""

import msgspec

from heliograph.model.records import Kind
from heliograph.processing.rule_index import NamedSensor, RuleIndex
from heliograph.processing.rules import document_of, parse
from heliograph.store.engine import Batch
from heliograph.store.rules import StoredRule
from rows import NOON, measurement

HOT = {"attribute": "t", "above": 30}
UUID = "00000000-0000-0000-0000-00000000000{}"
SENSORS = {n: NamedSensor("a" if n < 3 else "b", (UUID.format(n), f"d-{n}")) for n in range(1, 5)}


def stored(name, network="a", condition=None, **members):
    document = document_of(parse({"name": name, "condition": condition or HOT, **members}))
    text = msgspec.json.encode(document).decode()
    return StoredRule(name, network, name, True, text, 1, 1)


def index_of(*rules, tagged=None):
    index = RuleIndex(SENSORS.get)
    index.replace(rules, tagged)
    return index


def test_rules_fall_upon_their_networks_sensors_by_name_tag_or_all():
    index = index_of(
        stored("all"),
        stored("named", match={"sensors": ["d-2", UUID.format(3)]}),
        stored("tagged", match={"sensors": ["d-1"], "tags": ["x"]}),
        stored("other", "b", kinds=["log"]),
        tagged={"tagged": [1, 2, 3]},
    )
    found = {n: [each.identifier for each in index.of(Kind.MEASUREMENT, n)] for n in range(1, 6)}
    # What a rule names of another network is not its own.
    assert found == {1: ["all", "tagged"], 2: ["all", "named", "tagged"], 3: [], 4: [], 5: []}
    assert [each.identifier for each in index.of(Kind.LOG, 3)] == ["other"]


def test_of_a_batch_only_rows_with_rules_are_looked_at():
    index = index_of(stored("hot"), stored("quiet", "b", {"no_data": 60}))
    rows = [measurement(1, NOON, {"t": 31}), measurement(1, NOON + 1, {"t": 20})]
    rows += [measurement(2, NOON, {"t": 20}), measurement(3, NOON)]
    rows += [measurement(3, NOON + 1, receipt=NOON + 1)]
    seen = index.observe(Batch(measurements=rows))
    # Of silence the newest says all; what holds has all of its sensor's rows looked at.
    assert [(row[0], row[1], row[2] - NOON, row[7], row[-1]) for row in seen] == [
        ("hot", 1, 0, "holds", True),
        ("hot", 1, 1, "clears", True),
        ("hot", 2, 0, "clears", False),
        ("quiet", 3, 1, "clears", True),
    ]
    assert {row[-2] for row in seen} == {rows[0][0]}


def test_a_rule_that_cannot_run_keeps_no_other_from_running():
    broken = msgspec.structs.replace(stored("broken"), definition='{"name": "x"}')
    assert list(index_of(broken, stored("hot")).rules) == ["hot"]
