"""Mosquitto's dynamic-security plugin: the commands for it, and its control topic.

What is to change is planned by pure functions. 2.0.11 knows no `%u` in its rules, so that each
device has a role of its own. A client's description says by which key it was made, so that a
look is enough to see what is out of date.
"""

import base64
import hashlib
import json
import queue
import secrets
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from heliograph.broker_url import BrokerUrl
from heliograph.brokers.mosquitto import hash_password, parse
from heliograph.brokers.rules import FIGURES, AccessRules, ServerAccount
from heliograph.model.identifiers import is_uuid
from heliograph.store.brokers import DeviceAccess

SERVER_ROLE = "heliograph-server"
_MARK = "heliograph key "

Command = dict[str, Any]
RulesOf = Callable[[str], AccessRules]


class PluginState(NamedTuple):
    """The clients and roles that the plugin has, by their names, as it lists them."""

    clients: Mapping[str, Mapping[str, Any]]
    roles: Mapping[str, Mapping[str, Any]]


class PluginChanges(NamedTuple):
    """What brings the plugin up to date. `unknown` are devices whose key has to be told first."""

    commands: list[Command]
    unknown: list[str]


def device_acls(rules: AccessRules) -> list[dict[str, Any]]:
    """Return the rules of a device's role.

    The plugin hands over, unless told otherwise, whatever a client has managed to subscribe to;
    the last rule says no to that.
    """
    read = (*rules.read, *rules.common)
    return [
        *(_acl("publishClientSend", topic) for topic in rules.written),
        *(_acl("subscribeLiteral", topic) for topic in read),
        *(_acl("publishClientReceive", topic) for topic in read),
        _acl("publishClientReceive", "#", allow=False, priority=0),
    ]


def server_acls() -> list[dict[str, Any]]:
    """Return the rules of the server's role: everything but the control topics."""
    return [
        _acl("publishClientSend", "#"),
        _acl("publishClientReceive", "#"),
        _acl("subscribePattern", "#"),
        *(_acl("publishClientReceive", topic) for topic in FIGURES),
        *(_acl("subscribeLiteral", topic) for topic in FIGURES),
    ]


def plan(
    devices: Iterable[DeviceAccess],
    state: PluginState,
    keys: Mapping[str, str],
    rules_of: RulesOf,
    server: ServerAccount,
) -> PluginChanges:
    """Return the commands that make the plugin's state that of the registry.

    `keys` are the devices' keys that are at hand, by UUID: the plugin takes no hashes. A client
    whose key was replaced by one that is not at hand is disabled: the old one must not go on.
    Other clients and roles than those named by UUIDs stay as they are.
    """
    commands, unknown = _server_commands(state, server), []
    known: set[str] = set()
    for device in devices:
        name = device.identifier
        known.add(name)
        client = state.clients.get(name)
        found = None
        if device.is_active:
            commands += _role_commands(state, name, device_acls(rules_of(name)))
            found = _client_commands(device, client, keys.get(name))
            if found is None:
                unknown.append(device.device_id or name)
        if found is not None:
            commands += found
        elif client is not None and not client.get("disabled"):
            commands.append({"command": "disableClient", "username": name})
    for kind, member, names in (
        ("deleteClient", "username", state.clients),
        ("deleteRole", "rolename", state.roles),
    ):
        gone = [name for name in names if is_uuid(name) and name not in known]
        commands += [{"command": kind, member: name} for name in gone]
    return PluginChanges(commands, unknown)


def _client_commands(
    device: DeviceAccess, client: Mapping[str, Any] | None, key: str | None
) -> list[Command] | None:
    """Return what brings a client up to date; None: its key would be needed for that."""
    name, described = device.identifier, mark(device.key_hash)
    is_current = client is not None and client.get("textdescription") == described
    if key is None and not is_current:
        return None
    password = {"password": key, "textdescription": described}
    if client is None:
        return [_creation(name, name, password)]
    commands: list[Command] = []
    if not is_current:
        commands.append({"command": "modifyClient", "username": name, **password})
    commands += _role_given(client, name, name)
    if client.get("disabled"):
        commands.append({"command": "enableClient", "username": name})
    return commands


def _creation(name: str, role: str, members: Mapping[str, Any]) -> Command:
    roles = [{"rolename": role}]
    return {"command": "createClient", "username": name, **members, "roles": roles}


def _role_given(client: Mapping[str, Any], name: str, role: str) -> list[Command]:
    """Return what gives the client the role, if it does not have it."""
    if role in [given.get("rolename") for given in client.get("roles", [])]:
        return []
    return [{"command": "addClientRole", "username": name, "rolename": role}]


def _role_commands(state: PluginState, name: str, acls: list[dict[str, Any]]) -> list[Command]:
    role = state.roles.get(name)
    if role is None:
        return [{"command": "createRole", "rolename": name, "acls": acls}]
    if _comparable(role.get("acls", [])) != _comparable(acls):
        return [{"command": "modifyRole", "rolename": name, "acls": acls}]
    return []


def _server_commands(state: PluginState, server: ServerAccount) -> list[Command]:
    if server.password is None:
        return []
    commands = _role_commands(state, SERVER_ROLE, server_acls())
    client = state.clients.get(server.name)
    if client is None:
        return [*commands, _creation(server.name, SERVER_ROLE, {"password": server.password})]
    return [*commands, *_role_given(client, server.name, SERVER_ROLE)]


def plugin_file(
    existing: Mapping[str, Any],
    devices: Iterable[DeviceAccess],
    rules_of: RulesOf,
    server: ServerAccount,
) -> tuple[dict[str, Any], list[str]]:
    """Return the plugin's own file, for a broker that is about to start, and who is not in it.

    Unlike its commands its file takes hashes, so that no key is needed. Other clients and roles
    than those named by UUIDs, groups and defaults stay as they are.
    """
    clients = [c for c in existing.get("clients", []) if not is_uuid(c.get("username", ""))]
    roles = [r for r in existing.get("roles", []) if not is_uuid(r.get("rolename", ""))]
    unknown: list[str] = []
    if server.password is not None:
        roles = [r for r in roles if r.get("rolename") != SERVER_ROLE]
        roles.append({"rolename": SERVER_ROLE, "acls": server_acls()})
        if server.name not in [c.get("username") for c in clients]:
            hashed = hash_password(server.password)
            clients.append(_file_client(server.name, hashed, SERVER_ROLE))
    for device in devices:
        if not device.is_active:
            continue
        name = device.identifier
        client = _file_client(name, device.password or "", name)
        if "password" not in client:
            unknown.append(device.device_id or name)
            continue
        clients.append({**client, "textdescription": mark(device.key_hash)})
        roles.append({"rolename": name, "acls": device_acls(rules_of(name))})
    defaults = {
        "publishClientSend": False,
        "publishClientReceive": True,
        "subscribe": False,
        "unsubscribe": True,
    }
    document = {"defaultACLAccess": defaults, **existing, "clients": clients, "roles": roles}
    return document, unknown


def mark(key_hash: bytes) -> str:
    """Return the description of a client that was made by this key."""
    return _MARK + hashlib.sha256(key_hash).hexdigest()[:32]


def _file_client(name: str, hashed: str, role: str) -> dict[str, Any]:
    parts = parse(hashed)
    client: dict[str, Any] = {"username": name, "roles": [{"rolename": role}]}
    if parts is not None:
        client["password"] = base64.b64encode(parts.hashed).decode()
        client["salt"] = base64.b64encode(parts.salt).decode()
        client["iterations"] = parts.iterations
    return client


def _acl(kind: str, topic: str, *, allow: bool = True, priority: int = 1) -> dict[str, Any]:
    return {"acltype": kind, "topic": topic, "priority": priority, "allow": allow}


def _comparable(acls: Iterable[Mapping[str, Any]]) -> set[tuple[Any, ...]]:
    return {tuple(acl.get(n) for n in ("acltype", "topic", "priority", "allow")) for acl in acls}


TOPIC = "$CONTROL/dynamic-security/v1"
ANSWERS = f"{TOPIC}/response"
CONNECT_SECONDS = 10.0
# For a message of commands: each of them has the plugin write its whole file.
ANSWER_SECONDS = 60.0
COMMANDS_AT_ONCE = 50
PAGE = 500
_DOUBT = "is the plugin there, and this its administrator?"


class ControlError(Exception):
    """The plugin can't be asked, or refuses; one line says why and holds no secret."""


class ControlTopic:
    """A connection to the plugin, as a context manager; all of it blocks."""

    def __init__(
        self, broker: BrokerUrl, username: str, password: str, tls: ssl.SSLContext | None = None
    ) -> None:
        self._broker = broker
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue(maxsize=1_000)
        self._ready = threading.Event()
        self._problem: str | None = None
        self._client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5
        )
        client.username_pw_set(username, password)
        if tls is not None:
            client.tls_set_context(tls)
        client.connect_timeout = CONNECT_SECONDS
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_message = self._answered
        client.on_disconnect = self._lost

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            ControlError: there is no connection, or none of an administrator of the plugin.
        """
        try:
            self._client.connect(self._broker.host, self._broker.port)
        except (OSError, ValueError) as error:
            raise ControlError(f"{self._broker}: {error}") from None
        self._client.loop_start()
        if not self._ready.wait(CONNECT_SECONDS) or self._problem is not None:
            self._client.loop_stop()
            raise ControlError(f"{self._broker}: {self._problem or 'does not answer'}")
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def state(self) -> PluginState:
        """Return what the plugin has.

        Raises:
            ControlError: it does not say.
        """
        clients = {c["username"]: c for c in self._list("listClients", "clients")}
        return PluginState(clients, {r["rolename"]: r for r in self._list("listRoles", "roles")})

    def _list(self, command: str, member: str) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            asked = {"command": command, "verbose": True, "count": PAGE, "offset": offset}
            (answer,) = self.call([asked])
            page = answer.get("data", {}).get(member, [])
            yield from page
            offset += len(page)
            if not page or offset >= answer["data"].get("totalCount", 0):
                return

    def call(self, commands: Sequence[Command]) -> list[dict[str, Any]]:
        """Have the plugin do this, in pieces, and return an answer for each command.

        Raises:
            ControlError: it refuses one of them, or does not answer; those before are done.
        """
        answers: list[dict[str, Any]] = []
        for at in range(0, len(commands), COMMANDS_AT_ONCE):
            answers += self._call(commands[at : at + COMMANDS_AT_ONCE])
        return answers

    def _call(self, commands: Sequence[Command]) -> list[dict[str, Any]]:
        # Others' answers come under the same topic.
        sign = secrets.token_hex(8)
        marked = [{**c, "correlationData": f"{sign} {n}"} for n, c in enumerate(commands)]
        sent = self._client.publish(TOPIC, json.dumps({"commands": marked}), qos=1)
        if sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise ControlError(f"{self._broker}: the connection was lost")
        found: list[dict[str, Any]] = []
        while len(found) < len(commands):
            try:
                answer = self._answers.get(timeout=ANSWER_SECONDS)
            except queue.Empty:
                raise ControlError(f"{self._broker}: {TOPIC} does not answer; {_DOUBT}") from None
            found += [
                response
                for response in answer.get("responses", [])
                if str(response.get("correlationData", "")).startswith(sign)
            ]
            if "lost" in answer:
                raise ControlError(f"{self._broker}: the connection was lost")
        for response in found:
            if error := response.get("error"):
                raise ControlError(f"{response.get('command')}: {error}")
        return found

    # paho's thread

    def _connected(self, client: Any, _data: Any, _flags: Any, reason: Any, _more: Any) -> None:
        if reason.is_failure:
            self._problem = f"refused: {reason}".lower()
            self._ready.set()
        else:
            client.subscribe(ANSWERS, qos=1)

    def _subscribed(self, _client: Any, _data: Any, _mid: int, reasons: Any, _more: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self._problem = f"{ANSWERS}: not allowed; {_DOUBT}"
        self._ready.set()

    def _answered(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            answer = json.loads(message.payload)
        except ValueError:
            return
        if isinstance(answer, dict):
            self._keep(answer)

    def _lost(self, _client: Any, _data: Any, _flags: Any, _reason: Any, _more: Any) -> None:
        self._keep({"lost": True})

    def _keep(self, answer: dict[str, Any]) -> None:
        try:
            self._answers.put_nowait(answer)
        except queue.Full:
            # Nobody waits: others are talking to the plugin.
            self._answers.get_nowait()
            self._answers.put_nowait(answer)
