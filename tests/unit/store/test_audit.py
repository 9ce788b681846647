"""What the audit log tells of a change, and what it never does."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.model.audit import ActorKind, AuditAction, actor_of
from heliograph.model.principal import Principal, Role
from heliograph.model.sensor import Network, Node, Sensor
from heliograph.store.audit import (
    LONGEST_VALUE,
    SECRET,
    SHOWN,
    changed,
    created,
    differences,
    sensor_change,
)

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

PUMP = Sensor(1, "4b1c", "one", device_id="pump-1", key_hash=b"\1" * 32)

# Neither told nor mentioned: what only the server sets, and what is told as an action.
SILENT = {
    Network: {"identifier", "created_at"},
    Node: {"number", "identifier", "created_at"},
    Sensor: {
        "number",
        "identifier",
        "created_at",
        "last_seen_at",
        "last_measurement_at",
        "status",
        "status_at",
        "status_since",
        "status_by_broker",
        "connection_open",
        "connection_at",
        "deleted_at",
    },
}


@pytest.mark.parametrize("record", [Network, Node, Sensor])
def test_of_every_member_it_is_decided_what_is_told(record):
    told, mentioned = set(SHOWN[record]), set(SECRET.get(record, ()))
    assert told | mentioned | SILENT[record] == set(record.__struct_fields__)
    assert not told & mentioned


sensors = st.builds(
    Sensor,
    number=st.just(1),
    identifier=st.just("4b1c"),
    network_identifier=st.sampled_from(["one", "two"]),
    key_hash=st.none() | st.binary(min_size=32, max_size=32),
    is_active=st.booleans(),
    name=st.none() | st.text(max_size=2 * LONGEST_VALUE),
    model=st.none() | st.sampled_from("ab"),
    expected_interval=st.none() | st.integers(1_000, 10**15),
    last_seen_at=st.none() | st.integers(0, 10**15),
)


@given(before=sensors, after=sensors)
def test_differences_are_all_that_differs_and_hold_no_key(before, after):
    changes = differences(before, after)
    names = SHOWN[Sensor] | SECRET[Sensor]
    assert set(changes) == {
        name for member, name in names.items() if getattr(before, member) != getattr(after, member)
    }
    assert changes.get("api_key", {}) == {}
    assert len(msgspec.json.encode(changes)) < 30 * LONGEST_VALUE
    assert bool(sensor_change(before, after)) == bool(changes)


def test_a_new_key_by_itself_is_an_action_of_its_own():
    other = msgspec.structs.replace(PUMP, key_hash=b"\2" * 32)
    (entry,) = sensor_change(PUMP, other)
    assert (entry.action, entry.changes) == (AuditAction.SENSOR_CHANGE_KEY, {"api_key": {}})
    renamed = msgspec.structs.replace(other, name="pump")
    (entry,) = sensor_change(PUMP, renamed)
    assert entry.action == AuditAction.SENSOR_CHANGE
    assert entry.changes == {"api_key": {}, "name": {"old": None, "new": "pump"}}
    assert sensor_change(PUMP, PUMP) == []


def test_what_is_new_is_told_without_what_it_is_not():
    entry = created(AuditAction.SENSOR_CREATE, PUMP, {"revision": {"new": 0}})
    assert (entry.identifier, entry.name, entry.network) == ("4b1c", "pump-1", "one")
    assert entry.changes == {
        "device_id": {"new": "pump-1"},
        "api_key": {},
        "revision": {"new": 0},
    }


def test_intervals_are_told_in_seconds():
    late = msgspec.structs.replace(PUMP, expected_interval=1_500_000)
    (entry,) = changed(AuditAction.SENSOR_CHANGE, PUMP, late)
    assert entry.changes == {"expected_interval": {"old": None, "new": 1.5}}


def test_what_moves_is_told_to_both_networks():
    moved = msgspec.structs.replace(PUMP, network_identifier="two")
    one, two = changed(AuditAction.SENSOR_CHANGE, PUMP, moved)
    assert (one.network, two.network) == ("one", "two")
    assert one.changes == two.changes == {"network_identifier": {"old": "one", "new": "two"}}


@pytest.mark.parametrize(
    ("principal", "expected"),
    [
        (Principal("user", "user:a:b", account="x"), (ActorKind.USER, "a:b")),
        (Principal("admin", "user:root", account="x"), (ActorKind.USER, "root")),
        (Principal("admin", "admin", Role.OWNER), (ActorKind.ADMIN_KEY, "admin")),
        (Principal("device", "device:pump-1", sensor=1), (ActorKind.DEVICE, "pump-1")),
        (Principal("shared", "shared:1a2b3c4d"), (ActorKind.SHARED_KEY, "1a2b3c4d")),
        (Principal("anonymous", "anonymous"), (ActorKind.ANONYMOUS, "anonymous")),
    ],
)
def test_who_a_caller_is(principal, expected):
    actor = actor_of(principal, "10.0.0.1")
    assert ((actor.kind, actor.name), actor.address) == (expected, "10.0.0.1")
