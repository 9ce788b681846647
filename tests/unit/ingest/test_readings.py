"""Readings: what is posted to `/ingest`."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.errors import RejectionReason
from heliograph.ingest.decode import (
    decode_batch,
    decode_heartbeats,
    decode_logs,
    decode_measurements,
    decode_reading,
)
from heliograph.ingest.strict_json import Rejected
from unit.ingest.payloads import (
    BAD_TOKENS,
    FIRST_ID,
    NOW,
    SENSOR,
    UNTIMED,
    decode_readings,
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
            assert json.loads(decode(payload).columns[0]) == json.loads(payload)


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
            (b'{"logs": []}', RejectionReason.MISSING_MEMBER),
            (b'{"log_messages": [], "logs": []}', RejectionReason.UNKNOWN_MEMBER),
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

    def test_arrays_of_several_kinds_count_their_elements_for_themselves(self):
        log = {"device_id": "a", "severity": "info", "subject": "s", "timestamp": 1_700_000_000}
        beat = {"device_id": "b", "success": True, "battery": 80, "id": "x"}
        batch = {
            "heartbeats": [{"success": 1}, beat, {}],
            "readings": [{"device_id": "a", "t": 1}],
            "log_messages": [log, {**log, "t": 1}, {**log, "device_id": 7}, 5],
        }
        measured, logged, beaten = decode_batch(json.dumps(batch).encode(), NOW)
        assert [part.name for part in (measured, logged, beaten)] == [
            "readings", "log_messages", "heartbeats",
        ]  # fmt: skip
        ((_, reading),) = measured.readings
        assert (reading.device_id, reading.columns) == ("a", ('{"t":1}',))
        ((index, reading),) = logged.readings
        assert (index, reading.device_id, reading.columns) == (0, "a", ("info", "s", None))
        assert [(fault.index, fault.reason) for fault in logged.faults] == [
            (1, RejectionReason.UNKNOWN_MEMBER),
            (2, RejectionReason.WRONG_TYPE),
            (3, RejectionReason.WRONG_TYPE),
        ]
        (_, named), (index, nameless) = beaten.readings
        assert (named.device_id, named.columns) == ("b", (True, '{"battery":80}', "x"))
        assert (index, nameless.device_id, nameless.columns) == (2, None, (None, None))
        assert [fault.index for fault in beaten.faults] == [0]

    def test_named_log_messages_and_heartbeats_are_those_of_their_sensors_topics(self):
        for name, decode_alone, element in (
            ("log_messages", decode_logs, {"severity": "info", "subject": "s", "id": "x"}),
            ("heartbeats", decode_heartbeats, {"revision": 2, "success": False, "b": {"c": 1}}),
        ):
            (row,) = decode_alone(json.dumps(element).encode(), SENSOR, FIRST_ID, NOW, UNTIMED).rows
            batch = {name: [{"device_id": "a", **element}]}
            ((_, reading),) = decode_batch(json.dumps(batch).encode(), NOW)[0].readings
            assert reading.row(FIRST_ID, SENSOR, NOW, UNTIMED) == row

    @pytest.mark.parametrize(
        ("log", "reason"),
        [
            (b'{"device_id": "\\ud800"}', RejectionReason.LONE_SURROGATE),
            (b'{"device_id": "\\u0000"}', RejectionReason.NUL_IN_TEXT),
            (b'{"device_id": "a", "device_id": "b"}', RejectionReason.DUPLICATE_KEY),
            (b'{"device_id": NaN}', RejectionReason.NOT_A_NUMBER),
        ],
    )
    def test_a_name_that_is_no_text_is_rejected(self, log, reason):
        (part,) = decode_batch(b'{"heartbeats": [%b]}' % log, NOW)
        assert [fault.reason for fault in part.faults] == [reason]

    def test_all_arrays_together_have_as_many_elements_as_one_may(self):
        batch = {"heartbeats": [{}] * 6_000, "log_messages": [{}] * 4_001}
        with pytest.raises(Rejected, match="10001 elements are more than 10000"):
            decode_batch(json.dumps(batch).encode(), NOW)

    def test_a_log_message_too_large_for_a_message_is_rejected(self):
        logs = [{"severity": "info", "subject": "s", "details": "x" * n} for n in (10, 1 << 20)]
        (part,) = decode_batch(json.dumps({"log_messages": logs}).encode(), NOW)
        assert [index for index, _ in part.readings] == [0]
        assert [(fault.index, fault.reason) for fault in part.faults] == [
            (1, RejectionReason.TOO_LARGE)
        ]
