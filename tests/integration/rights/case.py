"""Somebody with rights, and the sensor that he is to lose.

A user or an administrator, and whoever has a shared key, has another sensor that he keeps. A device
has itself alone, and so has a gateway: who is a device over MQTT by a shared key.
"""

import contextlib
import dataclasses
import itertools
import json
import uuid
from typing import Any, NamedTuple

from argon2 import PasswordHasher

from heliograph.model.credentials import hash_key, new_token
from heliograph.model.principal import Role
from heliograph.model.time import now
from mqtt_client import PINGREQ, Client, connect, kept, published
from server import SHARED_KEY, eventually

PASSWORD, NEW_PASSWORD = "12345678", "another password"
_hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
# As good hashes as any others, at a thousandth of the cost.
HASH, NEW_HASH = _hasher.hash(PASSWORD), _hasher.hash(NEW_PASSWORD)
SESSION_MICROSECONDS = 3_600_000_000


class Seen(NamedTuple):
    """What has come: of the sensor whose rights end, of the other one, and the flow's end."""

    lost: bool
    kept: bool
    ended: bool


@dataclasses.dataclass
class Sensor:
    """A registered sensor: its names, its key, and its internal number."""

    identifier: str
    device_id: str
    key: str
    number: int


class World:
    """The server, a client of its port, and how a case begins there.

    With an `other` server on the same database rights end there, and data flows here.
    """

    def __init__(self, server, port, http):
        self.server = server
        self.port = port
        self.http = http
        self.other = None
        self.count = itertools.count(1)
        # The flows that have come as a whole without an end: each of these kinds of case.
        self.seen_whole = set()

    async def network(self, name):
        made = await self.server.store.networks.create(
            identifier=str(uuid.uuid4()), name=name, created_at=now(), owner=None
        )
        return made.identifier

    async def sensor(self, name, network):
        body = {"device_id": name, "network_identifier": network}
        made = (await self.server.http.post("/devices", json=body)).json()
        sensor = await self.server.services.registry.find(name)
        return Sensor(made["sensor_identifier"], name, made["api_key"], sensor.number)

    async def member(self, username, *networks, is_admin=False):
        """Make an account that is an editor of these networks."""
        store = self.server.store
        made = await store.accounts.create(
            identifier=str(uuid.uuid4()),
            username=username,
            password_hash=HASH,
            created_at=now(),
            is_admin=is_admin,
        )
        for network in networks:
            await store.networks.set_member(network, made.identifier, Role.EDITOR, now())
        return made

    async def session(self, account):
        """Log in, without the cost of it; return the token."""
        token, moment = new_token(), now()
        assert await self.server.store.accounts.open_session(
            hash_key(token),
            account,
            purpose="session",
            created_at=moment,
            expires_at=moment + SESSION_MICROSECONDS,
        )
        return token

    async def end(self, case, act):
        """Have a right end, and wait until this server knows that."""
        if self.other is None:
            await act(case)
            return
        here = case.server, case.http
        case.server, case.http = self.other.server, self.other.http
        try:
            await act(case)
        finally:
            case.server, case.http = here
        registries = [world.server.services.registry for world in (self, self.other)]
        # Well within the second after which it would look by itself.
        await eventually(lambda: registries[0]._change == registries[1]._change, 10)

    async def case(self, holder, *, together):
        """Return a case of its own; `together`: what is kept is in the network of what is lost."""
        name = f"{holder}-{next(self.count)}"
        case = Case(self, name)
        case.roof = await self.network(f"{name}-roof")
        case.cellar = case.roof if together else await self.network(f"{name}-cellar")
        case.attic = await self.network(f"{name}-attic")
        case.lost = await self.sensor(f"{name}-lost", case.roof)
        case.sees_all = holder in ("user", "administrator")
        if holder in ("shared", "gateway"):
            for network in {case.roof, case.cellar}:
                await case.admin("PUT", f"/networks/{network}", {"shared_keys": True})
        if case.sees_all or holder == "shared":
            case.kept = await self.sensor(f"{name}-kept", case.cellar)
        if case.sees_all:
            is_admin = holder == "administrator"
            case.account = await self.member(name, case.roof, case.cellar, is_admin=is_admin)
            case.token = await self.session(case.account)
            case.headers = {"authorization": f"Bearer {case.token}"}
            case.login, case.login_after = ("x", case.token), (name, PASSWORD)
        else:
            key = case.lost.key if holder == "device" else SHARED_KEY
            case.headers = {"x-api-key": key}
            case.login = case.login_after = (case.lost.device_id, key)
        await self.server.services.registry.changed()
        return case


class Case:
    """Who has rights, the sensor that he is to lose, and perhaps another one that he keeps."""

    lost: Sensor
    kept: Sensor | None = None

    def __init__(self, world, name):
        self.world = world
        self.server = world.server
        self.http = world.http
        self.name = name
        self.ending = contextlib.ExitStack()

    @property
    def sensors(self):
        return [self.lost] if self.kept is None else [self.lost, self.kept]

    async def admin(self, method, path, body=None):
        """Do what only somebody with every right may."""
        answer = await self.server.http.request(method, path, json=body)
        assert answer.is_success, answer.text

    async def ask(self, method, path, **options):
        """Return the answer to the holder, over a real connection."""
        headers = {**self.headers, **options.pop("headers", {})}
        return await self.http.request(method, path, headers=headers, **options)

    async def say(self, text, *, rows=1):
        """Have the sensors say something in one commit, what is to be lost first."""
        moment = now() / 1e6 - rows
        body = [
            {
                "device_id": sensor.identifier,
                "timestamp": moment + row,
                "metrics": {"said": said(sensor, text) if row == rows - 1 else row},
            }
            for sensor in self.sensors
            for row in range(rows)
        ]
        answer = await self.server.http.post("/ingest/batch", json=body)
        assert answer.status_code == 201, answer.text

    async def configure(self, text):
        """Give the sensors a new configuration each, and wait until those are published."""
        configured = []
        for sensor in self.sensors:
            body = {"configuration": {"said": said(sensor, text)}}
            path = f"/sensors/{sensor.identifier}/configurations"
            answer = await self.server.http.post(path, json=body)
            known = await self.server.services.registry.find(sensor.identifier)
            if answer.is_success and known.is_active:  # others are published to nobody
                configured.append(sensor)
        await eventually(lambda: self._are_published(configured))

    async def _are_published(self, sensors):
        configurations = self.server.store.configurations
        for sensor in sensors:
            page = await configurations.page(
                sensor.number, revision=None, direction="previous", limit=1
            )
            if page and page[-1].publication_timestamp is None:
                return False
        return True

    def last(self, text):
        """Return what comes last of what is said."""
        return said(self.sensors[-1], text)

    def seen(self, data, text, *, ended):
        """Return what of it is in the bytes or text that came."""
        data = data if isinstance(data, str) else data.decode()
        kept = self.kept is not None and said(self.kept, text) in data
        return Seen(said(self.lost, text) in data, kept, ended)

    async def stored(self, text):
        """Return what of it has been stored, by whatever way it was sent."""
        data = ""
        for sensor in self.sensors:
            rows = await self.server.store.measurements.page(
                sensor.number, key=None, direction="next", limit=1_000
            )
            data += "".join(bytes(row.value).decode() for row in rows)
        return self.seen(data, text, ended=False)

    def reading(self, sensor, text):
        """Return a reading that the holder may send as the sensor."""
        return {"device_id": sensor.identifier, "metrics": {"said": said(sensor, text)}}

    async def connect(self, name, login=None, *, keeps=False, will=None) -> Client | None:
        """Return an MQTT connection; None: it is refused."""
        client = await Client.open(self.server.port)
        options: dict[str, Any] = kept(4) if keeps else {}
        client_id = f"{self.name}-{name}"
        client.send(connect(client_id, *(login or self.login), will=will, **options))
        answer = await client.packet()
        return client if answer and answer[2] == 0 else None


def said(sensor, text):
    """Return what a sensor says, which no other one does."""
    return f"{text} of {sensor.device_id}"


async def heard(client, *, last=None, acknowledging=True):
    """Return the payloads that come, and whether the connection has ended.

    All up to the one with `last` or, without one, all that was sent before a ping's answer.
    """
    payloads = b""
    if last is None:
        client.send(PINGREQ)
    while answer := await client.packet(10):
        if answer == b"\xd0":
            return payloads, False
        if answer[0] >> 4 != 3:
            continue
        message = published(answer)
        payloads += message.payload
        if message.qos and acknowledging:
            client.send(b"\x40\x02" + message.packet_id.to_bytes(2, "big"))
        if last is not None and last.encode() in message.payload:
            return payloads, False
    return payloads, True


def as_json(value):
    return json.dumps(value).encode()
