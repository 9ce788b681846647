"""What is told of stored rows is what devices could have sent."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.ingest.decode import decode_heartbeats, decode_logs, decode_measurements, payload_of
from heliograph.model.event import Committed
from heliograph.model.records import Kind, Severity

pytestmark = pytest.mark.uncovered

NOW = 1_795_000_000_000_000
DECODERS = {
    Kind.MEASUREMENT: decode_measurements,
    Kind.LOG: decode_logs,
    Kind.HEARTBEAT: decode_heartbeats,
}

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
numbers = st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
times = (
    st.none()
    | st.integers(0, NOW // 1_000_000)
    | st.integers(10**15, NOW).map(lambda microseconds: microseconds / 1e6)
)
frames = {
    "revision": st.none() | st.integers(0, (1 << 31) - 1),
    "timestamp": times,
    "id": texts.filter(bool),
}
measurements = st.fixed_dictionaries({"value": values}, optional=frames)
logs = st.fixed_dictionaries(
    {"severity": st.sampled_from([*map(str, Severity)]), "subject": texts},
    optional={"details": st.none() | texts, **frames},
)
others = st.dictionaries(
    texts.filter(lambda name: name not in ("id", "revision", "timestamp")), values, max_size=3
)
heartbeats = st.builds(
    lambda others, known: {**others, **known},
    others,
    st.fixed_dictionaries({}, optional={"success": st.none() | st.booleans(), **frames}),
)
messages = st.one_of(
    st.tuples(st.just(Kind.MEASUREMENT), st.lists(measurements, min_size=1, max_size=4)),
    st.tuples(st.just(Kind.LOG), st.lists(logs, min_size=1, max_size=4)),
    st.tuples(st.just(Kind.HEARTBEAT), st.lists(heartbeats, min_size=1, max_size=4)),
)


@settings(max_examples=3 * settings.default.max_examples)
@given(messages)
def test_the_payload_of_rows_decodes_to_the_same_rows(message):
    kind, elements = message
    payload = json.dumps(elements).encode()
    rows = DECODERS[kind](payload, 1, 512, NOW, NOW).rows
    event = Committed(kind, 1, "uuid", None, "network", rows, None, None)
    decoded = DECODERS[kind](payload_of(event), 1, 512, NOW, NOW)
    assert not decoded.faults
    # All but the number that a device without a clock gave for a time.
    assert [(*row[:6], *row[7:]) for row in decoded.rows] == [(*row[:6], *row[7:]) for row in rows]
    assert not rows or not decoded.untimed
