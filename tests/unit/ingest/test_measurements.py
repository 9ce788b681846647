"""Measurement messages, example by example."""

import json

import pytest

from heliograph.errors import RejectionReason
from heliograph.ingest import strict_json
from heliograph.ingest.decode import decode_measurements, decode_reading
from heliograph.ingest.strict_json import Rejected
from heliograph.model.fingerprints import fingerprint
from heliograph.model.identifiers import INGEST_ID_STEP
from heliograph.model.records import Kind
from heliograph.model.time import DAY, SECOND
from unit.ingest.payloads import BAD_TOKENS, FIRST_ID, NOW, SENSOR, UNTIMED, decode_readings


def decode(payload):
    if not isinstance(payload, bytes):
        payload = json.dumps(payload).encode()
    return decode_measurements(payload, SENSOR, FIRST_ID, NOW, UNTIMED)


def faults_of(payload):
    return [(fault.index, fault.reason) for fault in decode(payload).faults]


def names_of(value):
    decoded = decode({"value": value})
    assert decoded.faults == []
    return set(decoded.attributes[0])


STANDARD = (
    b'{"measurements": [{"revision": 1, "timestamp": 1700000000.001, '
    b'"value": {"temperature": 21.5, "humidity": 0.43, "pressure": 1013.2}}]}'
)


class TestRows:
    def test_row_has_the_columns_of_its_table(self):
        decoded = decode(STANDARD)
        value = {"temperature": 21.5, "humidity": 0.43, "pressure": 1013.2}
        assert decoded.rows == [
            (
                FIRST_ID,
                SENSOR,
                1_700_000_000_001_000,
                fingerprint(Kind.MEASUREMENT, 1, value),
                NOW,
                1,
                None,
                '{"humidity":0.43,"pressure":1013.2,"temperature":21.5}',
            )
        ]
        assert decoded.faults == []
        assert not decoded.untimed
        assert decoded.identities == []
        assert decoded.indexes is None
        assert [set(names) for names in decoded.attributes] == [set(value)]

    def test_row_ids_and_assigned_times_count_accepted_rows_only(self):
        decoded = decode(
            [
                {"value": 1},
                {"value": 2, "timestamp": "yesterday"},
                {"value": 3, "timestamp": 1_700_000_000},
                {"value": 4, "timestamp": 12.5},
            ]
        )
        assert [row[0] for row in decoded.rows] == [
            FIRST_ID, FIRST_ID + INGEST_ID_STEP, FIRST_ID + 2 * INGEST_ID_STEP
        ]  # fmt: skip
        assert [row[2] for row in decoded.rows] == [UNTIMED, 1_700_000_000_000_000, UNTIMED + 1]
        assert [row[6] for row in decoded.rows] == [None, None, 12.5]
        assert decoded.untimed
        assert decoded.indexes == [0, 2, 3]
        assert [fault.index for fault in decoded.faults] == [1]

    def test_identities_name_the_position_among_the_rows(self):
        bad = {"value": 1, "id": 7}
        decoded = decode([bad, {"value": 1}, {"value": 1, "id": "é:1", "timestamp": 1_700_000_000}])
        assert decoded.identities == [(1, "é:1")]
        assert decode([{"value": 1}, {"value": 1, "id": "x"}]).identities == [(1, "x")]

    def test_element_with_an_id_and_no_time_is_untimed(self):
        assert decode({"value": 1, "id": "x"}).untimed

    def test_empty_array_is_neither_row_nor_fault(self):
        for payload in (b"[]", b'{"measurements": []}', b" [ ] "):
            decoded = decode(payload)
            assert (decoded.rows, decoded.faults) == ([], [])


class TestTimestamps:
    @pytest.mark.parametrize(
        ("timestamp", "expected"),
        [
            (1_700_000_000, 1_700_000_000_000_000),
            (1_700_000_000.000001, 1_700_000_000_000_001),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000_000),
            ("2023-11-14t23:13:20.123456789+01:00", 1_700_000_000_123_456),
            (1_000_000_000, 1_000_000_000_000_000),
            ("2001-09-09T01:46:40Z", 1_000_000_000_000_000),
            ("2001-09-09T01:46:39.999999Z", 999_999_999_999_999),
            ("1977-08-20T10:29:00-04:00", 240_935_340_000_000),
            ("1971-01-01T00:00:00Z", 365 * DAY),
            ("1969-12-31T23:59:59.999999Z", -1),
            ("1650-01-01T00:00:00Z", -10_098_172_800_000_000),
            ((NOW + DAY) / SECOND, NOW + DAY),
        ],
    )
    def test_time_is_kept_in_microseconds(self, timestamp, expected):
        decoded = decode({"value": 1, "timestamp": timestamp})
        assert [row[2] for row in decoded.rows] == [expected]
        assert not decoded.untimed

    @pytest.mark.parametrize(
        ("timestamp", "kept"),
        [
            (0, 0.0),
            (12.25, 12.25),
            (-1e300, -1e300),
            (999_999_999.9999999, 999_999_999.9999999),
            ("1970-01-01T00:00:12Z", 12.0),
            ("1970-12-31T23:59:59.999999Z", 31_535_999.999999),
            # Of devices that know no zone but name one.
            ("1970-01-01T00:00:12+02:00", -7_188.0),
            ("1969-12-31T19:00:12-05:00", 12.0),
            ("1970-12-31T23:00:00-05:00", 31_550_400.0),
            (None, None),
        ],
    )
    def test_a_number_before_2001_and_a_time_in_1970_are_absent_and_kept(self, timestamp, kept):
        decoded = decode({"value": 1, "timestamp": timestamp})
        assert [(row[2], row[6]) for row in decoded.rows] == [(UNTIMED, kept)]
        assert decoded.untimed

    @pytest.mark.parametrize(
        ("timestamp", "reason"),
        [
            ((NOW + DAY) // SECOND + 1, RejectionReason.TIMESTAMP_IN_FUTURE),
            ((NOW + DAY + 1) / SECOND, RejectionReason.TIMESTAMP_IN_FUTURE),
            (1_700_000_000_000, RejectionReason.TIMESTAMP_IN_FUTURE),
            (1e300, RejectionReason.TIMESTAMP_IN_FUTURE),
            ("9999-12-31T23:59:59Z", RejectionReason.TIMESTAMP_IN_FUTURE),
            ("1700000000", RejectionReason.INVALID_TIMESTAMP),
            # Zeros of clocks that were never set: Go's and .NET's, Windows'.
            ("0001-01-01T00:00:00Z", RejectionReason.INVALID_TIMESTAMP),
            ("1601-01-01T00:00:00Z", RejectionReason.INVALID_TIMESTAMP),
            ("1649-12-31T23:59:59.999999Z", RejectionReason.INVALID_TIMESTAMP),
            ("2023-11-14T22:13:20", RejectionReason.INVALID_TIMESTAMP),
            ("", RejectionReason.INVALID_TIMESTAMP),
            (True, RejectionReason.WRONG_TYPE),
            ([1], RejectionReason.WRONG_TYPE),
            ({}, RejectionReason.WRONG_TYPE),
        ],
    )
    def test_other_times_are_rejected(self, timestamp, reason):
        assert faults_of({"value": 1, "timestamp": timestamp}) == [(0, reason)]


class TestMembers:
    @pytest.mark.parametrize(
        ("element", "reason"),
        [
            ({}, RejectionReason.MISSING_MEMBER),
            ({"revision": 1}, RejectionReason.MISSING_MEMBER),
            ({"value": 1, "valeu": 1}, RejectionReason.UNKNOWN_MEMBER),
            ({"value": 1, "revision": -1}, RejectionReason.NUMBER_OUT_OF_RANGE),
            ({"value": 1, "revision": 2**31}, RejectionReason.NUMBER_OUT_OF_RANGE),
            ({"value": 1, "revision": 1.0}, RejectionReason.WRONG_TYPE),
            ({"value": 1, "revision": "1"}, RejectionReason.WRONG_TYPE),
            ({"value": 1, "revision": False}, RejectionReason.WRONG_TYPE),
            ({"value": 1, "id": ""}, RejectionReason.WRONG_TYPE),
            ({"value": 1, "id": "x" * 65}, RejectionReason.WRONG_TYPE),
            ({"value": 1, "id": 5}, RejectionReason.WRONG_TYPE),
            (5, RejectionReason.WRONG_TYPE),
            (None, RejectionReason.WRONG_TYPE),
            ([{"value": 1}], RejectionReason.WRONG_TYPE),
            ("value", RejectionReason.WRONG_TYPE),
        ],
    )
    def test_bad_element_is_rejected_between_good_ones(self, element, reason):
        decoded = decode([{"value": 1}, element, {"value": 3}])
        assert [(fault.index, fault.reason) for fault in decoded.faults] == [(1, reason)]
        assert [row[-1] for row in decoded.rows] == ["1", "3"]
        assert decoded.indexes == [0, 2]

    @pytest.mark.parametrize("name", ["timestamp", "revision", "id"])
    def test_null_is_as_good_as_absent(self, name):
        assert decode({"value": 1, name: None}).rows == decode({"value": 1}).rows

    def test_detail_names_the_member(self):
        assert "valeu" in decode({"value": 1, "valeu": 1}).faults[0].detail
        assert "value.a[1]" in decode(b'{"value":{"a":[1,NaN]}}').faults[0].detail

    def test_id_of_64_characters_and_revision_of_31_bits_are_fine(self):
        decoded = decode({"value": 1, "id": "é" * 64, "revision": 2**31 - 1})
        assert decoded.faults == []
        assert decoded.rows[0][5] == 2**31 - 1


class TestShapes:
    @pytest.mark.parametrize(
        ("element", "value"),
        [
            ({"value": {"temperature": 21.5}}, {"temperature": 21.5}),
            ({"metrics": {"temperature": 21.5}}, {"temperature": 21.5}),
            ({"temperature": 21.5, "door": {"open": False}, "l": [1]}, None),
            ({"door": True, "none": None}, None),
            ({"state": "open"}, None),
            ({"id": 7, "t": 1}, None),
            ({"id": 7}, None),
            ({"id": "a", "t": 1}, {"t": 1}),
            ({"id": None, "t": 1}, {"t": 1}),
            ({"device_id": "pump", "revision": 3, "timestamp": 1_700_000_000, "t": 1}, {"t": 1}),
            ({"value": {"value": 1, "metrics": 2}}, {"value": 1, "metrics": 2}),
        ],
    )
    def test_what_was_measured_is_the_same_on_every_way_in(self, element, value):
        payload = json.dumps(element).encode()
        (row,) = decode(payload).rows
        assert json.loads(row[7]) == (element if value is None else value)
        reading = decode_reading(payload, NOW)
        ((_, batched),), _ = decode_readings(json.dumps([element]).encode(), NOW)
        assert reading == batched
        assert reading.row(FIRST_ID, SENSOR, NOW, UNTIMED) == row

    @pytest.mark.parametrize(
        ("element", "reason", "detail"),
        [
            ({"measurments": [{"value": 1}]}, "UNKNOWN_MEMBER", "did you mean `measurements`"),
            ({"vlaue": {"t": 1}}, "UNKNOWN_MEMBER", "did you mean `value`"),
            ({"metric": {"t": 1}}, "UNKNOWN_MEMBER", "did you mean `metrics`"),
            ({"value": 1, "tiestamp": 2}, "UNKNOWN_MEMBER", "did you mean `timestamp`"),
            ({"spectrum": [1, 2], "none": None}, "UNKNOWN_MEMBER", "'spectrum'"),
            ({"value": 1, "temperature": 2}, "UNKNOWN_MEMBER", "'temperature'"),
            ({"metrics": {"t": 1}, "temperature": 2}, "UNKNOWN_MEMBER", "'temperature'"),
            ({"value": 1, "metrics": {"t": 1}}, "UNKNOWN_MEMBER", "'metrics'"),
            ({"metrics": 5}, "WRONG_TYPE", "metrics is not an object"),
            ({"metrics": {}}, "MISSING_MEMBER", "neither a value nor a metric"),
            ({"metrics": {}, "id": "a"}, "MISSING_MEMBER", "neither a value nor a metric"),
            ({"timestamp": 1_700_000_000, "device_id": "a"}, "MISSING_MEMBER", "neither a value"),
            (
                {"revision": None, "creation_timestamp": 1_700_000_000.0, "measurement": 5},
                "UNKNOWN_MEMBER",
                "GET /devices/{device_id}/history",
            ),
            ({"t": 1, "id": "x" * 65}, "WRONG_TYPE", "id is not a text of 1 to 64"),
            ({"t": 1, "device_id": 5}, "WRONG_TYPE", "device_id is not a text"),
        ],
    )
    def test_what_is_no_element_is_rejected_on_every_way_in(self, element, reason, detail):
        (fault,) = decode([element]).faults
        assert (fault.reason.value, detail in fault.detail) == (reason, True), fault.detail
        with pytest.raises(Rejected) as caught:
            decode_reading(json.dumps(element).encode(), NOW)
        assert caught.value.fault.reason == fault.reason
        assert caught.value.fault.detail == fault.detail

    def test_what_was_meant_is_looked_for_a_bounded_number_of_times(self, monkeypatch):
        """Or else a body of 8 MB that nobody understands holds the server up for seconds."""
        compared = []
        monkeypatch.setattr(
            strict_json, "nearest", lambda name, *_: compared.append(name) or ["value"]
        )
        strange = {f"member-{number}": {} for number in range(50)}
        faults = decode([strange] * 1_000 + [{"value": 1, "other": 2}] * 1_000).faults
        assert len(faults) == 2_000
        assert len(compared) == 100
        monkeypatch.setattr(strict_json, "nearest", lambda name, *_: compared.append(name))
        decode([strange])
        assert len(compared) == 108

    def test_scalar_is_told_as_the_value_of_that_name(self):
        for scalar in (5, "a", None, True, [1, {"value": 2}]):
            rows = decode([{"value": scalar}, {"value": {"value": scalar}}]).rows
            assert rows[0][3] == rows[1][3]
            assert [json.loads(row[7]) for row in rows] == [scalar, {"value": scalar}]
        # What is an object has attributes of its own.
        objects = [{"t": 1}, {"value": {"t": 1}}, {"value": {"value": 1}}, {"value": 1, "a": 1}]
        assert len({row[3] for row in decode([{"value": each} for each in objects]).rows}) == 4


class TestEnvelope:
    @pytest.mark.parametrize(
        ("payload", "reason"),
        [
            (b"", RejectionReason.MALFORMED_JSON),
            (b" \n", RejectionReason.MALFORMED_JSON),
            (b"5", RejectionReason.WRONG_TYPE),
            (b"null", RejectionReason.WRONG_TYPE),
            (b'"x"', RejectionReason.WRONG_TYPE),
            (b"NaN", RejectionReason.NOT_A_NUMBER),
            (b'{"measurements": null}', RejectionReason.WRONG_TYPE),
            (b'{"measurements": {"value": 1}}', RejectionReason.WRONG_TYPE),
            (b'{"measurements": Infinity}', RejectionReason.NOT_A_NUMBER),
            (b'{"measurements": [], "x": 1}', RejectionReason.UNKNOWN_MEMBER),
            (b'{"measurements": [], "revision": 1}', RejectionReason.UNKNOWN_MEMBER),
            (b'{"measurements": [], "value": 1}', RejectionReason.UNKNOWN_MEMBER),
            (b'{"measurements": [], "measurements": []}', RejectionReason.DUPLICATE_KEY),
            (b'{"value": 1, "value": 1}', RejectionReason.DUPLICATE_KEY),
            (b'\xef\xbb\xbf{"value": 1}', RejectionReason.MALFORMED_JSON),
            (b'{"value": 1}x', RejectionReason.MALFORMED_JSON),
            (b'{"value": 1} {"value": 2}', RejectionReason.MALFORMED_JSON),
            (b'{"value": 1}\0', RejectionReason.NUL_IN_TEXT),
            (b'{"value": "a\0"}', RejectionReason.NUL_IN_TEXT),
            (b'{"value": "a\1"}', RejectionReason.MALFORMED_JSON),
            (b'{"value": 1', RejectionReason.MALFORMED_JSON),
            (b'{"value": 01}', RejectionReason.MALFORMED_JSON),
            (b'{"value": .5}', RejectionReason.MALFORMED_JSON),
            (b'{"value": -nan}', RejectionReason.NOT_A_NUMBER),
            (b'{"value": [inf]}', RejectionReason.NOT_A_NUMBER),
            (b"{'value': 1}", RejectionReason.MALFORMED_JSON),
            (b'{"value": "\xff"}', RejectionReason.INVALID_UTF8),
            (b'{"value": "\xed\xa0\x80"}', RejectionReason.INVALID_UTF8),
            (b'{"\xc0\x80": 1}', RejectionReason.INVALID_UTF8),
            ('{"value": 1}'.encode("utf-16"), RejectionReason.INVALID_UTF8),
        ],
    )
    def test_unreadable_message_has_one_fault_and_no_rows(self, payload, reason):
        decoded = decode(payload)
        assert decoded.rows == []
        assert [(fault.index, fault.reason) for fault in decoded.faults] == [(None, reason)]

    def test_byte_order_mark_is_called_by_its_name(self):
        assert "byte order mark" in decode(b'\xef\xbb\xbf{"value": 1}').faults[0].detail

    def test_payload_of_one_mebibyte_is_the_largest(self):
        payload = b'{"value": 1}'.ljust(1024 * 1024)
        assert decode(payload).faults == []
        assert faults_of(payload + b" ") == [(None, RejectionReason.TOO_LARGE)]
        assert faults_of(b"\xff" * 2**21) == [(None, RejectionReason.TOO_LARGE)]


class TestValues:
    @pytest.mark.parametrize("token", BAD_TOKENS)
    @pytest.mark.parametrize("place", ['{"value":%s}', '{"value":{"a":1,"b":%s}}'])
    def test_bad_value_is_rejected_between_good_ones(self, token, place):
        payload = '[{"value":1},' + place.replace("%s", token) + ',{"value":3}]'
        decoded = decode(payload.encode())
        assert [(fault.index, fault.reason) for fault in decoded.faults] == [(1, BAD_TOKENS[token])]
        assert [row[-1] for row in decoded.rows] == ["1", "3"]

    def test_value_may_be_32_levels_deep(self):
        deep = "[" * 31 + "]" * 31
        assert faults_of(f'{{"value":{{"a":{deep}}}}}'.encode()) == []
        assert faults_of(f'{{"value":{{"a":[{deep}]}}}}'.encode()) == [
            (0, RejectionReason.NESTED_TOO_DEEPLY)
        ]

    @pytest.mark.parametrize("depth", [900, 1_100, 100_000, 500_000])
    def test_hostile_depth_spoils_neither_the_stack_nor_its_neighbours(self, depth):
        payload = b'[{"value":1},{"value":' + b"[" * depth + b"]" * depth + b'},{"value":3}]'
        decoded = decode(payload)
        assert [(fault.index, fault.reason) for fault in decoded.faults] == [
            (1, RejectionReason.NESTED_TOO_DEEPLY)
        ]
        assert [row[-1] for row in decoded.rows] == ["1", "3"]
        # How deep the decoder goes before it gives up is Python's own limit, and grows.
        reasons = [RejectionReason.NESTED_TOO_DEEPLY]
        if depth < 100_000:
            reasons.append(RejectionReason.MALFORMED_JSON)
        assert faults_of(b"[" * depth) in [[(None, reason)] for reason in reasons]

    def test_hostile_depth_behind_quotes_is_read_in_linear_time(self):
        text = '"' + '\\"' * 400_000
        assert faults_of(("[" * 2_000 + text).encode())[0][0] is None

    def test_1024_attributes_are_the_most(self):
        value = {f"a{number}": number for number in range(1024)}
        assert faults_of({"value": value}) == []
        value["one more"] = 1
        assert faults_of({"value": value}) == [(0, RejectionReason.TOO_MANY_ATTRIBUTES)]

    def test_1024_attributes_are_the_most_in_nested_objects(self):
        value = {"a": {f"a{number}": number for number in range(1025)}}
        assert faults_of({"value": value}) == [(0, RejectionReason.TOO_MANY_ATTRIBUTES)]
        value["a"].pop("a0")
        assert faults_of({"value": value}) == []

    def test_countless_keys_are_refused(self):
        members = ",".join(f'"{number}":1' for number in range(90_000))
        reason = RejectionReason.TOO_MANY_ATTRIBUTES
        assert faults_of(f'{{"value":{{{members}}}}}'.encode()) == [(0, reason)]
        assert faults_of(f"{{{members}}}".encode()) == [(0, reason)]
        assert faults_of(b"1" * 10_000_000) == [(None, RejectionReason.TOO_LARGE)]

    @pytest.mark.parametrize("element", [b"1", b'{"value":1}'])
    def test_ten_thousand_elements_are_the_most(self, element):
        payload = b"[" + (element + b",") * 9_999 + b'{"value":1}]'
        assert len(decode(payload).rows) + len(decode(payload).faults) == 10_000
        payload = b'{"measurements":' + payload[:-1] + b"," + element + b"]}"
        assert faults_of(payload) == [(None, RejectionReason.TOO_LARGE)]


class TestAttributes:
    @pytest.mark.parametrize(
        ("value", "names"),
        [
            (5, {"value"}),
            (None, {"value"}),
            ([{"a": 1}], {"value"}),
            ({}, set()),
            ({"a": 1, "b": None}, {"a", "b"}),
            ({"a": [1, {"b": 2}]}, {"a"}),
            ({"a": {"b": 1, "c": {"d": 2}}, "e": 3}, {"a.b", "a.c.d", "e"}),
            ({"a": {}}, set()),
            ({"a.b": 1, "a": {"b": 1}}, {"a\\.b", "a.b"}),
            ({"a.b": 1}, {"a\\.b"}),
            ({"a\\.b": {"c.d": 1}}, {"a\\\\\\.b.c\\.d"}),
            ({"a\\b": 1}, {"a\\\\b"}),
            ({"": 1}, {""}),
            ({"{": "{", ":": ":"}, {"{", ":"}),
        ],
    )
    def test_names_are_escaped_dotted_paths(self, value, names):
        assert names_of(value) == names
        decoded = decode([{"value": value}, 5])
        assert set(decoded.attributes[0]) == names

    def test_flat_object_costs_no_copy(self):
        decoded = decode(STANDARD)
        assert isinstance(decoded.attributes[0], type({}.keys()))
        assert decoded.attributes[0] <= {"temperature", "humidity", "pressure", "other"}

    def test_each_row_has_its_names(self):
        decoded = decode([{"value": {"a": 1}}, 5, {"value": 2}, {"value": {"b": {"c": 1}}}])
        assert [set(names) for names in decoded.attributes] == [
            {"a"}, {"value"}, {"b.c"}
        ]  # fmt: skip
