"""Every route with every credential."""

import dataclasses
import itertools
import re
import string
import uuid

import pytest

from heliograph.access.policy import Action, Grants, KnownAccount, UnknownSensor, may
from heliograph.model.account import Account
from heliograph.model.alert import NewAlert, Silence
from heliograph.model.annotation import Annotation
from heliograph.model.board import Board
from heliograph.model.principal import Principal, Role
from heliograph.model.time import DAY, HOUR, now, to_rfc3339
from heliograph.processing.rules import written
from heliograph.store.alerts import change_alerts
from heliograph.store.channels import ChannelDefinition
from heliograph.store.rule_states import EnteredAction
from integration.http.conftest import ADMIN, PASSWORD, SHARED

pytestmark = pytest.mark.uncovered

OPEN = [
    "/health",
    "/ping",
    "/status",
    "/readyz",
    "/packets/schema",
    "/openapi.json",
    "/docs",
    "/redoc",
]
NOBODY = ("none", "wrong key", "wrong token")
SOON = to_rfc3339(now() + DAY)
USERS = ("viewer", "editor", "owner", "stranger")
WHO = (*NOBODY, "own", "other", "shared", "admin", "administrator", *USERS)
GUESTS = ("viewer", "editor", "owner")
WRONG = ({"x-api-key": ""}, {"authorization": "Bearer "})


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a route answers to each caller, for a resource of the network that users belong to.

    `device` are the device itself, another one, and a shared key; `admin` the admin key; `users`
    a viewer, an editor, an owner, and a stranger, to whom the network is a foreign one; `guests`
    anonymous callers with each role, for a resource of the network `default`.
    """

    device: tuple[int, int, int]
    admin: int
    users: tuple[int, int, int, int]
    guests: tuple[int, int, int]
    body: object = None
    # What only an account can do an administrator can do with his.
    of_account: bool = False
    # What the policy is asked; None: nothing, or for each element.
    action: Action | None = None
    # Without which it is no question.
    query: str = ""

    def status(self, who):
        if who in NOBODY:
            return 401
        expected = dict(zip(("own", "other", "shared"), self.device, strict=True))
        expected |= zip(USERS, self.users, strict=True)
        expected["admin"] = self.admin
        expected["administrator"] = self.users[2] if self.of_account else self.admin
        return expected[who]


READ = Rule((200, 404, 403), 200, (200, 200, 200, 404), (200, 200, 200), action=Action.READ)
# What is read of devices, shared keys read too.
READINGS = dataclasses.replace(READ, device=(200, 404, 200), action=Action.READ_READINGS)
LIST = Rule((403, 403, 403), 200, (200, 200, 200, 200), (200, 200, 200))
CONFIGURE = Rule(
    (403, 404, 403), 200, (403, 200, 200, 404), (403, 200, 200), action=Action.CONFIGURE
)
REMOVE = Rule((403, 404, 403), 204, (403, 403, 204, 404), (403, 403, 204), action=Action.REMOVE)
SEND = Rule((201, 404, 201), 201, (403, 201, 201, 404), (403, 201, 201), action=Action.SEND)
# Networks with their members, and nodes, are nothing for devices.
SEE = Rule((403, 403, 403), 200, (200, 200, 200, 404), (200, 200, 200), action=Action.VIEW)
MANAGE = Rule((403, 403, 403), 200, (403, 403, 200, 404), (403, 403, 200), action=Action.MANAGE)
ARRANGE = Rule((403, 403, 403), 200, (403, 200, 200, 404), (403, 200, 200), action=Action.EDIT)
OWN = Rule((403, 403, 403), 403, (200, 200, 200, 200), (403, 403, 403), of_account=True)


# Brokers ask with a key of their own, which is no other's.
BROKER = Rule((403, 403, 403), 200, (403, 403, 403, 403), (403, 403, 403), action=Action.ADMINISTER)
REGISTER = Rule((403, 403, 403), 201, (403, 201, 201, 404), (403, 201, 201), action=Action.EDIT)


def changed(rule, **members):
    return dataclasses.replace(rule, **members)


ANY_RULE = {"condition": {"attribute": "t", "above": 1}}
# By method and path as OpenAPI has them. In bodies and paths {device}, {network}, … are
# resources of the case's own.
MATRIX = {
    ("GET", "/devices"): LIST,
    ("POST", "/devices"): changed(
        REGISTER, body={"device_id": "{new}", "network_identifier": "{network}"}
    ),
    ("POST", "/devices/batch"): changed(
        REGISTER, body=[{"device_id": "{new}", "network_identifier": "{network}"}]
    ),
    ("GET", "/devices/{device_id}"): READINGS,
    ("PATCH", "/devices/{device_id}"): changed(CONFIGURE, body={"name": "x"}),
    ("DELETE", "/devices/{device_id}"): REMOVE,
    ("POST", "/devices/{device_id}/key"): CONFIGURE,
    ("DELETE", "/devices/{device_id}/key"): changed(
        CONFIGURE, admin=204, users=(403, 204, 204, 404), guests=(403, 204, 204)
    ),
    ("GET", "/devices/{device_id}/history"): READINGS,
    ("GET", "/devices/{device_id}/aggregate"): READINGS,
    ("GET", "/sensors"): LIST,
    ("POST", "/sensors"): changed(
        REGISTER, body={"sensor_name": "{new}", "network_identifier": "{network}"}
    ),
    ("GET", "/sensors/{identifier}"): READ,
    ("PUT", "/sensors/{identifier}"): changed(CONFIGURE, body={"configuration": {}}),
    ("PATCH", "/sensors/{identifier}"): changed(CONFIGURE, body={"name": "x"}),
    ("DELETE", "/sensors/{identifier}"): REMOVE,
    ("POST", "/sensors/{identifier}/configurations"): changed(
        CONFIGURE,
        admin=201,
        users=(403, 201, 201, 404),
        guests=(403, 201, 201),
        body={"configuration": {}},
    ),
    ("GET", "/sensors/{identifier}/configurations"): READ,
    ("GET", "/sensors/{identifier}/configurations/current"): READ,
    ("GET", "/sensors/{identifier}/measurements"): READ,
    ("GET", "/sensors/{identifier}/logs"): READ,
    ("GET", "/sensors/{identifier}/logs/aggregates"): READ,
    ("GET", "/sensors/{identifier}/aggregates"): READ,
    ("GET", "/sensors/{identifier}/heartbeats"): READ,
    ("GET", "/sensors/{identifier}/latest"): READ,
    ("GET", "/networks/{network_identifier}/latest"): SEE,
    ("GET", "/sensors/{identifier}/export"): READ,
    ("GET", "/retention"): LIST,
    ("GET", "/packed"): LIST,
    ("GET", "/sensors/{identifier}/packed"): READ,
    ("GET", "/sensors/{identifier}/retention"): READ,
    ("PUT", "/sensors/{identifier}/retention"): changed(
        CONFIGURE,
        users=(403, 403, 200, 404),
        guests=(403, 403, 200),
        body={"raw_days": 30},
        action=Action.REMOVE,
    ),
    ("GET", "/networks/{network_identifier}/retention"): SEE,
    ("PUT", "/networks/{network_identifier}/retention"): changed(MANAGE, body={"log_days": 30}),
    ("POST", "/networks/{network_identifier}/retention-preview"): changed(
        MANAGE, body={"log_days": 30}
    ),
    ("POST", "/ingest"): changed(SEND, body={"device_id": "{device}", "t": 1}),
    # Of a batch each element is answered for.
    ("POST", "/ingest/batch"): Rule(
        (201, 201, 201),
        201,
        (403, 201, 201, 201),
        (403, 201, 201),
        [{"device_id": "{device}", "t": 1}],
    ),
    ("POST", "/packets"): changed(SEND, body={"device_id": "{device}", "measurements": {"t": 1}}),
    # What is of no network of theirs is not in the list.
    ("GET", "/messages"): changed(LIST, device=(200, 200, 200)),
    ("GET", "/messages/{message_id}"): READINGS,
    ("GET", "/messages/{message_id}/payload"): READINGS,
    ("POST", "/messages/{message_id}/resubmit"): CONFIGURE,
    ("POST", "/messages/resubmit"): changed(LIST, guests=(403, 200, 200), body={}),
    ("POST", "/sensors/{identifier}/measurements"): changed(SEND, body={"value": 1}),
    ("POST", "/sensors/{identifier}/logs"): changed(
        SEND, body={"severity": "info", "subject": "x"}
    ),
    ("POST", "/sensors/{identifier}/heartbeats"): changed(SEND, body={}),
    ("GET", "/metrics"): BROKER,
    ("GET", "/rereadenv"): BROKER,
    ("GET", "/doctor"): BROKER,
    # Viewers and editors own nothing, so that there is nothing for them to read.
    ("GET", "/audit"): changed(LIST, guests=(403, 403, 200)),
    ("POST", "/broker/emqx/authentication"): changed(BROKER, body={"username": "x"}),
    ("POST", "/broker/emqx/authorization"): changed(
        BROKER, body={"username": "x", "topic": "x", "action": "publish"}
    ),
    **{
        (method, f"/broker/rabbitmq/{name}"): BROKER
        for method in ("GET", "POST")
        for name in ("user", "vhost", "resource", "topic")
    },
    ("GET", "/streams/{network_identifier}"): SEE,
    # A device is shown itself.
    ("GET", "/events"): changed(LIST, device=(200, 200, 403)),
    ("GET", "/networks"): LIST,
    ("POST", "/networks"): Rule(
        (403, 403, 403),
        201,
        (201, 201, 201, 201),
        (403, 403, 403),
        {"network_name": "{new}"},
        action=Action.ADD_NETWORK,
    ),
    ("GET", "/networks/{network_identifier}"): SEE,
    # The network `default`, which guests have their role in, keeps its name and stays.
    ("PUT", "/networks/{network_identifier}"): changed(
        MANAGE, guests=(403, 403, 403), body={"network_name": "{new}"}
    ),
    ("DELETE", "/networks/{network_identifier}"): changed(
        MANAGE, admin=204, users=(403, 403, 204, 404), guests=(403, 403, 403)
    ),
    ("GET", "/networks/{network_identifier}/sensors"): SEE,
    ("GET", "/networks/{network_identifier}/export"): SEE,
    ("POST", "/networks/{network_identifier}/configurations"): changed(
        REGISTER, body={"configuration": {}}
    ),
    ("GET", "/networks/{network_identifier}/members"): SEE,
    ("GET", "/networks/{network_identifier}/members/{username}"): SEE,
    ("PUT", "/networks/{network_identifier}/members/{username}"): changed(
        MANAGE, body={"role": "editor"}
    ),
    ("DELETE", "/networks/{network_identifier}/members/{username}"): changed(
        MANAGE, admin=204, users=(403, 403, 204, 404), guests=(403, 403, 204)
    ),
    ("GET", "/nodes"): LIST,
    ("POST", "/nodes"): changed(
        REGISTER,
        body={
            "serial_number": "{new}",
            "firmware_version": "1",
            "network_identifier": "{network}",
        },
    ),
    ("GET", "/nodes/{node_id}"): SEE,
    ("GET", "/nodes/{node_id}/full"): SEE,
    ("PUT", "/nodes/{node_id}"): changed(ARRANGE, body={"name": "x"}),
    ("PATCH", "/nodes/{node_id}"): changed(ARRANGE, body={"name": "x"}),
    ("DELETE", "/nodes/{node_id}"): changed(
        MANAGE, admin=204, users=(403, 403, 204, 404), guests=(403, 403, 204)
    ),
    ("POST", "/nodes/{node_id}/sensors"): changed(ARRANGE, body={"sensor_id": "{device}"}),
    ("DELETE", "/nodes/{node_id}/sensors/{sensor_id}"): changed(
        ARRANGE, admin=204, users=(403, 204, 204, 404), guests=(403, 204, 204)
    ),
    ("GET", "/rules"): LIST,
    ("POST", "/rules"): changed(
        REGISTER, body={**ANY_RULE, "name": "{new}", "network_identifier": "{network}"}
    ),
    ("GET", "/rules/{rule_id}"): SEE,
    ("PUT", "/rules/{rule_id}"): changed(ARRANGE, body={"for": 60}),
    ("PATCH", "/rules/{rule_id}"): changed(ARRANGE, body={"for": 60}),
    ("DELETE", "/rules/{rule_id}"): changed(
        MANAGE, admin=204, users=(403, 403, 204, 404), guests=(403, 403, 204)
    ),
    ("GET", "/rules/{rule_id}/test"): changed(SEE, query="?sensor={device}"),
    ("POST", "/rules/test"): changed(
        READ, body={**ANY_RULE, "name": "x"}, query="?sensor={device}"
    ),
    ("GET", "/channels"): LIST,
    ("POST", "/channels"): changed(
        REGISTER,
        body={
            "name": "{new}",
            "type": "email",
            "to": ["x@example.org"],
            "network_identifier": "{network}",
        },
    ),
    ("GET", "/channels/{channel_id}"): SEE,
    ("PUT", "/channels/{channel_id}"): changed(ARRANGE, body={"enabled": False}),
    ("PATCH", "/channels/{channel_id}"): changed(ARRANGE, body={"enabled": False}),
    ("DELETE", "/channels/{channel_id}"): changed(
        MANAGE, admin=204, users=(403, 403, 204, 404), guests=(403, 403, 204)
    ),
    # It is not sent: there is no mail server.
    ("POST", "/channels/{channel_id}/test"): ARRANGE,
    ("GET", "/actions"): LIST,
    ("GET", "/actions/{action_id}"): SEE,
    ("POST", "/actions/{action_id}/repeat"): ARRANGE,
    ("GET", "/alerts"): LIST,
    ("GET", "/alerts/{alert_id}"): SEE,
    ("POST", "/alerts/{alert_id}/acknowledge"): changed(ARRANGE, body={"comment": "x"}),
    ("POST", "/alerts/{alert_id}/clear"): ARRANGE,
    ("GET", "/silences"): LIST,
    ("POST", "/silences"): changed(
        REGISTER, body={"network_identifier": "{network}", "ends_at": SOON}
    ),
    ("GET", "/silences/{silence_id}"): SEE,
    ("PUT", "/silences/{silence_id}"): changed(ARRANGE, body={"comment": "x"}),
    ("DELETE", "/silences/{silence_id}"): changed(
        ARRANGE, admin=204, users=(403, 204, 204, 404), guests=(403, 204, 204)
    ),
    ("POST", "/networks/{network_identifier}/import-preview"): changed(
        ARRANGE, body={"table": "time,t\n2026-05-01T12:00:00Z,1\n"}
    ),
    ("GET", "/sensors/{identifier}/annotations"): READ,
    ("POST", "/sensors/{identifier}/annotations"): changed(
        CONFIGURE,
        admin=201,
        users=(403, 201, 201, 404),
        guests=(403, 201, 201),
        body={"text": "{new}", "start": 1},
    ),
    ("GET", "/sensors/{identifier}/annotations/{annotation_id}"): READ,
    ("PUT", "/sensors/{identifier}/annotations/{annotation_id}"): changed(
        CONFIGURE, body={"text": "x"}
    ),
    ("PATCH", "/sensors/{identifier}/annotations/{annotation_id}"): changed(
        CONFIGURE, body={"text": "x"}
    ),
    ("DELETE", "/sensors/{identifier}/annotations/{annotation_id}"): changed(
        CONFIGURE, admin=204, users=(403, 204, 204, 404), guests=(403, 204, 204)
    ),
    ("GET", "/networks/{network_identifier}/boards"): SEE,
    ("POST", "/networks/{network_identifier}/boards"): changed(REGISTER, body={"name": "{new}"}),
    ("GET", "/networks/{network_identifier}/boards/{board_id}"): SEE,
    ("PUT", "/networks/{network_identifier}/boards/{board_id}"): changed(
        ARRANGE, body={"name": "x"}
    ),
    ("DELETE", "/networks/{network_identifier}/boards/{board_id}"): changed(
        ARRANGE, admin=204, users=(403, 204, 204, 404), guests=(403, 204, 204)
    ),
    ("GET", "/users/me"): OWN,
    ("GET", "/users/me/sessions"): OWN,
    # One of somebody else's.
    ("DELETE", "/users/me/sessions/{session_id}"): changed(OWN, users=(404, 404, 404, 404)),
    ("PUT", "/users/me/password"): changed(
        OWN,
        users=(204, 204, 204, 204),
        body={"password": PASSWORD, "new_password": "another one"},
    ),
    ("DELETE", "/authentication"): changed(OWN, users=(204, 204, 204, 204)),
    ("POST", "/tickets"): changed(OWN, users=(201, 201, 201, 201)),
}
# For everybody: they have tests of their own.
UNASKED = {
    ("POST", "/users"),
    ("POST", "/setup"),
    ("GET", "/session"),
    ("POST", "/authentication"),
    *(("GET", path) for path in OPEN[:5]),
}
# A parameter of a path, and the resource that it names.
RESOURCES = {
    "identifier": "device",
    "device_id": "device",
    "sensor_id": "device",
    "node_id": "node",
    "rule_id": "rule",
    "channel_id": "channel",
    "action_id": "action",
    "network_identifier": "network",
    "username": "member",
    "message_id": "message",
    "alert_id": "alert",
    "silence_id": "silence",
    "annotation_id": "annotation",
    "board_id": "board",
    "session_id": "session",
}
UNKNOWN = {
    "device": ("nobody", str(uuid.UUID(int=0)), "a b", "%00"),
    "network": (str(uuid.UUID(int=0)), "x", "%00"),
    "node": (str(uuid.UUID(int=0)), "x", "%00"),
    "rule": (str(uuid.UUID(int=0)), "x", "%00"),
    "channel": (str(uuid.UUID(int=0)), "x", "%00"),
    "action": ("0", str(1 << 70), "x", "%00"),
    "member": ("nobody", "%00", "x" * 300),
    "message": ("1", "x", "%00"),
    "alert": ("0", "999999", "x", "%00"),
    "silence": (str(uuid.UUID(int=0)), "x", "%00"),
    "annotation": (str(uuid.UUID(int=0)), "x", "%00"),
    "board": (str(uuid.UUID(int=0)), "x", "%00"),
    "session": ("0" * 32, "x", "%00"),
}

# What a case may name, the outermost first; members have a test of their own.
FOREIGN = (
    "node",
    "rule",
    "device",
    "network",
    "channel",
    "action",
    "message",
    "alert",
    "silence",
    "annotation",
    "board",
)


def asked(path):
    """Return the resources that a path names, the outermost first."""
    return [RESOURCES[name] for name in re.findall(r"\{(\w+)\}", path)]


def mentions(rule, path, name):
    return name in asked(path) or f"{{{name}}}" in f"{rule.body}{rule.query}"


def filled(value, given):
    """Return a path or body with the names of the resources in place."""
    if isinstance(value, dict):
        return {name: filled(member, given) for name, member in value.items()}
    if isinstance(value, list):
        return [filled(member, given) for member in value]
    if not isinstance(value, str):
        return value
    return string.Template(re.sub(r"\{(\w+)\}", r"${\1}", value)).substitute(given)


def in_path(path, given):
    return filled(path, given | {name: given.get(kind) for name, kind in RESOURCES.items()})


async def rule_in(here, network):
    """Return the UUID of a new rule of a network."""
    identifier = str(uuid.uuid4())
    await here.services.store.rules.create(
        identifier=identifier,
        network_identifier=network,
        document=written({**ANY_RULE, "name": f"rule {identifier}"}),
        created_at=1,
    )
    return identifier


async def channel_in(here, network):
    """Return the UUID of a new channel of a network."""
    identifier = str(uuid.uuid4())
    name = f"channel {identifier}"
    definition = f'{{"name": "{name}", "type": "email", "enabled": true, "to": ["a@b.org"]}}'
    await here.services.store.channels.create(
        identifier=identifier,
        network=network,
        channel=ChannelDefinition(name, "email", True, definition, None),
        created_at=1,
    )
    return identifier


async def action_in(here, network):
    """Return the id of an action of a new rule's that has failed."""
    rule, store = await rule_in(here, network), here.services.store
    body = '{"sensor": 1, "identifier": "", "device_id": null, "members": {}}'
    entered = EnteredAction(rule, 0, 0, 1, 1, None, network, "sse", body, 1, 1, "failed", 1, "no")
    async with store.rule_states.turn() as turn:
        await turn.enter([entered])
    [action], _ = await store.actions.page(None, rule=rule, offset=0, limit=1)
    return str(action.id)


async def alert_in(here, network):
    """Return the id of a new alert of a network."""
    store = here.services.store
    # Of no rule, whose end would clear it.
    rule = f"rule {uuid.uuid4()}"[:20]
    new = NewAlert(rule, 0, network, "Too hot", "warning", "31 °C", now())
    async with store.engine.transaction() as transaction:
        [change] = await change_alerts(transaction, [new], now())
    return str(change.alert.id)


async def silence_in(here, network):
    """Return the UUID of a new silence in a network."""
    identifier = str(uuid.uuid4())
    new = Silence(
        identifier, network, None, None, None, now(), now() + HOUR, None, "somebody", now()
    )
    await here.services.store.silences.create(new, now())
    return identifier


async def annotation_in(here, device_id):
    """Return the UUID of a new annotation of a sensor."""
    identifier = str(uuid.uuid4())
    sensor = await here.services.store.sensors.find(device_id)
    new = Annotation(identifier, sensor.number, "Moved", now(), None, None, "somebody", 1, 1)
    await here.services.store.annotations.create(new)
    return identifier


async def session_of(here, account):
    """Return what a new session of an account is called."""
    await here.session(account)
    return (await here.services.store.accounts.sessions(account.identifier, now()))[0].identifier


async def board_in(here, network):
    """Return the UUID of a new board of a network."""
    identifier = str(uuid.uuid4())
    new = Board(identifier, network, "Lobby", [], "somebody", now(), now())
    await here.services.store.boards.create(new)
    return identifier


class World:
    """A server with users, and resources that are made anew for each case that changes something.

    Those that only read share theirs.
    """

    def __init__(self, here):
        self.here = here
        self.accounts = {}
        self.count = itertools.count(1)
        self.read = {}
        self.callers = {}

    async def fill(self):
        for name in (*USERS, "administrator"):
            self.accounts[name] = await self.here.account(name, is_admin=name == "administrator")
        self.networks = {
            "own": await self.network("own"),
            "foreign": await self.network("foreign"),
            "default": self.here.services.registry.default_network,
        }

    async def network(self, whose):
        members = {"viewer": "viewer", "editor": "editor", "owner": "owner"}
        foreign = {"stranger": "owner"}
        network = await self.here.network(
            f"network {next(self.count)}", **(members if whose == "own" else foreign)
        )
        # Whose owner lets shared keys in.
        await self.here.services.store.networks.change(network, shared_keys=whose == "own")
        await self.here.services.registry.changed()
        return network

    async def case(self, method, rule, path, whose):
        """Return the names of all that a request needs, and the device's key."""
        if method != "GET":
            return await self.new_case(rule, path, whose)
        of_device = mentions(rule, path, "device")
        kinds = *asked(path), of_device, path.rpartition("/")[2] == "current"
        if (whose, kinds) not in self.read:
            self.read[whose, kinds] = await self.new_case(rule, path, whose)
        return self.read[whose, kinds]

    async def new_case(self, rule, path, whose):
        number = next(self.count)
        given = {"new": f"new-{number}", "device": f"pump-{number}", "member": f"member-{number}"}
        given["network"] = self.networks[whose]
        # What is changed or deleted must not be what the next case needs.
        if path.endswith("{network_identifier}") and whose != "default":
            given["network"] = await self.network(whose)
        key = {}
        if any(mentions(rule, path, kind) for kind in ("device", "message", "node")):
            key = await self.here.device(given["device"], network_identifier=given["network"])
        if path.endswith("/current"):
            await self.configure(given["device"])
        if "node" in asked(path):
            given["node"] = await self.node(given, f"serial {number}")
        if "rule" in asked(path):
            given["rule"] = await rule_in(self.here, given["network"])
        if "channel" in asked(path):
            given["channel"] = await channel_in(self.here, given["network"])
        if "action" in asked(path):
            given["action"] = await action_in(self.here, given["network"])
        if "message" in asked(path):
            given["message"] = await self.rejected(given["device"], key)
        if "alert" in asked(path):
            given["alert"] = await alert_in(self.here, given["network"])
        if "silence" in asked(path):
            given["silence"] = await silence_in(self.here, given["network"])
        if "annotation" in asked(path):
            given["annotation"] = await annotation_in(self.here, given["device"])
        if "board" in asked(path):
            given["board"] = await board_in(self.here, given["network"])
        if "session" in asked(path):
            given["session"] = await session_of(self.here, await self.here.account(given["new"]))
        if mentions(rule, path, "member"):
            account = await self.here.account(given["member"])
            await self.here.services.store.networks.set_member(
                given["network"], account.identifier, 1, 1
            )
        return given, key

    async def configure(self, device_id):
        store = self.here.services.store
        sensor = await store.sensors.find(device_id)
        await store.configurations.add(sensor.number, "{}")

    async def rejected(self, device_id, key):
        """Return the id of a message of the device's that was rejected, and would be again."""
        path = f"/sensors/{device_id}/measurements"
        await self.here.http.post(path, json={"valu": {}}, headers=key)
        [message] = await self.here.services.store.rejected.list(limit=1)
        return str(message.id)

    async def node(self, given, serial_number):
        """Return the UUID of a new node, which carries the device of the case."""
        store, identifier = self.here.services.store, str(uuid.uuid4())
        await store.nodes.create(
            identifier=identifier,
            network_identifier=given["network"],
            serial_number=serial_number,
            created_at=1,
        )
        if sensor := await store.sensors.find(given["device"]):
            await store.sensors.change(sensor.number, node_identifier=identifier)
            await self.here.services.registry.changed()
        return identifier

    async def headers(self, who, key, rule=None, method=""):
        """Return the headers of a caller; `key` is the device's that the case is about."""
        if who == "own" and key:
            return key
        # What changes an account ends its sessions.
        is_ended = rule is not None and rule.of_account and method != "GET"
        if who not in self.callers or (is_ended and who in self.accounts):
            self.callers[who] = await self.new_headers(who)
        return self.callers[who]

    async def new_headers(self, who):
        if who in self.accounts:
            account = await self.here.services.store.accounts.find(self.accounts[who].identifier)
            return await self.here.session(account)
        if who in ("own", "other"):
            network = self.networks["own"]
            return await self.here.device(f"other-{who}", network_identifier=network)
        return {
            "none": {},
            "wrong key": {"x-api-key": "nobody's"},
            "wrong token": {"authorization": "Bearer nobody's"},
            "shared": SHARED,
            "admin": ADMIN,
        }[who]


async def routes(here):
    document = (await here.http.get("/openapi.json")).json()
    return {
        (method.upper(), path.removeprefix("/api/v1"))
        for path, operations in document["paths"].items()
        for method in operations
    }


async def test_the_matrix_has_every_route(site):
    async with site() as here:
        assert {*MATRIX, *UNASKED} == await routes(here)


NETWORK, DEFAULT = "network", "default"
OWN_DEVICE = UnknownSensor(1, NETWORK, ("device",), is_active=True)
OF_NETWORK = {Action.VIEW, Action.EDIT, Action.MANAGE}
PRINCIPALS = {
    "own": Principal("device", "device:own", sensor=1),
    "other": Principal("device", "device:other", sensor=2),
    "shared": Principal("shared", "shared:1", key_hash=b"1"),
    "admin": Principal("admin", "admin", Role.OWNER),
    "administrator": Principal("admin", "user:administrator", account="administrator"),
    **{name: Principal("user", f"user:{name}", account=name) for name in USERS},
}


def policy_allows(action, principal, *, network=NETWORK, everybody=Role.NONE):
    roles = zip(USERS, (Role.VIEWER, Role.EDITOR, Role.OWNER, Role.NONE), strict=True)
    grants = Grants(
        default_network=DEFAULT,
        everybody=everybody,
        open_networks=frozenset({DEFAULT}),
        sharing=frozenset({NETWORK, DEFAULT}),
        accounts={
            name: KnownAccount(Account(name, name, "", False, 0), {NETWORK: role})
            for name, role in roles
        },
    )
    sensor = OWN_DEVICE._replace(network_identifier=network)
    if action in (Action.ADMINISTER, Action.ADD_NETWORK):
        return may(principal, action, None, grants)
    return may(principal, action, network if action in OF_NETWORK else sensor, grants)


def test_every_route_answers_as_the_policy_says():
    compared = 0
    for (method, path), rule in MATRIX.items():
        if rule.action is None:
            continue
        for who, principal in PRINCIPALS.items():
            allowed = policy_allows(rule.action, principal)
            assert (rule.status(who) < 300) is allowed, (method, path, who)
        for status, role in zip(rule.guests, GUESTS, strict=True):
            everybody = Role[role.upper()]
            guest = Principal("anonymous", "anonymous", everybody)
            allowed = policy_allows(rule.action, guest, network=DEFAULT, everybody=everybody)
            # Nobody renames or deletes the network `default`.
            is_kept = path == "/networks/{network_identifier}" and rule.guests[2] == 403
            assert (status < 300) is (allowed and not is_kept), (method, path, role)
        compared += 1
    # The others list what the caller may see, are about an account, or answer for each element.
    assert compared > 55


async def test_who_may_what(site):
    async with site() as here:
        world = World(here)
        await world.fill()
        for number, ((method, path), rule) in enumerate(MATRIX.items()):
            given, key = await world.case(method, rule, path, "own")
            # Whoever is refused changes nothing, so that what they asked for is asked for again.
            for who in sorted(WHO, key=lambda who: rule.status(who) < 300):
                if rule.status(who) < 300:
                    given, key = await world.case(method, rule, path, "own")
                if who in world.accounts and rule.of_account and method == "PUT":
                    # The one that the last case has set.
                    await here.services.store.accounts.change_password(
                        world.accounts[who].identifier, world.accounts[who].password_hash
                    )
                headers = await world.headers(who, key, rule, method)
                asked_path = ("", "/api/v1")[number % 2] + in_path(path + rule.query, given)
                body = filled(rule.body, given)
                response = await here.http.request(method, asked_path, json=body, headers=headers)
                case = who, method, path, response.text
                assert response.status_code == rule.status(who), case
                if response.status_code >= 400:
                    check_error(response, who)


def check_error(response, who):
    assert set(response.json()) == {"detail", "code"}
    if response.status_code == 401:
        token = who == "wrong token"
        assert response.json() == {
            "detail": f"Invalid {'token' if token else 'API key'}",
            "code": "INVALID_TOKEN" if token else "INVALID_API_KEY",
        }
        assert response.headers["www-authenticate"]


async def test_shared_keys_find_nothing_where_no_owner_lets_them(site):
    async with site() as here:
        world = World(here)
        await world.fill()
        found = 0
        for (method, path), rule in MATRIX.items():
            if rule.device[2] >= 300 or not mentions(rule, path, "device"):
                continue
            given, _ = await world.case(method, rule, path, "foreign")
            body, asked_path = filled(rule.body, given), in_path(path + rule.query, given)
            response = await here.http.request(method, asked_path, json=body, headers=SHARED)
            if isinstance(rule.body, list):
                assert [each["code"] for each in response.json()["rejected"]] == ["UNKNOWN_SENSOR"]
            else:
                assert response.status_code == 404, (method, path)
            found += 1
        assert found >= 8


async def test_what_is_foreign_answers_exactly_as_what_is_not_there(site):
    async with site() as here:
        world = World(here)
        await world.fill()
        compared = 0
        for (method, path), rule in MATRIX.items():
            named = [name for name in FOREIGN if mentions(rule, path, name)]
            if not named:
                continue
            own, _ = await world.case(method, rule, path, "own")
            foreign, _ = await world.case(method, rule, path, "foreign")
            for who, kind in itertools.product(("own", "viewer", "editor", "owner"), named):
                headers = await world.headers(who, {})
                answers = []
                for name in (foreign[kind], *UNKNOWN[kind]):
                    if name == "%00" and kind not in asked(path):
                        continue  # a body is refused for what it holds
                    names = {**own, kind: name}
                    response = await here.http.request(
                        method,
                        in_path(path + rule.query, names),
                        json=filled(rule.body, names),
                        headers=headers,
                    )
                    answers.append((response.status_code, response.content))
                assert set(answers) == {answers[0]}, (who, method, path, answers)
                expected = rule.device[1] if who == "own" else rule.users[3]
                # Of two, the one inside is looked at only by those who may change the other.
                inside = kind != named[0] and who != "owner"
                assert answers[0][0] == expected or inside, (who, method, path, answers)
                compared += len(answers) - 1
        assert compared > 160


async def test_members_who_are_none_answer_like_users_who_are_none(site):
    async with site() as here:
        world = World(here)
        await world.fill()
        members = f"/networks/{world.networks['own']}/members"
        for who in ("owner", "administrator", "admin"):
            headers = await world.headers(who, {})
            for method in ("GET", "DELETE"):
                answers = [
                    await here.http.request(method, f"{members}/{name}", headers=headers)
                    for name in ("stranger", *UNKNOWN["member"])
                ]
                assert {answer.content for answer in answers} == {
                    b'{"detail":"Member not found","code":"MEMBER_NOT_FOUND"}'
                }, who
                assert {answer.status_code for answer in answers} == {404}, who


@pytest.mark.parametrize("role", GUESTS)
async def test_what_anonymous_roles_may_and_every_caller_at_least(site, role):
    async with site(anonymous_role=role) as here:
        world = World(here)
        await world.fill()
        stranger = await here.device("stranger", network_identifier=world.networks["foreign"])
        compared = 0
        for (method, path), rule in MATRIX.items():
            given, _ = await world.case(method, rule, path, "default")
            body, asked_path = filled(rule.body, given), in_path(path + rule.query, given)
            response = await here.http.request(method, asked_path, json=body)
            expected = rule.guests[GUESTS.index(role)]
            assert response.status_code == expected, (method, path, response.text)
            # Whoever names a key or token is not anonymous, even where those may do the most.
            for headers in WRONG if role == "owner" else ():
                wrong = await here.http.request(method, asked_path, json=body, headers=headers)
                assert wrong.status_code == 401, (method, path)
            for who in ("device", "shared", "stranger") if expected < 300 else ():
                given, _ = await world.case(method, rule, path, "default")
                headers = stranger if who == "device" else await world.headers(who, {})
                response = await here.http.request(
                    method,
                    in_path(path + rule.query, given),
                    json=filled(rule.body, given),
                    headers=headers,
                )
                assert response.status_code == expected, (who, method, path, response.text)
                compared += 1
        assert compared > 60


async def test_other_networks_are_hidden_from_anonymous_callers(site):
    async with site(anonymous_role="owner") as here:
        world = World(here)
        await world.fill()
        for (method, path), rule in MATRIX.items():
            given, _ = await world.case(method, rule, path, "foreign")
            if rule.users[3] != 404 or rule.of_account:
                continue
            body, asked_path = filled(rule.body, given), in_path(path + rule.query, given)
            response = await here.http.request(method, asked_path, json=body)
            assert response.status_code == 404, (method, path)
        listed = (await here.http.get("/networks")).json()
        assert [network["network_name"] for network in listed] == ["default"]


async def test_some_routes_are_for_everybody(site):
    async with site() as here:
        for path in [*OPEN, "/"]:
            for headers in [{}, {"x-api-key": "nobody's"}]:
                response = await here.http.get(path, headers=headers)
                assert response.status_code < 400, (path, headers)


async def test_wrong_keys_are_limited_and_right_ones_are_not(site):
    async with site(rate_limit_failed_logins=3) as here:
        key, user = await here.device("pump-1"), await here.user("ada")
        guesses = [
            await here.http.get("/devices", headers={"x-api-key": str(number)})
            for number in range(5)
        ]
        assert [guess.status_code for guess in guesses] == [401, 401, 401, 429, 429]
        assert int(guesses[-1].headers["retry-after"]) > 0
        token = await here.http.get("/devices", headers={"authorization": "Bearer x"})
        assert token.status_code == 429
        assert (await here.http.get("/devices/pump-1", headers=key)).status_code == 200
        assert (await here.http.get("/devices", headers=user)).status_code == 200


async def test_a_key_that_has_ended_is_forgotten_at_once(site):
    async with site() as here:
        key = await here.device("pump-1")
        for number in range(3):
            await here.http.post("/ingest", json={"t": number}, headers=key)
        await here.http.post("/devices/pump-1/key", headers=ADMIN)
        response = await here.http.post("/ingest", json={"t": 9}, headers=key)
        assert response.status_code == 401
