"""Measurement messages, in general: the quick way and a patient reader agree on everything."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.errors import RejectionReason
from heliograph.ingest import decode as decoding
from heliograph.ingest.decode import decode_measurements
from heliograph.model.identifiers import INGEST_ID_STEP
from unit.ingest.payloads import (
    FIRST_ID,
    NOW,
    SENSOR,
    UNTIMED,
    batches,
    good_members,
    naive_measurements,
    payload_of,
    randoms,
    values,
)

pytestmark = pytest.mark.uncovered

ARGUMENTS = (SENSOR, FIRST_ID, NOW, UNTIMED)


def summary(decoded):
    """Rows and faults as the patient reader gives them."""
    identities = dict(decoded.identities)
    indexes = decoded.indexes or range(len(decoded.rows))
    good = []
    assigned = UNTIMED
    for position, (index, row) in enumerate(zip(indexes, decoded.rows, strict=True)):
        identifier, sensor, timestamp, _, receipt, revision, device_timestamp, text, *rest = row
        assert rest == ([identities[position]] if position in identities else [])
        assert (identifier, sensor, receipt) == (FIRST_ID + position * INGEST_ID_STEP, SENSOR, NOW)
        if timestamp == assigned:
            assigned += 1
            timestamp = None
        value = json.loads(text)
        good.append((index, timestamp, device_timestamp, revision, identities.get(position), value))
    assert decoded.untimed == (assigned > UNTIMED)
    bad = {fault.index: fault.reason for fault in decoded.faults}
    assert len(bad) == len(decoded.faults)
    return typed(good), bad


contents = st.tuples(
    st.fixed_dictionaries(
        {}, optional={"revision": st.integers(0, 2), "id": st.sampled_from(["a", "b"])}
    ),
    values | values.map(lambda value: {"value": value}),
)


def told(members, value):
    """What tells a measurement apart, its time aside."""
    if isinstance(value, dict) and value.keys() == {"value"} and type(value["value"]) is not dict:
        value = value["value"]
    return typed([value, members.get("revision"), members.get("id")])


def all_names(decoded):
    return set().union(*map(set, decoded.attributes))


def typed(value):
    """Make 1, 1.0 and True differ, and 0.0 and -0.0."""
    if isinstance(value, list | tuple):
        return [typed(item) for item in value]
    if isinstance(value, dict):
        return {key: typed(member) for key, member in value.items()}
    return type(value).__name__, repr(value)


class TestAgreement:
    @given(batches, randoms, st.booleans())
    @settings(max_examples=3 * settings.default.max_examples)
    def test_patient_reader_agrees(self, batch, random, wrapped):
        message = {"measurements": batch} if wrapped else batch
        payload = payload_of(message, random)
        good, bad = naive_measurements(payload)
        assert summary(decode_measurements(payload, *ARGUMENTS)) == (typed(good), bad)

    @given(st.lists(st.tuples(good_members, values), max_size=5), randoms)
    @settings(max_examples=3 * settings.default.max_examples)
    def test_quick_and_exact_way_give_the_same_rows(self, members, random):
        batch = [{**others, "value": value} for others, value in members]
        payload = payload_of(batch, random)
        quick = decode_measurements(payload, *ARGUMENTS)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decoding, "_decode_typed", lambda *_, **__: None)
            exact = decode_measurements(payload, *ARGUMENTS)
        assert quick.faults == exact.faults == []
        assert quick[:5] == exact[:5]
        assert all_names(quick) == all_names(exact)

    @given(st.dictionaries(st.text("ab.\\", max_size=3), values, max_size=3))
    def test_ordinary_messages_take_the_quick_way(self, value):
        payload = json.dumps({"measurements": [{"value": value}]}).encode()
        if b"\\u" not in payload and b"{}" not in payload and _depth(value) <= 3:
            assert decoding._decode_typed(payload, "measurements", *ARGUMENTS) is not None


class TestShapes:
    @given(good_members, values, randoms)
    def test_three_shapes_give_the_same_rows(self, members, value, random):
        element = {**members, "value": value}
        shapes = [{"measurements": [element]}, [element], element]
        decoded = [decode_measurements(payload_of(s, random), *ARGUMENTS) for s in shapes]
        assert decoded[0][:5] == decoded[1][:5] == decoded[2][:5]
        assert decoded[0].faults == []
        assert len(decoded[0].rows) == 1


class TestIdentity:
    @given(values, randoms)
    def test_value_comes_back_as_it_was(self, value, random):
        payload = payload_of({"value": value}, random)
        row = decode_measurements(payload, *ARGUMENTS).rows[0]
        assert typed(json.loads(row[7])) == typed(value)
        again = decode_measurements(b'{"value":%b}' % row[7].encode(), *ARGUMENTS).rows[0]
        assert again == row

    @given(values, randoms, st.integers(0, 9) | st.none())
    def test_fingerprint_ignores_spelling_and_time(self, value, random, revision):
        element = {"value": value, "revision": revision}
        plain = decode_measurements(payload_of(element), *ARGUMENTS).rows[0]
        element.update(timestamp=1_700_000_000, id=None)
        spelled = decode_measurements(payload_of(element, random), *ARGUMENTS).rows[0]
        assert spelled[3] == plain[3]

    @given(contents, contents)
    def test_fingerprint_tells_contents_apart(self, one, other):
        first, second = (
            decode_measurements(payload_of({**members, "value": value}), *ARGUMENTS).rows[0]
            for members, value in (one, other)
        )
        same = told(*one) == told(*other)
        assert (first[3] == second[3]) == same


class TestDamage:
    @given(batches, randoms, st.data())
    @settings(max_examples=3 * settings.default.max_examples)
    def test_truncated_message_is_one_fault(self, batch, random, data):
        payload = payload_of({"measurements": batch}, random)
        length = data.draw(st.integers(0, len(payload.rstrip()) - 1))
        decoded = decode_measurements(payload[:length], *ARGUMENTS)
        assert decoded.rows == []
        assert [fault.index for fault in decoded.faults] == [None]

    @given(batches, randoms, st.data())
    @settings(max_examples=3 * settings.default.max_examples)
    def test_damaged_message_never_raises(self, batch, random, data):
        payload = bytearray(payload_of(batch, random))
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, len(payload)))
            cut = data.draw(st.integers(0, 3))
            payload[place : place + cut] = data.draw(
                st.binary(max_size=3) | st.sampled_from([b'"', b"\\", b"[", b"}", b":", b"\\u0000"])
            )
        self.check(bytes(payload))

    @given(st.binary(max_size=60))
    def test_garbage_never_raises(self, payload):
        self.check(payload)

    def check(self, payload):
        decoded = decode_measurements(payload, *ARGUMENTS)
        unreadable = [fault for fault in decoded.faults if fault.index is None]
        if unreadable:
            assert decoded.rows == []
            assert len(decoded.faults) == 1
        for row in decoded.rows:
            value = json.loads(row[7], parse_constant=lambda literal: 1 / 0)
            for text in _texts(value):
                assert "\0" not in text
                assert text.encode()[:0] == b""
        for fault in decoded.faults:
            assert isinstance(fault.reason, RejectionReason)
            assert fault.detail.encode()
            assert "\0" not in fault.detail
            assert len(fault.detail) < 400


def _texts(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value:
            yield from _texts(item)
        if isinstance(value, dict):
            yield from _texts(list(value.values()))


def _depth(value):
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0
