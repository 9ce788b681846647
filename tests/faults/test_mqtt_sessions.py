"""Clients of several servers on one PostgreSQL, of which one stands still and one is killed."""

import asyncio
import os
import random
import signal
import threading
import time

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from faults.process import ADMIN_KEY, ServerProcess, condition
from mqtt_client import PUBCOMP, PUBREC, PUBREL, Client, connect, kept, numbered, publish

CLIENTS = 20
MESSAGES = 6
SERVERS = 2
LONG = {"CLIENTS": 1_000, "MESSAGES": 12, "SERVERS": 3}
DEVICES = 20

# The program, which takes a server that is gone for that sooner.
BRIEF = """
from heliograph.cli.main import run
from heliograph.mqtt import keeping
keeping.LOOK_SECONDS = 0.2
keeping.LOOKS = 5
run()
"""


@pytest.fixture
async def start(postgresql_database, tmp_path):
    """Return a function that starts one more server."""
    servers = []

    async def start():
        folder = tmp_path / str(len(servers))
        folder.mkdir()
        (folder / "brief.py").write_text(BRIEF)
        server = ServerProcess(
            folder,
            postgresql_database.url,
            module="brief",
            AUTO_MIGRATE="false",
            MQTT_MAX_CONNECTIONS_PER_PRINCIPAL="0",
        )
        servers.append(server)
        await server.start()
        return server

    yield start
    for server in servers:
        await server.stop()


class Paho:
    """A client of paho's, with a session that goes on and a last will; all calls block."""

    def __init__(self, server, name, key):
        self.client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv5
        )
        self.client.username_pw_set(name, key)
        self.client.will_set(f"status/{name}", b"offline", qos=1)
        self.client.on_connect = self._connected
        self.client.on_disconnect = self._disconnected
        self.client.on_message = lambda _client, _data, message: self.got.append(message.payload)
        self.is_connected, self.is_ended = threading.Event(), threading.Event()
        self.session_present = None
        self.reason = None
        self.got = []
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 600
        self.client.connect("127.0.0.1", server.mqtt_port, clean_start=False, properties=properties)
        self.client.loop_start()
        assert self.is_connected.wait(30)

    def _connected(self, _client, _data, flags, reason, _properties):
        assert not reason.is_failure, reason
        self.session_present = flags.session_present
        self.is_connected.set()

    def _disconnected(self, client, _data, _flags, reason, _properties):
        self.reason = reason.value
        # It would connect again by itself.
        client.disconnect()
        self.is_ended.set()

    def publish(self, topic, payload, qos):
        self.client.publish(topic, payload, qos).wait_for_publish(30)

    def subscribe(self, topic):
        done = threading.Event()
        self.client.on_subscribe = lambda *_: done.set()
        self.client.subscribe(topic, 1)
        assert done.wait(30)

    def end(self):
        self.client.loop_stop()


class Swarm:
    """Clients that send in QoS 2, and connect anew at random, to any server, between two steps."""

    def __init__(self, servers, keys):
        self.servers = servers
        self.keys = keys
        self.completed = 0
        self.falsely_absent = []

    async def run(self):
        await asyncio.gather(*(self._send(number) for number in range(CLIENTS)))

    async def _connect(self, number, seen):
        """Return a connection, whichever server takes it."""
        name = f"device-{number % DEVICES}"
        while True:
            server = random.choice(self.servers)
            try:
                async with asyncio.timeout(20):
                    client = await Client.open(server.mqtt_port)
                    client.send(connect(f"client-{number}", name, self.keys[name], **kept(4)))
                    answer = await client.packet()
            except (OSError, TimeoutError):
                answer = b""
            if answer[:1] == b"\x20" and answer[2] == 0:
                if seen and not answer[1]:
                    self.falsely_absent.append(number)
                return client
            await asyncio.sleep(0.2)

    async def _send(self, number):
        client = await self._connect(number, seen=False)
        for count in range(MESSAGES):
            topic, packet_id = f"measurements/device-{number % DEVICES}", count + 1
            # Without a time, so that whatever came twice would be stored twice.
            payload = b'{"value": %d}' % (number * MESSAGES + count)
            is_received, dup = False, False
            while True:
                if is_received:
                    client.send(numbered(PUBREL, packet_id))
                else:
                    message = publish(topic, payload, qos=2, packet_id=packet_id, dup=dup)
                    client.send(message)
                    dup = True
                leaves = random.random() < 0.3
                if leaves and random.random() < 0.5:
                    answer = b""
                else:
                    try:
                        answer = await client.packet(20)
                    except TimeoutError:
                        answer = b""
                if answer[:1] == bytes([PUBREC]):
                    is_received = True
                elif answer[:1] == bytes([PUBCOMP]):
                    break
                if leaves or not answer:
                    await client.abort()
                    client = await self._connect(number, seen=True)
            self.completed += 1
        await client.close()


async def test_every_message_is_stored_once_while_a_server_is_killed(start, postgresql_database):
    servers = [await start() for _ in range(SERVERS)]
    keys = {f"device-{at}": await servers[0].device(f"device-{at}") for at in range(DEVICES)}
    swarm = Swarm(servers, keys)
    running = asyncio.create_task(swarm.run())
    await condition(lambda: swarm.completed > CLIENTS * MESSAGES // 4)
    servers[-1].kill()
    await servers[-1].ended()
    await condition(lambda: swarm.completed > CLIENTS * MESSAGES // 2)
    await servers[-1].start()
    await running
    stored = postgresql_database.column("SELECT value FROM measurement")
    wanted = range(CLIENTS * MESSAGES)
    assert sorted(map(int, stored)) == list(wanted)
    assert swarm.falsely_absent == []


async def test_who_stands_still_or_is_killed_loses_its_clients_to_others(
    start, postgresql_database
):
    one, two = await start(), await start()
    names = ("moves", "stopped", "killed", "left")
    keys = {name: await one.device(name) for name in names}
    gone = [
        await asyncio.to_thread(Paho, one, name, keys[name])
        for name in ("stopped", "killed", "left")
    ]
    clients = [*gone]

    def statuses():
        return postgresql_database.column(
            "SELECT device_id || ' ' || coalesce(status, '') || ' ' || connection_open FROM sensor"
            " ORDER BY device_id"
        )

    try:
        stopped, killed, _ = gone
        # A take-over, by the whole program's own means.
        first = await asyncio.to_thread(Paho, one, "moves", keys["moves"])
        await asyncio.to_thread(first.subscribe, "commands")
        began = time.monotonic()
        second = await asyncio.to_thread(Paho, two, "moves", keys["moves"])
        clients += [first, second]
        assert await asyncio.to_thread(first.is_ended.wait, 1)
        assert first.reason == 0x8E
        assert second.session_present
        assert time.monotonic() - began < 2
        # One that stands still does not keep its clients.
        os.kill(one.process.pid, signal.SIGSTOP)
        try:
            again = await asyncio.to_thread(Paho, two, "stopped", keys["stopped"])
            clients.append(again)
            assert again.session_present
            # What it reads when it goes on comes too late.
            stopped.client.publish("measurements/stopped", b'{"value": 1}', 1)
            await asyncio.to_thread(again.publish, "measurements/stopped", b'{"value": 2}', 1)
        finally:
            os.kill(one.process.pid, signal.SIGCONT)
        assert await asyncio.to_thread(stopped.is_ended.wait, 5)
        assert stopped.reason == 0x8E
        assert postgresql_database.column("SELECT value FROM measurement") == ["2"]
        assert "stopped  true" in statuses()
        # What is owed to one whose server is killed is owed to it all the same.
        await asyncio.to_thread(killed.subscribe, "measurements/killed")
        one.kill()
        await one.ended()
        admin = await Client.connected(two.mqtt_port, "admin", "admin", ADMIN_KEY)
        admin.send(publish("measurements/killed", b'{"value": 3}'))
        assert (await admin.packet())[0] == 0x40
        back = await asyncio.to_thread(Paho, two, "killed", keys["killed"])
        clients.append(back)
        assert back.session_present
        await condition(lambda: back.got)
        await condition(lambda: any(each.startswith("left offline") for each in statuses()))
        # Of those who have come back no will is published.
        assert [each.split()[0] for each in statuses() if "offline" in each] == ["left"]
        assert len(back.got) == 1
    finally:
        for client in clients:
            await asyncio.to_thread(client.end)
