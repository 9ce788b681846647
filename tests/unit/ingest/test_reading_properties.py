"""Readings, in general: the quick way and the exact one agree on everything."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliograph.ingest import decode as decoding
from heliograph.ingest.decode import decode_reading
from heliograph.ingest.strict_json import Rejected
from unit.ingest.payloads import (
    NOW,
    Pairs,
    any_value,
    decode_readings,
    good_members,
    keys,
    payload_of,
    randoms,
    values,
)

pytestmark = pytest.mark.uncovered

MEMBERS = st.sampled_from(["device_id", "timestamp", "revision", "metrics", "id", "temperature"])
metrics = st.dictionaries(keys, values, max_size=3)


@st.composite
def elements(draw):
    """A reading of either shape, more often good than bad."""
    members = Pairs(draw(good_members).items())
    members += draw(st.sampled_from([[], [("device_id", "pump-1")], [("device_id", None)]]))
    if draw(st.booleans()):
        members.append(("metrics", draw(metrics)))
    else:
        members += list(draw(metrics).items())
    match draw(st.integers(0, 8)):
        case 0:
            members.append((draw(keys | MEMBERS), draw(any_value)))
        case 1:
            return draw(any_value)
        case 2 if members:
            members.append(draw(st.sampled_from(members)))
    return members


def result(decode, payload):
    try:
        return decode(payload, NOW)
    except Rejected as rejected:
        return rejected.fault.reason


def summary(decoded):
    good, faults = decoded
    return [
        (index, *(getattr(reading, name) for name in reading.__struct_fields__ if name != "names"),
         set(reading.names))
        for index, reading in good
    ], [(fault.index, fault.reason) for fault in faults]  # fmt: skip


@pytest.fixture(scope="module")
def exactly():
    """The decoders without the quick way."""

    def call(decode, payload):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decoding, "_decode_typed", lambda *_, **__: None)
            patch.setattr(decoding, "read_vouched", lambda *_: None)
            return result(decode, payload)

    return call


@given(batch=st.lists(elements(), max_size=4), random=randoms, wrapped=st.booleans())
@settings(max_examples=3 * settings.default.max_examples)
def test_many_readings(exactly, batch, random, wrapped):
    payload = payload_of({"readings": batch} if wrapped else batch, random)
    quick, exact = result(decode_readings, payload), exactly(decode_readings, payload)
    if isinstance(exact, tuple):
        assert summary(quick) == summary(exact)
    else:
        assert quick == exact


@given(element=elements(), random=randoms)
@settings(max_examples=3 * settings.default.max_examples)
def test_one_reading(exactly, element, random):
    payload = payload_of(element, random)
    assert result(decode_reading, payload) == exactly(decode_reading, payload)


@pytest.mark.parametrize(
    "reading",
    [
        {"temperature": 21.5, "door": "open", "timestamp": 1_700_000_000.5},
        {"device_id": "a-1", "t": 1, "timestamp": "2024-02-29T12:00:00Z", "revision": 3},
        {"device_id": "a-1", "metrics": {"t": 1, "id": [1, 2]}, "timestamp": 1_700_000_000},
        {"metrics": {"a.b": None}, "id": "x", "revision": None, "timestamp": None},
    ],
)
def test_ordinary_readings_take_the_quick_way(reading):
    for member, body in (
        (None, reading),
        ("readings", [reading] * 2),
        ("readings", {"readings": [reading]}),
    ):
        assert decoding._decode_typed(json.dumps(body).encode(), member, 0, 0, NOW, 0) is not None
