import itertools
import uuid

import pytest

from heliograph.access.authenticator import ADMIN
from heliograph.access.policy import Grants, KnownAccount
from heliograph.access.registry import KnownSensor
from heliograph.errors import RejectionReason
from heliograph.ingest.decode import decode_heartbeats, decode_logs, decode_measurements
from heliograph.ingest.routes import Route, Router
from heliograph.model.account import Account
from heliograph.model.principal import Principal, Role
from heliograph.model.records import Kind
from heliograph.model.sensor import Sensor


def known(number, device_id, network="default", *, is_active=True):
    identifier = str(uuid.UUID(int=number))
    return KnownSensor(Sensor(number, identifier, network, device_id, is_active=is_active))


PUMP, FAN, FAR = known(1, "pump"), known(2, "fan"), known(3, "far", "elsewhere")
OFF = known(4, "off", is_active=False)
SENSORS = (PUMP, FAN, FAR, OFF)

DEVICE = Principal("device", "device:pump", sensor=1)
SHARED = Principal("shared", "shared:1234")
SHARED_AS_PUMP = Principal("shared", "shared:pump", device="pump")
# Users, by their account, and what each may do where.
ROLES = {
    "viewer": {"default": Role.VIEWER},
    "editor": {"default": Role.EDITOR, "elsewhere": Role.VIEWER},
    "owner": {"elsewhere": Role.OWNER},
    "stranger": {},
}
USERS = {name: Principal("user", f"user:{name}", account=name) for name in ROLES}
GUESTS = {role: Principal("anonymous", "anonymous", role) for role in Role}


def grants(everybody=Role.NONE):
    return Grants(
        default_network="default",
        everybody=everybody,
        open_networks=frozenset({"default"}),
        sharing=frozenset({"default"}),
        accounts={
            name: KnownAccount(Account(name, name, "hash", False, 0), roles)
            for name, roles in ROLES.items()
        },
        sensors={sensor.number: sensor for sensor in SENSORS},
    )


class Sensors:
    def __init__(self, everybody=Role.NONE):
        self.grants = grants(everybody)
        self.provisioned = []

    async def find_account(self, account):
        return account if account in ROLES else None

    async def find(self, identifier):
        name = identifier if identifier in ("pump", "fan", "far", "off") else identifier.lower()
        return next((sensor for sensor in SENSORS if name in sensor.names), None)

    def number(self, number):
        return next((sensor for sensor in SENSORS if sensor.number == number), None)

    async def find_number(self, number):
        return self.number(number)

    def cached(self, identifier):
        return next((sensor for sensor in SENSORS if identifier in sensor.names), None)

    async def provision(self, identifier):
        self.provisioned.append(identifier)


@pytest.fixture
def router(request):
    """A router where everybody has the role of a principal without a credential."""
    principal = (
        request.getfixturevalue("principal") if "principal" in request.fixturenames else ADMIN
    )
    return Router(Sensors(principal.role if principal.kind == "anonymous" else Role.NONE))


@pytest.mark.parametrize("name", ["pump", PUMP.identifier, PUMP.identifier.upper()])
@pytest.mark.parametrize("principal", [ADMIN, DEVICE, SHARED, GUESTS[Role.EDITOR]])
async def test_a_route_leads_to_the_sensor(router, principal, name):
    route = await router.route(principal, "t", Kind.LOG, name)
    assert (route.sensor, route.fault, route.kind, route.source) == (PUMP, None, Kind.LOG, "t")
    assert route.principal is principal


@pytest.mark.parametrize(
    ("principal", "foreign"),
    [
        (DEVICE, ("fan", FAN.identifier, "far", "off")),
        (SHARED_AS_PUMP, ("fan", FAN.identifier)),
        (GUESTS[Role.EDITOR], ("far", FAR.identifier)),
        (GUESTS[Role.VIEWER], ("pump",)),
        (USERS["viewer"], ("pump", "far")),
        (USERS["editor"], ("far", FAR.identifier)),
        (USERS["stranger"], ("pump", "far")),
    ],
    ids=["device", "shared", "guest", "viewer", "user-viewer", "user-editor", "user-stranger"],
)
async def test_a_foreign_sensor_answers_like_one_that_is_not_there(router, principal, foreign):
    unknown = ["nobody", str(uuid.UUID(int=99))]
    faults = [
        (await router.route(principal, "t", Kind.MEASUREMENT, name)).fault
        for name in itertools.chain(foreign, unknown)
    ]
    assert len(set(faults)) == 1
    assert faults[0].reason in (RejectionReason.FORBIDDEN_TOPIC, RejectionReason.UNKNOWN_SENSOR)


async def test_a_deactivated_sensor_is_told_apart_for_those_who_may_write(router):
    route = await router.route(ADMIN, "t", Kind.MEASUREMENT, "off")
    assert (route.sensor, route.fault.reason) == (None, RejectionReason.DEACTIVATED_SENSOR)


@pytest.mark.parametrize(
    ("principal", "provisions"),
    [
        (ADMIN, True),
        (SHARED, True),
        (DEVICE, False),
        (GUESTS[Role.OWNER], True),
        (GUESTS[Role.EDITOR], True),
        (GUESTS[Role.VIEWER], False),
        (USERS["owner"], False),
        (USERS["editor"], False),
    ],
)
async def test_who_may_register_on_first_sight(principal, provisions):
    sensors = Sensors(principal.role)
    await Router(sensors).route(principal, "t", Kind.MEASUREMENT, "new")
    assert sensors.provisioned == (["new"] if provisions else [])


@pytest.mark.parametrize("principal", [DEVICE, SHARED_AS_PUMP, USERS["stranger"]])
async def test_everybody_may_what_callers_without_a_credential_may(principal):
    for everybody, writes in ((Role.EDITOR, [PUMP, FAN]), (Role.VIEWER, [])):
        sensors = Sensors(everybody)
        router = Router(sensors)
        for sensor in (PUMP, FAN, FAR):
            route = await router.route(principal, "t", Kind.LOG, sensor.device_id)
            own = sensor is PUMP and principal.kind != "user"
            assert route.sensor is (sensor if own or sensor in writes else None)
            known = router.known(principal, "t", Kind.LOG, sensor.device_id)
            assert (known and known.sensor) is route.sensor
        await router.route(principal, "t", Kind.LOG, "new")
        assert sensors.provisioned == (["new"] if everybody is Role.EDITOR else [])


async def test_a_principal_whose_sensor_is_gone_reaches_nothing(router):
    gone = Principal("device", "device:gone", sensor=99)
    route = await router.route(gone, "t", Kind.MEASUREMENT, "pump")
    assert route.fault.reason is RejectionReason.FORBIDDEN_TOPIC


@pytest.mark.parametrize(
    ("kind", "decode"),
    [
        (Kind.MEASUREMENT, decode_measurements),
        (Kind.LOG, decode_logs),
        (Kind.HEARTBEAT, decode_heartbeats),
        (Kind.STATUS, None),
    ],
)
def test_each_kind_has_its_decoder(kind, decode):
    assert Route("t", ADMIN, kind, PUMP).decode is decode
    assert Route("t", ADMIN, kind).decode is None


@pytest.mark.parametrize("name", ["pump", "fan", "far", "off", "nobody", PUMP.identifier])
@pytest.mark.parametrize(
    "principal",
    [ADMIN, DEVICE, SHARED, SHARED_AS_PUMP, *GUESTS.values(), *USERS.values()],
    ids=lambda principal: f"{principal.kind}-{principal.role.name}-{principal.device}",
)
async def test_what_memory_knows_is_what_would_be_found(router, principal, name):
    known = router.known(principal, "t", Kind.LOG, name)
    found = await router.route(principal, "t", Kind.LOG, name)
    if known is None:
        # Only what leads nowhere may be left to the longer way: it costs nobody his speed.
        assert found.sensor is None
    else:
        assert (known.kind, known.sensor, known.fault) == (found.kind, found.sensor, found.fault)


async def test_memory_that_lacks_the_sensor_says_nothing(router, monkeypatch):
    monkeypatch.setattr(Sensors, "cached", lambda _self, _identifier: None)
    assert router.known(ADMIN, "t", Kind.LOG, "pump") is None


async def test_memory_that_lacks_the_account_says_nothing(router):
    forgotten = Principal("user", "user:forgotten", account="forgotten")
    assert router.known(forgotten, "t", Kind.LOG, "pump") is None
