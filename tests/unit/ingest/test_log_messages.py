"""Log messages."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.errors import RejectionReason
from heliograph.ingest.decode import decode_logs
from heliograph.model.fingerprints import fingerprint
from heliograph.model.records import Kind, Severity
from unit.ingest.payloads import (
    BAD_TOKENS,
    FIRST_ID,
    NOW,
    SENSOR,
    UNTIMED,
    good_members,
    payload_of,
    randoms,
    text,
)

ARGUMENTS = (SENSOR, FIRST_ID, NOW, UNTIMED)
GOOD = {"severity": "info", "subject": "hello"}


def decode(payload):
    if not isinstance(payload, bytes):
        payload = json.dumps(payload).encode()
    return decode_logs(payload, *ARGUMENTS)


class TestRows:
    def test_row_has_the_columns_of_its_table(self):
        payload = {
            "log_messages": [
                {
                    "severity": "warning",
                    "revision": 3,
                    "timestamp": 1_700_000_000.5,
                    "subject": "The CPU is burning: 99 °C",
                    "details": "Please call the fire department",
                }
            ]
        }
        content = ("warning", "The CPU is burning: 99 °C", "Please call the fire department")
        number = fingerprint(Kind.LOG, 3, *content)
        time = 1_700_000_000_500_000
        decoded = decode(payload)
        assert decoded.rows == [(FIRST_ID, SENSOR, time, number, NOW, 3, None, *content)]
        assert (decoded.faults, decoded.untimed, decoded.attributes) == ([], False, [])

    @given(good_members, st.sampled_from(Severity), text, text | st.none(), randoms)
    def test_shapes_and_spellings_give_the_same_rows(
        self, members, severity, subject, details, random
    ):
        element = {**members, "severity": str(severity), "subject": subject, "details": details}
        alias = {**element, "message": subject}
        del alias["subject"]
        shapes = [{"log_messages": [element]}, [element], element, [alias]]
        decoded = [decode(payload_of(shape, random)) for shape in shapes]
        assert all(one == decoded[0] for one in decoded)
        name = members.get("id")
        own = (severity, subject, details)
        assert decoded[0].rows[0][7:] == (own if name is None else (*own, name))

    def test_details_may_be_absent_or_null(self):
        assert decode(GOOD).rows == decode({**GOOD, "details": None}).rows
        assert decode(GOOD).rows[0][9] is None
        assert decode({**GOOD, "details": ""}).rows[0][9] == ""

    def test_content_makes_the_fingerprint(self):
        variants = [
            GOOD,
            {**GOOD, "severity": "error"},
            {**GOOD, "subject": "hello!"},
            {**GOOD, "details": ""},
            {**GOOD, "revision": 0},
            {**GOOD, "id": "a"},
            {**GOOD, "id": "b"},
        ]
        assert len({row[3] for row in decode(variants).rows}) == len(variants)
        assert decode({**GOOD, "timestamp": 1_700_000_000}).rows[0][3] == (decode(GOOD).rows[0][3])


class TestFaults:
    def test_message_beside_subject_is_the_unknown_one(self):
        assert "message" in decode({**GOOD, "message": "x"}).faults[0].detail

    def test_id_has_at_most_64_characters(self):
        assert decode({**GOOD, "id": "x" * 64}).identities == [(0, "x" * 64)]
        assert decode({**GOOD, "id": "x" * 65}).faults[0].reason == RejectionReason.WRONG_TYPE

    @pytest.mark.parametrize(
        ("element", "reason"),
        [
            ({}, RejectionReason.MISSING_MEMBER),
            ({"severity": "info"}, RejectionReason.MISSING_MEMBER),
            ({"subject": "x"}, RejectionReason.MISSING_MEMBER),
            ({**GOOD, "severity": "fatal"}, RejectionReason.WRONG_TYPE),
            ({**GOOD, "severity": "INFO"}, RejectionReason.WRONG_TYPE),
            ({**GOOD, "severity": None}, RejectionReason.WRONG_TYPE),
            ({**GOOD, "severity": 1}, RejectionReason.WRONG_TYPE),
            ({**GOOD, "subject": None}, RejectionReason.WRONG_TYPE),
            ({"severity": "info", "message": 5}, RejectionReason.WRONG_TYPE),
            ({**GOOD, "details": {"a": 1}}, RejectionReason.WRONG_TYPE),
            ({**GOOD, "details": 1}, RejectionReason.WRONG_TYPE),
            ({**GOOD, "message": "x"}, RejectionReason.UNKNOWN_MEMBER),
            ({**GOOD, "value": 1}, RejectionReason.UNKNOWN_MEMBER),
            ({**GOOD, "timestamp": "x"}, RejectionReason.INVALID_TIMESTAMP),
            ({**GOOD, "revision": -1}, RejectionReason.NUMBER_OUT_OF_RANGE),
            ({**GOOD, "id": 1}, RejectionReason.WRONG_TYPE),
            ("hello", RejectionReason.WRONG_TYPE),
        ],
    )
    def test_bad_element_is_rejected_between_good_ones(self, element, reason):
        decoded = decode({"log_messages": [GOOD, element, GOOD]})
        assert [(fault.index, fault.reason) for fault in decoded.faults] == [(1, reason)]
        assert decoded.indexes == [0, 2]
        assert len(decoded.rows) == 2

    def test_a_mistyped_member_is_told_what_was_meant(self):
        (fault,) = decode({"log_messages": [{"seerity": "info", "subject": "x"}]}).faults
        assert fault.detail == "unknown member 'seerity': did you mean `severity`?"

    @pytest.mark.parametrize("token", BAD_TOKENS)
    def test_bad_text_is_rejected_between_good_ones(self, token):
        good = json.dumps(GOOD)
        payload = f'[{good},{{"severity":"info","subject":"x","details":{token}}},{good}]'
        decoded = decode(payload.encode())
        assert [(fault.index, fault.reason) for fault in decoded.faults] == [(1, BAD_TOKENS[token])]
        assert decoded.indexes == [0, 2]

    @pytest.mark.parametrize(
        ("payload", "reason"),
        [
            (b"", RejectionReason.MALFORMED_JSON),
            (b"1", RejectionReason.WRONG_TYPE),
            (b'{"log_messages": 1}', RejectionReason.WRONG_TYPE),
            (b'{"log_messages": [], "x": 1}', RejectionReason.UNKNOWN_MEMBER),
            (b'[{"severity": "inf', RejectionReason.MALFORMED_JSON),
            (b"[]\xff", RejectionReason.INVALID_UTF8),
        ],
    )
    def test_unreadable_message_has_one_fault_and_no_rows(self, payload, reason):
        decoded = decode(payload)
        assert decoded.rows == []
        assert [(fault.index, fault.reason) for fault in decoded.faults] == [(None, reason)]

    @given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda end: b'{"severity":"' + end))
    def test_garbage_never_raises(self, payload):
        assert decode(payload).rows == []
