"""Who may do what: the one place that decides it.

Every route, topic and stream asks `may(principal, action, resource, grants)`. The roles in the
table are the principal's own in a network, or everybody's (ANONYMOUS_ROLE) where that is greater;
an administrator is an owner everywhere.

| action        | resource | role   | a device's key | a shared key                           |
|---------------|----------|--------|----------------|----------------------------------------|
| READ          | sensor   | viewer | its own sensor |                                        |
| READ_READINGS | sensor   | viewer | its own sensor | where the network takes shared keys    |
| RECEIVE       | sensor   | viewer | its own sensor | like SEND, while the sensor is in use  |
| SEND          | sensor   | editor | its own sensor | where the network takes shared keys    |
| ACT_AS        | sensor   |        | its own sensor | where the network takes shared keys    |
| CONFIGURE     | sensor   | editor |                |                                        |
| REMOVE        | sensor   | owner  |                |                                        |
| VIEW          | network  | viewer |                |                                        |
| EDIT          | network  | editor |                |                                        |
| MANAGE        | network  | owner  |                |                                        |
| PROVISION     | name     |        |                | where the network `default` takes them |

A shared key that logged in over MQTT speaks for the one device that its user name says. New names
(AUTO_PROVISION) are for administrators too, and for everybody where everybody edits `default`. An
external broker has judged its clients by itself: it sends as any sensor and under any name. Whoever
acts as a sensor has all rights that come with its own key.

| action           | without a resource                                                       |
|------------------|--------------------------------------------------------------------------|
| SUBSCRIBE        | to any MQTT filter: users, and everybody where everybody views a network |
| RECEIVE_COMMANDS | what the administrator publishes on MQTT_PUBLISH_TOPIC: every credential |
| RECEIVE_ALL      | what all sensors send: administrators, an external broker                |
| SEND_DATA        | data at all: every credential, and callers without one if they edit      |
| ADD_NETWORK      | accounts, administrators                                                 |
| ADMINISTER       | administrators                                                           |

RECEIVE_COMMANDS with a network is what was published for that one alone: its devices, its viewers,
and shared keys where it takes them.

The functions are pure: what they know they are given. They import `model` alone.
"""

import dataclasses
import enum
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, Protocol

from heliograph.model.account import Account
from heliograph.model.principal import Principal, Role


class Action(enum.IntEnum):
    """What a principal may do with a resource; see the table above."""

    READ = enum.auto()
    READ_READINGS = enum.auto()
    RECEIVE = enum.auto()
    SEND = enum.auto()
    ACT_AS = enum.auto()
    CONFIGURE = enum.auto()
    REMOVE = enum.auto()
    VIEW = enum.auto()
    EDIT = enum.auto()
    MANAGE = enum.auto()
    PROVISION = enum.auto()
    SUBSCRIBE = enum.auto()
    RECEIVE_COMMANDS = enum.auto()
    RECEIVE_ALL = enum.auto()
    SEND_DATA = enum.auto()
    ADD_NETWORK = enum.auto()
    ADMINISTER = enum.auto()


class GuardedSensor(Protocol):
    """A sensor, as far as rights are concerned."""

    @property
    def number(self) -> int:
        """The number by which it is known inside."""
        ...

    @property
    def network_identifier(self) -> str:
        """The UUID of its network."""
        ...

    @property
    def names(self) -> Collection[str]:
        """Its UUID, and its `device_id` if it has one."""
        ...

    @property
    def is_active(self) -> bool:
        """Whether it is in use."""
        ...

    @property
    def key_hash(self) -> bytes | None:
        """The hash of its API key, if it has one."""
        ...


class UnknownSensor(NamedTuple):
    """A sensor of which nothing is known but its number and the network that it was in."""

    number: int
    network_identifier: str
    names: tuple[str, ...] = ()
    is_active: bool = False
    key_hash: bytes | None = None


class KnownAccount(NamedTuple):
    """An account in use, and its roles by network."""

    account: Account
    roles: Mapping[str, Role]


@dataclasses.dataclass(slots=True)
class Grants:
    """What has been granted to whom, as far as it is known: the registry keeps it current.

    Accounts, sessions and sensors that are not in here have no rights of their own.
    """

    # The network of what is registered without one.
    default_network: str = ""
    # The role of everybody, and the networks in which everybody has it; None: all.
    everybody: Role = Role.NONE
    open_networks: frozenset[str] | None = frozenset()
    # The networks in which shared keys send and read.
    sharing: frozenset[str] = frozenset()
    # By identifier, by the hash of a session's token, and by number.
    accounts: Mapping[str, KnownAccount] = dataclasses.field(default_factory=dict)
    sessions: Collection[bytes] = ()
    sensors: Mapping[int, GuardedSensor] = dataclasses.field(default_factory=dict)


# Somebody without a credential, who may what everybody may.
EVERYBODY = Principal("anonymous", "anonymous")


def may(principal: Principal, action: Action, resource: Any, grants: Grants) -> bool:
    """Return whether the principal may do this.

    Args:
        principal: who is calling.
        action: what they want to do.
        resource: a `GuardedSensor`, the UUID of a network, the name of a device, or None, as the
            table says of the action.
        grants: what is known of everybody's rights.

    Where it is asked for each message, the action's rule is called by its own name.
    """
    return _RULES[action](principal, resource, grants)


def role_in(principal: Principal, network_identifier: str, grants: Grants) -> Role:
    """Return the principal's role in a network: at least everybody's."""
    if principal.kind == "admin":
        return Role.OWNER
    role = _role_of_everybody(network_identifier, grants)
    if principal.account is not None:
        known = grants.accounts.get(principal.account)
        if known is not None:
            return max(role, known.roles.get(network_identifier, Role.NONE))
    return role


def _role_of_everybody(network_identifier: str, grants: Grants) -> Role:
    networks = grants.open_networks
    return grants.everybody if networks is None or network_identifier in networks else Role.NONE


def networks_of(principal: Principal, action: Action, grants: Grants) -> list[str] | None:
    """Return the networks in which the principal may do this with all sensors; None: in all.

    The action is one that takes a role in a network.
    """
    if principal.kind == "admin":
        return None
    role, found = _ROLES[action], set[str]()
    if grants.everybody >= role:
        if grants.open_networks is None:
            return None
        found |= grants.open_networks
    if principal.account is not None and (known := grants.accounts.get(principal.account)):
        found |= {network for network, own in known.roles.items() if own >= role}
    if action is Action.READ_READINGS and principal.kind == "shared":
        found |= grants.sharing
    return sorted(found)


def names_another(principal: Principal, own: GuardedSensor | None, name: str) -> bool:
    """Return whether a device, `own`, gives a name that is not one of its own.

    So it does with every name once its sensor is gone (None). A shared key has only the name
    that it logged in by.
    """
    if principal.kind == "shared":
        return principal.device is not None and name != principal.device
    if principal.kind != "device" or principal.sensor is None:
        return False
    return own is None or (name not in own.names and name.lower() not in own.names)


def credential_of(principal: Principal, grants: Grants) -> bytes | None:
    """Return the hash of the key, password or session that the rights of a principal rest on.

    None: it has ended, or they rest on none of them.
    """
    if principal.account is not None:
        known = grants.accounts.get(principal.account)
        if known is None or known.account.is_admin is not principal.is_admin:
            return None
        if principal.session is None:
            return known.account.password_hash.encode()
        return principal.session if principal.session in grants.sessions else None
    sensor = None if principal.sensor is None else grants.sensors.get(principal.sensor)
    return sensor.key_hash if sensor is not None and sensor.is_active else None


def is_current(principal: Principal, credential: bytes | None, grants: Grants) -> bool:
    """Return whether what `credential_of` gave when the principal came still holds.

    A change of a sensor is known, so a device whose sensor is not known has kept its key.
    """
    if principal.account is not None:
        return credential is not None and credential_of(principal, grants) == credential
    if principal.sensor is None or principal.sensor not in grants.sensors:
        return True
    return credential_of(principal, grants) == credential


def may_read(principal: Principal, sensor: GuardedSensor, grants: Grants) -> bool:
    """Return whether the principal may read the sensor's record and data."""
    if principal.sensor == sensor.number:
        return True
    return role_in(principal, sensor.network_identifier, grants) >= Role.VIEWER


def _may_read_readings(principal: Principal, sensor: GuardedSensor, grants: Grants) -> bool:
    return may_read(principal, sensor, grants) or _takes_shared_key(principal, sensor, grants)


def may_receive(principal: Principal, sensor: GuardedSensor, grants: Grants) -> bool:
    """Return whether the principal may receive what the sensor sends, as it comes."""
    if principal.sensor == sensor.number:
        return True
    # With a key of its own a device that is out of service would not even log in.
    if sensor.is_active and _takes_shared_key(principal, sensor, grants):
        return True
    return role_in(principal, sensor.network_identifier, grants) >= Role.VIEWER


def may_send(principal: Principal, sensor: GuardedSensor, grants: Grants) -> bool:
    """Return whether the principal may send as the sensor."""
    if principal.sensor == sensor.number or principal.kind == "broker":
        return True
    if _takes_shared_key(principal, sensor, grants):
        return True
    return role_in(principal, sensor.network_identifier, grants) >= Role.EDITOR


def may_rule_send(network: str, sensor: GuardedSensor) -> bool:
    """Return whether a rule of a network may send as the sensor, as the network's editors may."""
    return sensor.is_active and sensor.network_identifier == network


def _may_act_as(principal: Principal, sensor: GuardedSensor, grants: Grants) -> bool:
    if principal.sensor == sensor.number:
        return True
    return principal.kind == "shared" and sensor.network_identifier in grants.sharing


def _takes_shared_key(principal: Principal, sensor: GuardedSensor, grants: Grants) -> bool:
    return (
        principal.kind == "shared"
        and sensor.network_identifier in grants.sharing
        and (principal.device is None or principal.device in sensor.names)
    )


def _may_provision(principal: Principal, name: str, grants: Grants) -> bool:
    default = grants.default_network
    if principal.kind in ("admin", "broker") or _role_of_everybody(default, grants) >= Role.EDITOR:
        return True
    is_its_own = principal.device is None or principal.device == name
    return principal.kind == "shared" and is_its_own and default in grants.sharing


def _may_subscribe(principal: Principal, _resource: None, grants: Grants) -> bool:
    if principal.kind == "anonymous":
        return principal.role >= Role.VIEWER
    return principal.kind in ("admin", "user") or grants.everybody >= Role.VIEWER


def _may_receive_commands(principal: Principal, network: str | None, grants: Grants) -> bool:
    if network is None:
        return principal.kind != "anonymous"
    if principal.sensor is not None:
        sensor = grants.sensors.get(principal.sensor)
        return sensor is not None and sensor.network_identifier == network
    if principal.kind == "shared":
        return network in grants.sharing
    return principal.kind != "anonymous" and role_in(principal, network, grants) >= Role.VIEWER


def _may_receive_all(principal: Principal, _resource: None, _grants: Grants) -> bool:
    return principal.kind in ("admin", "broker")


def may_send_data(principal: Principal, _resource: None = None, _: Grants | None = None) -> bool:
    """Return whether the principal may send data at all."""
    return principal.kind != "anonymous" or principal.role >= Role.EDITOR


def _may_add_network(principal: Principal, _resource: None, _grants: Grants) -> bool:
    return principal.account is not None or principal.kind == "admin"


def _may_administer(principal: Principal, _resource: None, _grants: Grants) -> bool:
    return principal.kind == "admin"


def _of_sensor(action: Action) -> Callable[[Principal, GuardedSensor, Grants], bool]:
    """Return the rule of what takes a role in the sensor's network, and nothing else allows."""
    role = _ROLES[action]
    return lambda principal, sensor, grants: (
        role_in(principal, sensor.network_identifier, grants) >= role
    )


def _of_network(action: Action) -> Callable[[Principal, str, Grants], bool]:
    role = _ROLES[action]
    return lambda principal, network, grants: role_in(principal, network, grants) >= role


_ROLES = {
    Action.READ: Role.VIEWER,
    Action.READ_READINGS: Role.VIEWER,
    Action.RECEIVE: Role.VIEWER,
    Action.SEND: Role.EDITOR,
    Action.CONFIGURE: Role.EDITOR,
    Action.REMOVE: Role.OWNER,
    Action.VIEW: Role.VIEWER,
    Action.EDIT: Role.EDITOR,
    Action.MANAGE: Role.OWNER,
}
_RULES: dict[Action, Callable[[Principal, Any, Grants], bool]] = {
    Action.READ: may_read,
    Action.READ_READINGS: _may_read_readings,
    Action.RECEIVE: may_receive,
    Action.SEND: may_send,
    Action.ACT_AS: _may_act_as,
    Action.CONFIGURE: _of_sensor(Action.CONFIGURE),
    Action.REMOVE: _of_sensor(Action.REMOVE),
    Action.VIEW: _of_network(Action.VIEW),
    Action.EDIT: _of_network(Action.EDIT),
    Action.MANAGE: _of_network(Action.MANAGE),
    Action.PROVISION: _may_provision,
    Action.SUBSCRIBE: _may_subscribe,
    Action.RECEIVE_COMMANDS: _may_receive_commands,
    Action.RECEIVE_ALL: _may_receive_all,
    Action.SEND_DATA: may_send_data,
    Action.ADD_NETWORK: _may_add_network,
    Action.ADMINISTER: _may_administer,
}
