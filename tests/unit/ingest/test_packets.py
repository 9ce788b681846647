"""Packets are what their published schema says, and the server reads them so."""

import json

import jsonschema_rs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from heliograph.errors import RejectionReason
from heliograph.ingest.packets import SCHEMA, InvalidPacketError, read_packet
from heliograph.ingest.strict_json import Rejected

NOW = 1_768_478_400_000_000
PACKET = {
    "device_id": "greenhouse-1",
    "timestamp": 1_768_478_000,
    "measurements": {"temperature": 22.5, "place": {"x": 1}},
    "status": "ok",
    "battery_level": 87,
}
VALIDATOR = jsonschema_rs.validator_for(SCHEMA)

# Times are told by the schema to be numbers or texts; which of those are times it can't say.
TIMES = st.sampled_from([None, 1_768_478_000, 1.5, "2026-01-15T12:00:00Z"])
ANY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 101),
    st.floats(-1, 101),
    st.text("ab-\n ", max_size=70),
)
OBJECTS = st.one_of(
    st.dictionaries(
        st.sampled_from([*PACKET, "device"]),
        st.one_of(ANY, st.dictionaries(st.text("ab"), ANY, max_size=2), st.lists(ANY, max_size=1)),
    ),
    st.builds(
        lambda members: {**PACKET, **members},
        st.fixed_dictionaries(
            {},
            optional={name: ANY for name in PACKET if name != "timestamp"} | {"timestamp": TIMES},
        ),
    ),
    st.lists(ANY, max_size=1),
    ANY,
)


def read(packet):
    return read_packet(json.dumps(packet).encode(), NOW)


@given(OBJECTS)
@example({**PACKET, "device_id": "\u00e9" * 65})
@example({**PACKET, "device_id": ""})
@example({**PACKET, "status": "x" * 65})
@example({**PACKET, "battery_level": True})
@example({**PACKET, "measurements": dict.fromkeys(map(str, range(1_025)), 1)})
def test_the_schema_and_the_server_agree(packet):
    wrong = {tuple(error.instance_path) for error in VALIDATOR.iter_errors(packet)}
    try:
        read(packet)
    except InvalidPacketError as error:
        # What the schema tells of the whole, the server tells of the member.
        at = {
            fault.path for fault in error.faults if fault.type not in ("missing", "extra_forbidden")
        }
        untimely = {("timestamp",)} if isinstance(packet, dict) else set()
        assert wrong - {()} <= at <= wrong | untimely
        assert wrong or at == untimely
    except Rejected:
        pass  # no JSON at all, or nothing that can be stored
    else:
        assert not wrong


def test_a_packet_is_its_devices_measurement_with_status_and_battery():
    packet = read(PACKET)
    assert packet.device_id == "greenhouse-1"
    value = json.loads(packet.reading.columns[0])
    assert value == {**PACKET["measurements"], "status": "ok", "battery_level": 87}
    assert packet.reading.timestamp == PACKET["timestamp"] * 1_000_000
    own = {**PACKET, "measurements": {"status": 3}}
    assert json.loads(read(own).reading.columns[0])["status"] == 3
    assert json.loads(packet.text) == PACKET


def test_the_same_packet_has_the_same_fingerprint_whatever_the_order_of_its_members():
    again = dict(reversed(PACKET.items()))
    assert read(again).fingerprint == read(PACKET).fingerprint
    for name, value in (("device_id", "x"), ("status", "low"), ("battery_level", 3)):
        assert read({**PACKET, name: value}).fingerprint != read(PACKET).fingerprint


@pytest.mark.parametrize(
    ("members", "faults"),
    [
        ({"battery": 3}, [("extra_forbidden", "did you mean `battery_level`?")]),
        ({"battery_level": 101}, [("out_of_range", "between 0 and 100")]),
        ({"timestamp": "soon"}, [("invalid_timestamp", "neither epoch seconds nor RFC 3339")]),
        ({"timestamp": 9e11}, [("timestamp_in_future", "more than a day ahead")]),
        ({"measurements": {}, "status": 1}, [("too_short", "empty"), ("string_type", "text")]),
    ],
)
def test_all_that_is_wrong_is_told_at_once(members, faults):
    with pytest.raises(InvalidPacketError) as raised:
        read({**PACKET, **members})
    assert [fault.type for fault in raised.value.faults] == [kind for kind, _ in faults]
    for fault, (_, words) in zip(raised.value.faults, faults, strict=True):
        assert words in fault.message
    assert raised.value.fault.reason in set(RejectionReason)


def test_of_unknown_members_only_so_many_are_told():
    """Or else a packet of a megabyte holds the server up, and has an answer of three."""
    with pytest.raises(InvalidPacketError) as raised:
        read({**PACKET, **{f"member-{number}": 1 for number in range(100)}, "status": 1})
    told = [(*fault.path, fault.type) for fault in raised.value.faults]
    assert told == [
        *((f"member-{number}", "extra_forbidden") for number in range(10)),
        ("status", "string_type"),
    ]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{", "MALFORMED_JSON"),
        (b'{"device_id": "a", "measurements": {"x": NaN}}', "NOT_A_NUMBER"),
        (b'{"device_id": "a", "measurements": {"x": "\\u0000"}}', "NUL_IN_TEXT"),
        (b'{"device_id": "a", "device_id": "b", "measurements": {"x": 1}}', "DUPLICATE_KEY"),
        (
            b'{"device_id": "a", "measurements": ' + b"[" * 99 + b"]" * 99 + b"}",
            "NESTED_TOO_DEEPLY",
        ),
    ],
)
def test_what_cannot_be_stored_is_rejected(payload, reason):
    with pytest.raises(Rejected) as raised:
        read_packet(payload, NOW)
    assert raised.value.fault.reason == reason
