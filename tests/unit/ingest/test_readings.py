"""Readings: what is posted to `/ingest`."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.errors import RejectionReason
from heliograph.ingest.decode import decode_measurements, decode_reading, decode_readings
from heliograph.ingest.strict_json import Rejected
from unit.ingest.payloads import (
    BAD_TOKENS,
    FIRST_ID,
    NOW,
    SENSOR,
    UNTIMED,
    keys,
    payload_of,
    randoms,
    values,
)

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

OWN = {"device_id", "timestamp", "revision", "id", "metrics", "value", "measurements"}
metrics = st.dictionaries(
    keys.filter(lambda key: key not in OWN), values, min_size=1, max_size=4
).filter(lambda members: any(type(each) in {int, float, bool, str} for each in members.values()))


def decode(payload):
    if not isinstance(payload, bytes):
        payload = json.dumps(payload).encode()
    return decode_reading(payload, NOW)


def reason_of(payload):
    with pytest.raises(Rejected) as caught:
        decode(payload)
    assert caught.value.fault.index is None
    return caught.value.fault.reason


class TestReading:
    def test_flat_reading(self):
        reading = decode({"temperature": 22.5, "id": 7, "timestamp": 1_700_000_000, "revision": 2})
        assert reading.columns[0] == '{"id":7,"temperature":22.5}'
        assert reading.device_id is None
        assert reading.identity is None
        assert (reading.timestamp, reading.revision) == (1_700_000_000_000_000, 2)
        assert set(reading.names) == {"id", "temperature"}

    def test_wrapped_reading(self):
        reading = decode(
            {
                "device_id": "greenhouse-1",
                "metrics": {"temperature": {"air": 22.5}, "revision": None},
                "timestamp": "1970-01-01T00:00:05Z",
                "id": "x",
            }
        )
        assert reading.device_id == "greenhouse-1"
        assert reading.columns[0] == '{"revision":null,"temperature":{"air":22.5}}'
        assert set(reading.names) == {"temperature.air", "revision"}
        assert (reading.timestamp, reading.device_timestamp) == (None, 5.0)
        assert reading.identity == "x"

    @given(metrics, st.none() | st.just("a-1"), st.none() | st.integers(0, 5), randoms)
    def test_both_shapes_are_the_measurement_of_their_metrics(
        self, members, device, revision, random
    ):
        flat = {**members, "device_id": device, "revision": revision}
        wrapped = {"metrics": members, "device_id": device, "revision": revision}
        first, second = (decode(payload_of(shape, random)) for shape in (flat, wrapped))
        assert first == second
        assert json.loads(first.columns[0]) == members
        row = first.row(FIRST_ID, SENSOR, NOW, UNTIMED)
        measurement = payload_of({"value": members, "revision": revision}, random)
        assert [row] == decode_measurements(measurement, SENSOR, FIRST_ID, NOW, UNTIMED).rows

    def test_row_has_the_time_of_its_device(self):
        reading = decode({"a": 1, "timestamp": 1_700_000_000})
        row = reading.row(FIRST_ID, SENSOR, NOW, UNTIMED)
        assert (row[2], row[4]) == (1_700_000_000_000_000, NOW)

    @pytest.mark.parametrize(
        ("reading", "reason"),
        [
            ({}, RejectionReason.MISSING_MEMBER),
            ({"device_id": "a", "timestamp": 5, "revision": 1}, RejectionReason.MISSING_MEMBER),
            ({"metrics": {}}, RejectionReason.MISSING_MEMBER),
            ({"metrics": None}, RejectionReason.WRONG_TYPE),
            ({"metrics": [1]}, RejectionReason.WRONG_TYPE),
            ({"metrics": {"a": 1}, "b": 1}, RejectionReason.UNKNOWN_MEMBER),
            ({"a": 1, "device_id": 5}, RejectionReason.WRONG_TYPE),
            ({"a": 1, "revision": "5"}, RejectionReason.WRONG_TYPE),
            ({"a": 1, "timestamp": "x"}, RejectionReason.INVALID_TIMESTAMP),
            ({"a": 1, "timestamp": 2e9}, RejectionReason.TIMESTAMP_IN_FUTURE),
            ({"metrics": {"a": 1}, "id": 5}, RejectionReason.WRONG_TYPE),
            (5, RejectionReason.WRONG_TYPE),
            ([{"a": 1}], RejectionReason.WRONG_TYPE),
            ({str(n): n for n in range(1025)}, RejectionReason.TOO_MANY_ATTRIBUTES),
            (b"", RejectionReason.MALFORMED_JSON),
            (b'{"a": 1', RejectionReason.MALFORMED_JSON),
            (b'{"a": 1, "a": 2}', RejectionReason.DUPLICATE_KEY),
            (b'{"a": "\xff"}', RejectionReason.INVALID_UTF8),
            (b'{"a": 1}'.ljust(1024 * 1024 + 1), RejectionReason.TOO_LARGE),
        ],
    )
    def test_bad_reading_is_rejected(self, reading, reason):
        assert reason_of(reading) == reason

    def test_detail_of_an_empty_reading_speaks_of_metrics(self):
        with pytest.raises(Rejected, match="metric"):
            decode({})

    @pytest.mark.parametrize("token", BAD_TOKENS)
    def test_bad_metric_is_rejected(self, token):
        assert reason_of(f'{{"a":{token}}}'.encode()) == BAD_TOKENS[token]
        assert reason_of(f'{{"metrics":{{"a":{token}}}}}'.encode()) == BAD_TOKENS[token]

    def test_metrics_may_be_32_levels_deep_in_either_shape(self):
        deep = "[" * 31 + "]" * 31
        for shape in ('{"b":1,"a":%s}', '{"metrics":{"b":1,"a":%s}}'):
            assert decode(shape.replace("%s", deep).encode()).names == {"a", "b"}
            too_deep = shape.replace("%s", f"[{deep}]").encode()
            assert reason_of(too_deep) == RejectionReason.NESTED_TOO_DEEPLY

    @given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda end: b'{"a":' + end))
    def test_garbage_is_rejected(self, payload):
        with contextlib.suppress(Rejected):
            assert json.loads(decode(payload).text) == json.loads(payload)


class TestReadings:
    def test_good_readings_and_bad_ones(self):
        batch = [{"a": 1}, {}, {"metrics": {"a": 2}}, {"a": 1, "timestamp": "x"}]
        for shape in (batch, {"readings": batch}):
            readings, faults = decode_readings(json.dumps(shape).encode(), NOW)
            assert [(index, reading.columns[0]) for index, reading in readings] == [
                (0, '{"a":1}'),
                (2, '{"a":2}'),
            ]
            assert [(fault.index, fault.reason) for fault in faults] == [
                (1, RejectionReason.MISSING_MEMBER),
                (3, RejectionReason.INVALID_TIMESTAMP),
            ]

    def test_one_bad_text_spoils_one_reading(self):
        readings, faults = decode_readings(b'[{"a":1},{"a":NaN},{"a":"\\ud800"},{"a":2}]', NOW)
        assert [index for index, _ in readings] == [0, 3]
        assert [fault.reason for fault in faults] == [
            RejectionReason.NOT_A_NUMBER,
            RejectionReason.LONE_SURROGATE,
        ]

    @pytest.mark.parametrize("payload", [b"[]", b'{"readings": []}'])
    def test_empty_batch(self, payload):
        assert decode_readings(payload, NOW) == ([], [])

    @pytest.mark.parametrize(
        ("payload", "reason"),
        [
            (b"", RejectionReason.MALFORMED_JSON),
            (b"5", RejectionReason.WRONG_TYPE),
            (b'{"a": 1}', RejectionReason.MISSING_MEMBER),
            (b'{"readings": {"a": 1}}', RejectionReason.WRONG_TYPE),
            (b'{"readings": [], "a": 1}', RejectionReason.UNKNOWN_MEMBER),
            (b'[{"a":1}]x', RejectionReason.MALFORMED_JSON),
            (b"[" + b"1," * 10_000 + b"1]", RejectionReason.TOO_LARGE),
            (b"[]".ljust(8 * 1024 * 1024 + 1), RejectionReason.TOO_LARGE),
        ],
    )
    def test_unreadable_body_is_rejected(self, payload, reason):
        with pytest.raises(Rejected) as caught:
            decode_readings(payload, NOW)
        assert (caught.value.fault.index, caught.value.fault.reason) == (None, reason)

    def test_batch_may_have_10000_readings_and_8_mebibytes(self):
        payload = (b"[" + b'{"a":1},' * 9_999 + b'{"a":1}]').ljust(8 * 1024 * 1024)
        assert len(decode_readings(payload, NOW)[0]) == 10_000
