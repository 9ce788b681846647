"""What the MQTT listener asks of the server."""

import json
import uuid

import pytest

from heliograph.access.authenticator import ADMIN
from heliograph.access.policy import Action, credential_of, is_current, may
from heliograph.access.registry import KnownSensor
from heliograph.model.credentials import hash_key
from heliograph.model.event import Committed
from heliograph.model.principal import Principal, Role
from heliograph.model.records import Kind
from heliograph.model.sensor import Sensor
from heliograph.mqtt.codec.reasons import Reason
from heliograph.mqtt.topics import TopicKind
from ingest_core import ADMIN_KEY, NOON, SHARED_KEY, running
from rows import measurement

VIEWER = Principal("anonymous", "anonymous", Role.VIEWER)
NOBODY = Principal("anonymous", "anonymous", Role.NONE)


async def retained(core, principal, topic_filter):
    return {
        each.topic: (
            each.payload if each.payload in (b"online", b"offline") else json.loads(each.payload)
        )
        async for each in core.mqtt.retained(principal, topic_filter)
    }


@pytest.fixture
async def furnished(core):
    """Two devices and a nameless sensor with configurations; the first device is online."""
    pump, fan, bare = [await core.device(name) for name in ("pump", "fan", None)]
    for sensor in (pump, bare):
        await core.store.configurations.add(sensor.number, '{"interval":60}')
    await core.store.configurations.add(pump.number, "null")
    await core.publish("status/pump", b"online")
    await core.settled()
    core.sensors = (pump, fan, bare)
    return core


async def test_a_configuration_and_a_status_are_kept_under_each_name(furnished):
    core = furnished
    pump, fan, bare = core.sensors
    newest = {"revision": 1, "configuration": None}
    for name in ("pump", pump.identifier):
        topic = f"configurations/{name}"
        assert await retained(core, ADMIN, topic) == {topic: newest}
        assert await retained(core, ADMIN, f"status/{name}") == {f"status/{name}": b"online"}
    topic = f"configurations/{bare.identifier}"
    first = {"revision": 0, "configuration": {"interval": 60}}
    assert await retained(core, ADMIN, topic) == {topic: first}
    for topic in ("configurations/fan", "status/fan", "measurements/pump", "configurations/nobody"):
        assert await retained(core, ADMIN, topic) == {}
    assert await retained(core, ADMIN, f"status/{fan.identifier}") == {}


async def test_wildcards_find_each_sensor_once(furnished, monkeypatch):
    monkeypatch.setattr("heliograph.ingest.mqtt_ingest.PAGE", 1)
    core = furnished
    pump, _, bare = core.sensors
    configurations = {"configurations/pump", f"configurations/{bare.identifier}"}
    expected = {
        "configurations/+": configurations,
        "configurations/#": configurations,
        "status/+": {"status/pump"},
        "+/pump": {"configurations/pump", "status/pump"},
        "#": configurations | {"status/pump"},
        "+/+": configurations | {"status/pump"},
        f"+/{pump.identifier}": {
            f"{kind}/{pump.identifier}" for kind in ("configurations", "status")
        },
        "measurements/#": set(),
        "+/+/+": set(),
        "+": set(),
    }
    found = {
        topic_filter: set(await retained(core, ADMIN, topic_filter)) for topic_filter in expected
    }
    assert found == expected


async def test_only_what_may_be_seen_is_retained(furnished):
    core = furnished
    pump = await core.authenticator.login("pump", b"pump")
    fan = await core.authenticator.login("fan", b"fan")
    shared = await core.authenticator.login("pump", SHARED_KEY.encode())
    elsewhere = Principal("user", "somebody", Role.OWNER)
    for principal, seen in (
        (pump, True),
        (shared, True),
        (fan, False),
        (elsewhere, False),
    ):
        assert bool(await retained(core, principal, "configurations/pump")) is seen
    assert await retained(core, fan, "#") == {}


@pytest.mark.parametrize(
    ("who", "allowed"),
    [
        (
            "admin",
            {"own", "own uuid", "foreign", "unknown", "publish", "all", "plus", "shared", "other"},
        ),
        (
            "viewer",
            {"own", "own uuid", "foreign", "unknown", "publish", "all", "plus", "shared", "other"},
        ),
        ("nobody", set()),
        ("device", {"own", "own uuid", "publish"}),
        ("shared", {"own", "own uuid", "publish"}),
    ],
)
async def test_who_may_subscribe_to_what(plain_core, who, allowed):
    core = plain_core
    pump = await core.device("pump")
    await core.device("fan")
    principal = {
        "admin": ADMIN,
        "viewer": VIEWER,
        "nobody": NOBODY,
        "device": await core.authenticator.login("pump", b"pump"),
        "shared": await core.authenticator.login("pump", SHARED_KEY.encode()),
    }[who]
    filters = {
        "own": "configurations/pump",
        "own uuid": f"measurements/{pump.identifier.upper()}",
        "foreign": "configurations/fan",
        "unknown": "configurations/nobody",
        "publish": "commands",
        "all": "#",
        "plus": "configurations/+",
        "shared": "$share/group/measurements/pump",
        "other": "something/else",
    }
    may = {name for name, f in filters.items() if await core.mqtt.may_subscribe(principal, f)}
    assert may == allowed


async def test_who_may_see_whose_events(plain_core):
    core = plain_core
    pump, fan = await core.device("pump"), await core.device("fan")
    home = pump.network_identifier
    device = await core.authenticator.login("pump", b"pump")
    shared = await core.authenticator.login("pump", SHARED_KEY.encode())
    may_see = core.mqtt.may_see
    for principal in (device, shared):
        assert may_see(principal, pump.number, home)
        assert not may_see(principal, fan.number, home)
    assert may_see(ADMIN, fan.number, "elsewhere")


async def test_what_everybody_may_see_and_have_retained(sqlite_store):
    async with running(sqlite_store, anonymous_role="viewer") as core:
        pump, fan = await core.device("pump"), await core.device("fan")
        home = fan.network_identifier
        await core.publish("status/pump", b"online")
        await core.settled()
        device = await core.authenticator.login("fan", b"fan")
        shared = await core.authenticator.login("fan", SHARED_KEY.encode())
        user = Principal("user", "user:eve", account="eve")
        everybody = (VIEWER, device, shared, user)
        may_see = core.mqtt.may_see
        for principal in everybody:
            # Where a sensor is now is what counts, as far as memory knows it.
            assert may_see(principal, pump.number, home)
            assert may_see(principal, pump.number, "elsewhere")
            assert may_see(principal, 999, home)
            assert not may_see(principal, 999, "elsewhere")
            assert set(await retained(core, principal, "status/#")) == {"status/pump"}
            assert await core.mqtt.may_subscribe(principal, "#")
        elsewhere = str(uuid.uuid4())
        await core.store.networks.create(
            identifier=elsewhere, name="elsewhere", created_at=NOON, owner=None
        )
        await core.store.sensors.change(pump.number, network_identifier=elsewhere)
        await core.registry.changed()
        for principal in everybody:
            assert not may_see(principal, pump.number, home)


@pytest.mark.parametrize("everybody", ["", "viewer", "editor"])
async def test_every_topic_goes_by_the_policy(sqlite_store, everybody):
    async with running(sqlite_store, anonymous_role=everybody) as core:
        pump, fan = await core.device("pump"), await core.device("fan")
        mqtt_ingest, grants = core.mqtt, core.registry.grants
        callers = [ADMIN, Principal("user", "user:eve", account="eve"), Principal("broker", "b")]
        callers.append(await core.authenticator.login("pump", b"pump"))
        callers.append(await core.authenticator.login("pump", SHARED_KEY.encode()))
        if everybody:
            callers.append(core.authenticator.anonymous())
        for principal in callers:
            for sensor in (pump, fan):
                sends = may(principal, Action.SEND, sensor, grants)
                for kind in TopicKind:
                    topic = f"{kind.value}/{sensor.device_id}"
                    route = await mqtt_ingest.route(principal, topic)
                    is_published = kind is not TopicKind.CONFIGURATIONS
                    assert mqtt_ingest.accepts(route) is (sends and is_published), (
                        principal,
                        topic,
                    )
                    subscribes = may(principal, Action.SUBSCRIBE, None, grants) or sends
                    assert await mqtt_ingest.may_subscribe(principal, topic) is subscribes
                receives = may(principal, Action.RECEIVE, sensor, grants)
                network = sensor.network_identifier
                assert mqtt_ingest.may_see(principal, sensor.number, network) is receives
            wild = may(principal, Action.SUBSCRIBE, None, grants)
            assert await mqtt_ingest.may_subscribe(principal, "#") is wild


async def test_where_topics_lead(plain_core):
    core = plain_core
    await core.device("pump")
    faults = {}
    for topic in ("nowhere/pump", "measurements/pump/x", "configurations/pump", "measurements/no"):
        route = await core.mqtt.route(ADMIN, topic)
        assert not core.mqtt.accepts(route)
        faults[topic] = route.fault.reason.value
    assert faults == {
        "nowhere/pump": "UNKNOWN_TOPIC",
        "measurements/pump/x": "UNKNOWN_TOPIC",
        "configurations/pump": "FORBIDDEN_TOPIC",
        "measurements/no": "UNKNOWN_SENSOR",
    }
    kinds = {}
    for topic in (
        "measurements",
        "log-messages",
        "logs",
        "heartbeats",
        "acknowledgments",
        "status",
    ):
        route = await core.mqtt.route(ADMIN, f"{topic}/pump")
        assert core.mqtt.accepts(route)
        kinds[topic] = route.kind
    assert list(kinds.values()) == [
        Kind.MEASUREMENT,
        Kind.LOG,
        Kind.LOG,
        Kind.HEARTBEAT,
        Kind.HEARTBEAT,
        Kind.STATUS,
    ]


@pytest.mark.parametrize(
    ("topic", "payload", "reason"),
    [
        ("measurements/nobody", b"1", Reason.NOT_AUTHORIZED),
        ("configurations/pump", b"1", Reason.NOT_AUTHORIZED),
        ("nowhere", b"1", Reason.TOPIC_NAME_INVALID),
        ("measurements/pump", b"{", Reason.PAYLOAD_FORMAT_INVALID),
    ],
)
async def test_a_rejection_has_a_reason_code(plain_core, topic, payload, reason):
    core = plain_core
    await core.device("pump")
    await core.publish(topic, payload)
    await core.settled()
    assert core.mqtt.puback_reason(core.origin.messages[0]) == reason


async def test_events_go_to_both_topics_of_a_device(plain_core):
    core = plain_core
    rows = [measurement(1, NOON * 1_000_000, value={"t": 1})]
    events = [
        Committed(kind, 1, "the-uuid", device_id, "network", rows, b"whole", None)
        for device_id in ("pump", None)
        for kind in (Kind.MEASUREMENT, Kind.LOG, Kind.HEARTBEAT, Kind.STATUS)
    ]
    shown = [core.mqtt.message_of(event) for event in events]
    prefixes = ("measurements", "log-messages", "heartbeats", "status")
    assert [seen.topics for seen in shown] == [
        *((f"{prefix}/pump", f"{prefix}/the-uuid") for prefix in prefixes),
        *((f"{prefix}/the-uuid",) for prefix in prefixes),
    ]
    assert {seen.payload for seen in shown} == {b"whole"}
    assert core.mqtt.message_of(Committed(Kind.PRESENCE, 1, "u", None, "n", [], None, None)) is None
    parts = Committed(Kind.MEASUREMENT, 1, "u", None, "n", rows, None, None)
    value = {"revision": None, "timestamp": NOON, "value": {"t": 1}}
    assert json.loads(core.mqtt.payload_of(parts)) == {"measurements": [value]}


async def test_a_connection_hangs_on_its_key(plain_core):
    core = plain_core
    sensor = await core.device("pump")
    principal = await core.authenticator.login("pump", b"pump")
    generation, grants = core.mqtt.generation, core.mqtt.grants
    assert credential_of(principal, grants) == hash_key("pump")
    await core.store.sensors.change(sensor.number, key_hash=hash_key("new"))
    await core.registry.changed()
    assert credential_of(principal, grants) == hash_key("new")
    assert is_current(principal, hash_key("new"), grants)
    assert not is_current(principal, hash_key("pump"), grants)
    assert core.mqtt.generation > generation
    await core.store.sensors.change(sensor.number, is_active=False)
    await core.registry.changed()
    assert credential_of(principal, grants) is None
    assert credential_of(ADMIN, grants) is None
    assert await core.authenticator.login("pump", b"new") is None
    assert await core.authenticator.key("new") is None


async def test_logins_are_the_authenticators(sqlite_store):
    async with running(sqlite_store, anonymous_role="viewer") as core:
        assert await core.mqtt.login("anybody", ADMIN_KEY.encode()) == ADMIN
        assert core.mqtt.anonymous() == VIEWER


def test_a_sensor_goes_by_its_names():
    identifier = str(uuid.uuid4())
    assert KnownSensor(Sensor(1, identifier, "n", "pump")).names == (identifier, "pump")
    assert KnownSensor(Sensor(1, identifier, "n")).names == (identifier,)
