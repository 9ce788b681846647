"""Heartbeats and statuses."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.errors import RejectionReason
from heliograph.ingest.decode import decode_heartbeats, decode_status
from heliograph.ingest.strict_json import Rejected
from heliograph.model.fingerprints import fingerprint
from heliograph.model.records import Kind
from unit.ingest.payloads import (
    BAD_TOKENS,
    FIRST_ID,
    NOW,
    SENSOR,
    UNTIMED,
    good_members,
    payload_of,
    randoms,
    values,
)

ARGUMENTS = (SENSOR, FIRST_ID, NOW, UNTIMED)
OWN = {"revision", "timestamp", "success", "id", "heartbeats"}
others = st.dictionaries(st.text("abc.", max_size=3).filter(lambda key: key not in OWN), values)


def decode(payload):
    if not isinstance(payload, bytes):
        payload = json.dumps(payload).encode()
    return decode_heartbeats(payload, *ARGUMENTS)


class TestRows:
    def test_row_has_the_columns_of_its_table(self):
        payload = {"heartbeats": [{"revision": 1, "timestamp": 1_700_000_000, "success": True}]}
        number = fingerprint(Kind.HEARTBEAT, 1, True, None)
        decoded = decode(payload)
        time = 1_700_000_000_000_000
        assert decoded.rows == [(FIRST_ID, SENSOR, time, number, NOW, 1, None, True, None)]
        assert (decoded.faults, decoded.untimed, decoded.attributes) == ([], False, [])

    @pytest.mark.parametrize("payload", [b"", b"{}", b"[{}]", b'{"heartbeats":[{}]}'])
    def test_sign_of_life_needs_no_member(self, payload):
        number = fingerprint(Kind.HEARTBEAT, None, None, None)
        decoded = decode(payload)
        assert decoded.rows == [(FIRST_ID, SENSOR, UNTIMED, number, NOW, None, None, None, None)]
        assert decoded.untimed

    @given(good_members, st.booleans() | st.none(), others, randoms)
    def test_shapes_and_spellings_give_the_same_rows(self, members, success, extra, random):
        element = {**members, "success": success, **extra}
        shapes = [{"heartbeats": [element]}, [element], element]
        decoded = [decode(payload_of(shape, random)) for shape in shapes]
        assert all(one == decoded[0] for one in decoded)
        (row,) = decoded[0].rows
        assert row[7] is success
        assert json.loads(row[8] or "{}") == extra
        assert (row[8] is None) == (not extra)
        name = members.get("id")
        assert row[9:] == (() if name is None else (name,))
        assert row[3] == fingerprint(Kind.HEARTBEAT, row[5], success, row[8], element_id=name)

    def test_other_members_are_kept_as_canonical_details(self):
        decoded = decode({"uptime": 5, "revision": 1, "battery": {"b": 1, "a": 2}})
        assert decoded.rows[0][8] == '{"battery":{"a":2,"b":1},"uptime":5}'

    def test_content_makes_the_fingerprint(self):
        variants = [{}, {"revision": 0}, {"success": True}, {"success": False}, {"uptime": 1}]
        variants += [{"id": "a"}, {"id": "b"}]
        assert len({row[3] for row in decode(variants).rows}) == len(variants)


class TestFaults:
    @pytest.mark.parametrize(
        ("element", "reason"),
        [
            ({"success": 1}, RejectionReason.WRONG_TYPE),
            ({"success": "true"}, RejectionReason.WRONG_TYPE),
            ({"revision": 1.5}, RejectionReason.WRONG_TYPE),
            ({"timestamp": "x"}, RejectionReason.INVALID_TIMESTAMP),
            ({"id": ""}, RejectionReason.WRONG_TYPE),
            (
                {"creation_timestamp": 1.7e9, "receipt_timestamp": 1.7e9, "flagged": False},
                RejectionReason.UNKNOWN_MEMBER,
            ),
            (None, RejectionReason.WRONG_TYPE),
        ],
    )
    def test_bad_element_is_rejected_between_good_ones(self, element, reason):
        decoded = decode([{}, element, {}])
        assert [(fault.index, fault.reason) for fault in decoded.faults] == [(1, reason)]
        assert decoded.indexes == [0, 2]

    @pytest.mark.parametrize("token", BAD_TOKENS)
    def test_bad_detail_is_rejected_between_good_ones(self, token):
        decoded = decode(f'[{{}},{{"uptime":{token}}},{{}}]'.encode())
        assert [(fault.index, fault.reason) for fault in decoded.faults] == [(1, BAD_TOKENS[token])]
        assert decoded.indexes == [0, 2]

    def test_details_may_be_32_levels_deep(self):
        deep = "[" * 31 + "]" * 31
        assert decode(f'{{"a":{deep}}}'.encode()).faults == []
        assert decode(f'{{"a":[{deep}]}}'.encode()).faults[0].reason == (
            RejectionReason.NESTED_TOO_DEEPLY
        )

    @pytest.mark.parametrize(
        ("payload", "reason"),
        [
            (b" ", RejectionReason.MALFORMED_JSON),
            (b"alive", RejectionReason.MALFORMED_JSON),
            (b"1", RejectionReason.WRONG_TYPE),
            (b'{"heartbeats": 1}', RejectionReason.WRONG_TYPE),
            (b'{"heartbeats": [], "uptime": 1}', RejectionReason.UNKNOWN_MEMBER),
            (b'{"a": 1, "a": 1}', RejectionReason.DUPLICATE_KEY),
        ],
    )
    def test_unreadable_message_has_one_fault_and_no_rows(self, payload, reason):
        decoded = decode(payload)
        assert decoded.rows == []
        assert [(fault.index, fault.reason) for fault in decoded.faults] == [(None, reason)]


class TestStatus:
    @pytest.mark.parametrize("payload", [b"online", b"offline", b"Online", b" OFFLINE\r\n"])
    def test_status_is_online_or_offline(self, payload):
        assert decode_status(payload) == payload.decode().strip().lower()

    @pytest.mark.parametrize(
        "payload", [b"", b"on", b"\xff", b"\0online", b'"online"', b"online" + b" " * 100]
    )
    def test_anything_else_is_rejected(self, payload):
        with pytest.raises(Rejected) as caught:
            decode_status(payload)
        assert caught.value.fault.reason == RejectionReason.INVALID_STATUS
        assert "\0" not in caught.value.fault.detail
