"""Who may do what, over every action: the table in the policy's docstring, row by row."""

import itertools
from typing import NamedTuple

import pytest

from heliograph.access import policy
from heliograph.access.policy import (
    EVERYBODY,
    Action,
    Grants,
    KnownAccount,
    UnknownSensor,
    credential_of,
    is_current,
    may,
    names_another,
    networks_of,
    role_in,
)
from heliograph.model.account import Account
from heliograph.model.principal import Principal, Role

ROLES = (Role.NONE, Role.VIEWER, Role.EDITOR, Role.OWNER)
HOME, DEFAULT, ELSEWHERE = "home", "default", "elsewhere"
PUMP = UnknownSensor(1, HOME, ("uuid of the pump", "pump"), True, b"key of the pump")
FAN = UnknownSensor(2, HOME, ("uuid of the fan", "fan"), True, b"key of the fan")
OFF = PUMP._replace(is_active=False)
NEW = "new"

ADMIN_KEY = Principal("admin", "admin", Role.OWNER)
ADMINISTRATOR = Principal("admin", "user:root", account="root")
USERS = {role: Principal("user", f"user:{role.name}", account=role.name) for role in ROLES}
DEVICE, ANOTHER = (Principal("device", f"device:{n}", sensor=n) for n in (1, 2))
SHARED = Principal("shared", "shared:1234", key_hash=b"shared")
SHARED_AS = {name: Principal("shared", f"shared:{name}", device=name) for name in ("pump", "fan")}
BROKER = Principal("broker", "broker")


def account(name, *, is_admin=False, hashed="hash of the password"):
    return Account(name, name, hashed, is_admin, 0)


def grants(*, everybody=Role.NONE, open_networks=frozenset({HOME, DEFAULT}), sharing=()):
    known = {role.name: KnownAccount(account(role.name), {HOME: role}) for role in ROLES}
    known["root"] = KnownAccount(account("root", is_admin=True), {})
    return Grants(
        default_network=DEFAULT,
        everybody=everybody,
        open_networks=open_networks,
        sharing=frozenset(sharing),
        accounts=known,
        sessions={b"session"},
        sensors={PUMP.number: PUMP, FAN.number: FAN},
    )


class Row(NamedTuple):
    """A row of the documented table."""

    action: Action
    resource: str
    role: str
    device: str
    shared: str

    @property
    def least(self):
        return Role[self.role.upper()] if self.role else None

    def of(self):
        return {"sensor": PUMP, "network": HOME, "name": NEW}[self.resource]


def documented(columns):
    """Return the cells of the rows of a table in the docstring that has so many columns."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in policy.__doc__.splitlines()
        if line.startswith("|") and not line.startswith("|--")
    ]
    return [row for row in rows if len(row) == columns and row[0] != "action"]


TABLE = [Row(Action[cells[0]], *cells[1:]) for cells in documented(5)]
WITHOUT_RESOURCE = {Action[name]: who for name, who in documented(2)}


def test_the_tables_have_every_action_once():
    assert sorted([*(row.action for row in TABLE), *WITHOUT_RESOURCE]) == sorted(Action)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.action.name)
def test_roles_allow_what_the_table_says(row):
    for role in ROLES:
        allowed = row.least is not None and role >= row.least
        assert may(USERS[role], row.action, row.of(), grants()) is allowed, role
        # Whoever else calls has at least everybody's role.
        for caller in (EVERYBODY, USERS[Role.NONE], ANOTHER, SHARED, *SHARED_AS.values()):
            open_here = grants(everybody=role)
            if row.resource == "name":
                allowed = role >= Role.EDITOR
            assert may(caller, row.action, row.of(), open_here) is allowed, (role, caller)
            if row.resource == "sensor":
                moved = PUMP._replace(network_identifier=ELSEWHERE)
                assert not may(caller, row.action, moved, open_here)
    acts = row.action is not Action.ACT_AS
    for administrator in (ADMIN_KEY, ADMINISTRATOR):
        assert may(administrator, row.action, row.of(), grants()) is acts
    assert may(BROKER, row.action, row.of(), grants()) is (
        row.action in (Action.SEND, Action.PROVISION)
    )


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.action.name)
def test_devices_may_what_the_table_says(row):
    assert row.device in ("", "its own sensor")
    assert may(DEVICE, row.action, row.of(), grants()) is bool(row.device)
    assert not may(ANOTHER, row.action, row.of(), grants())
    if row.device:
        # Wherever it has been moved to, and while it is out of service too.
        away = OFF._replace(network_identifier=ELSEWHERE)
        assert may(DEVICE, row.action, away, grants())


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.action.name)
def test_shared_keys_may_what_the_table_says(row):
    assert row.shared in (
        "",
        "where the network takes shared keys",
        "where the network `default` takes them",
        "like SEND, while the sensor is in use",
    )
    for sharing in ((), (HOME,), (DEFAULT,)):
        given = grants(sharing=sharing)
        takes = (DEFAULT if row.resource == "name" else HOME) in sharing and bool(row.shared)
        assert may(SHARED, row.action, row.of(), given) is takes
        if row.resource == "sensor":
            in_use = takes and not row.shared.startswith("like SEND")
            assert may(SHARED, row.action, OFF, given) is in_use
            # A key that speaks for one device speaks for no other.
            assert may(SHARED_AS["pump"], row.action, PUMP, given) is takes
            as_another = takes and row.action is Action.ACT_AS
            assert may(SHARED_AS["fan"], row.action, PUMP, given) is as_another
        if row.resource == "name":
            assert not may(SHARED_AS["pump"], row.action, NEW, given)
            assert may(SHARED_AS["pump"], row.action, "pump", given) is takes
    assert not may(SHARED, row.action, row.of(), grants(sharing={ELSEWHERE}))


CALLERS = {
    "admin": ADMIN_KEY,
    "administrator": ADMINISTRATOR,
    "user": USERS[Role.NONE],
    "device": DEVICE,
    "shared": SHARED,
    "broker": BROKER,
    **{f"anonymous {r.name}": Principal("anonymous", "anonymous", r) for r in ROLES[1:]},
}
EDITING = {"anonymous EDITOR", "anonymous OWNER"}


@pytest.mark.parametrize(
    ("action", "who"),
    [
        (Action.SUBSCRIBE, {"admin", "administrator", "user", "anonymous VIEWER", *EDITING}),
        (Action.RECEIVE_COMMANDS, CALLERS.keys() - {"anonymous VIEWER", *EDITING}),
        (Action.RECEIVE_ALL, {"admin", "administrator", "broker"}),
        (Action.SEND_DATA, CALLERS.keys() - {"anonymous VIEWER"}),
        (Action.ADD_NETWORK, {"admin", "administrator", "user"}),
        (Action.ADMINISTER, {"admin", "administrator"}),
    ],
)
def test_who_may_without_a_resource(action, who):
    assert action in WITHOUT_RESOURCE
    assert {name for name, each in CALLERS.items() if may(each, action, None, grants())} == who


def test_everybody_subscribes_where_everybody_views_a_network():
    given = grants(everybody=Role.VIEWER)
    assert all(may(each, Action.SUBSCRIBE, None, given) for each in CALLERS.values())


def test_the_greater_of_ones_own_role_and_everybodys_counts():
    for own, everybody in itertools.product(ROLES, ROLES):
        given = grants(everybody=everybody)
        assert role_in(USERS[own], HOME, given) is max(own, everybody)
        assert role_in(USERS[own], ELSEWHERE, given) is Role.NONE
        assert role_in(USERS[own], ELSEWHERE, grants(everybody=everybody, open_networks=None)) is (
            everybody
        )


@pytest.mark.parametrize("action", [row.action for row in TABLE if row.least is not None])
def test_the_networks_of_a_principal_are_those_in_which_it_may(action):
    callers = [*USERS.values(), ADMINISTRATOR, DEVICE, SHARED, EVERYBODY]
    for everybody, networks in itertools.product(ROLES, (frozenset({DEFAULT}), None)):
        given = grants(everybody=everybody, open_networks=networks, sharing={ELSEWHERE})
        for caller in callers:
            found = networks_of(caller, action, given)
            for network in (HOME, DEFAULT, ELSEWHERE):
                of_another = UnknownSensor(9, network, ("x",), is_active=True)
                sensor = network if action in (Action.VIEW, Action.EDIT, Action.MANAGE) else None
                # What a shared key sends and receives it does by the name of a device.
                if caller is SHARED and action in (Action.SEND, Action.RECEIVE):
                    continue
                allowed = may(caller, action, sensor or of_another, given)
                assert (found is None or network in found) is allowed, (caller, network)


@pytest.mark.parametrize(
    ("principal", "own", "foreign"),
    [
        (DEVICE, ["pump", "uuid of the pump", "UUID of the PUMP"], ["fan", "uuid of the fan"]),
        (SHARED_AS["pump"], ["pump"], ["fan", "uuid of the pump"]),
        (SHARED, ["pump", "fan"], []),
        (ADMIN_KEY, ["pump", "fan"], []),
        (USERS[Role.NONE], ["pump", "fan"], []),
        (Principal("device", "device:gone", sensor=9), [], ["pump", "gone"]),
    ],
    ids=["device", "shared as", "shared", "admin", "user", "gone"],
)
def test_which_names_are_anothers(principal, own, foreign):
    itself = PUMP if principal is DEVICE else None
    assert not any(names_another(principal, itself, name) for name in own)
    assert all(names_another(principal, itself, name) for name in foreign)


def test_what_rights_rest_on():
    by_session = Principal("user", "user:OWNER", account="OWNER", session=b"session")
    for principal, credential in (
        (ADMIN_KEY, None),
        (ADMINISTRATOR, b"hash of the password"),
        (USERS[Role.OWNER], b"hash of the password"),
        (by_session, b"session"),
        (DEVICE, b"key of the pump"),
        (SHARED, None),
        (EVERYBODY, None),
    ):
        given = grants()
        assert credential_of(principal, given) == credential
        assert is_current(principal, credential, given)


@pytest.mark.parametrize(
    ("principal", "end"),
    [
        (USERS[Role.OWNER], {"accounts": {}}),
        (
            USERS[Role.OWNER],
            {"accounts": {"OWNER": KnownAccount(account("OWNER", hashed="new"), {})}},
        ),
        (
            USERS[Role.OWNER],
            {"accounts": {"OWNER": KnownAccount(account("OWNER", is_admin=True), {})}},
        ),
        (ADMINISTRATOR, {"accounts": {"root": KnownAccount(account("root"), {})}}),
        (
            Principal("user", "user:OWNER", account="OWNER", session=b"session"),
            {"sessions": frozenset()},
        ),
        (DEVICE, {"sensors": {1: PUMP._replace(key_hash=b"new")}}),
        (DEVICE, {"sensors": {1: OFF}}),
        (DEVICE, {"sensors": {1: UnknownSensor(1, "")}}),
    ],
    ids=["gone", "password", "promoted", "demoted", "session", "rotated", "off", "erased"],
)
def test_rights_end_with_what_they_rest_on(principal, end):
    given = grants()
    credential = credential_of(principal, given)
    for name, value in end.items():
        setattr(given, name, value)
    assert not is_current(principal, credential, given)


def test_a_device_whose_sensor_is_not_in_memory_has_kept_its_key():
    given = grants()
    credential = credential_of(DEVICE, given)
    given.sensors = {}
    assert is_current(DEVICE, credential, given)
