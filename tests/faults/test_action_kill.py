"""`kill -9` of the server while it runs what rules have begun: each at least once, none forgotten.

HELIOGRAPH_KILLS is the number of kills a run, HELIOGRAPH_ACTIONS that of actions.
"""

import asyncio
import collections
import contextlib
import json
import os
import random
import time

import httpx

from faults.process import ADMIN, condition
from heliograph.model.actions import idempotency_key
from mqtt_client import Client, numbered, published, subscribe
from receiver import OK

KILLS = int(os.environ.get("HELIOGRAPH_KILLS", "3"))
ACTIONS = int(os.environ.get("HELIOGRAPH_ACTIONS", "300"))
LONG = {"KILLS": 100, "ACTIONS": 10_000}
SECONDS = 1_800
DEVICES = 5
# What the database has of actions: what makes their key, and how often they were begun.
BEGUN = """
SELECT rule || ' ' || position || ' ' || type || ' ' || sensor || ' ' || timestamp || ' '
    || fingerprint || ' ' || attempts || ' ' || state || ' ' || COALESCE(error, '')
FROM action
"""


class Receivers:
    """A webhook and a subscriber, which keep the key and the content of all that arrives."""

    def __init__(self):
        # By way and key: what it was about, as often as it came.
        self.received = collections.defaultdict(list)
        self.on_progress = lambda: None
        self.port = 0

    def count(self):
        return sum(map(len, self.received.values()))

    async def post(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:-2])
            body = json.loads(await reader.readexactly(int(headers["content-length"])))
            assert body["idempotency_key"] == headers["idempotency-key"]
            self._keep("webhook", body)
            writer.write(OK)
            await writer.drain()
        writer.close()

    async def subscribe(self, client):
        while raw := await client.packet(SECONDS):
            message = published(raw)
            self._keep("mqtt", json.loads(message.payload))
            client.send(numbered(0x40, message.packet_id))

    def _keep(self, way, body):
        about = body["sensor"]["device_id"], body["timestamp"], body["rule"]["occasion"]
        self.received[way, body["idempotency_key"]].append(about)
        self.on_progress()


@contextlib.asynccontextmanager
async def receiving(broker):
    receivers = Receivers()
    server = await asyncio.start_server(receivers.post, "127.0.0.1", 0)
    receivers.port = server.sockets[0].getsockname()[1]
    client = await Client.connected(broker.port, "receiver")
    client.send(subscribe("commands"))
    assert (await client.packet())[0] == 0x90
    task = asyncio.create_task(receivers.subscribe(client), name="subscriber")
    try:
        yield receivers
    finally:
        task.cancel()
        await client.close()
        server.close()


def rule(port):
    """Return a rule that posts and publishes each time it raises and clears, and stores some."""
    both = [
        {"type": type_, "on": on, **where}
        for on in ("raised", "cleared")
        for type_, where in (
            ("webhook", {"url": f"http://127.0.0.1:{port}/"}),
            ("mqtt", {"topic": "commands"}),
        )
    ]
    # From the broker it comes back to us, and a repeat is known by its id.
    stored = {"value": "{{timestamp}} {{sensor.device_id}}", "id": "{{idempotency_key}}"}
    relayed = {"type": "mqtt", "topic": "measurements/relay", "payload": stored}
    return {
        "name": "Hot",
        "match": {"sensors": [f"probe-{n}" for n in range(DEVICES)]},
        "condition": {"attribute": "t", "above": 30},
        "actions": [*both, relayed],
    }


def readings():
    """Return readings of which each raises or clears: two actions each, and one for each raise."""
    start = int(time.time()) - 86_400
    count = ACTIONS // (5 * DEVICES)
    return [
        {"device_id": f"probe-{device}", "timestamp": start + n, "metrics": {"t": 31 - n % 2 * 10}}
        for n in range(2 * count)
        for device in range(DEVICES)
    ]


async def send(server, everything, receivers):
    """Post it in parts, each until it is answered, as what follows from them arrives."""
    size = max(len(everything) // (2 * KILLS), DEVICES)
    async with server.client() as http:
        for begin in range(0, len(everything), size):
            # As far as it arrives: what a killed server had claimed may come much later.
            with contextlib.suppress(AssertionError):
                await condition(lambda at=begin: receivers.count() >= 2 * at, 0.5)
            while True:
                try:
                    answer = await http.post("/ingest/batch", json=everything[begin : begin + size])
                except httpx.TransportError:
                    await asyncio.sleep(0.02)
                    continue
                assert answer.status_code == 201, answer.text
                assert answer.json()["rejected"] == []
                break


class Killer:
    """Kills the server at random points of what arrives, and starts it again."""

    def __init__(self, server, receivers, total):
        self.kills = 0
        self._server = server
        self._receivers = receivers
        self._total = total
        self._killed = asyncio.Event()
        self._choose()
        receivers.on_progress = self._progress

    async def run(self):
        while True:
            await self._killed.wait()
            await self._server.ended()
            await self._server.start()
            self.kills += 1
            self._killed.clear()
            self._choose()

    def _choose(self):
        arrived = len(self._receivers.received)
        gap = random.uniform(0.2, 1.5) * (self._total - arrived) / (KILLS - self.kills + 1)
        self._point = arrived + max(1, int(gap))
        if arrived >= self._total and self.kills < KILLS:
            # Nothing will arrive by which it could be killed.
            self._kill()

    def _progress(self):
        # Of what comes again none counts: what ends the server each time that it comes is parked.
        arrived = len(self._receivers.received)
        if self._killed.is_set() or self.kills >= KILLS or arrived < self._point:
            return
        # Sometimes before it is answered, sometimes somewhere between that and what is noted of it.
        if random.random() < 0.5:
            self._kill()
        else:
            asyncio.get_running_loop().call_later(random.uniform(0, 0.03), self._kill)
        self._point = 1 << 62

    def _kill(self):
        self._server.kill()
        self._killed.set()


async def test_kills_while_actions_run(make_linked, database, broker):
    everything = readings()
    # Raised and cleared, by both ways; what is stored besides is counted in the database.
    expected = {
        (each["device_id"], each["timestamp"], "raised" if each["metrics"]["t"] > 30 else "cleared")
        for each in everything
    }
    raises = sum(each["metrics"]["t"] > 30 for each in everything)
    total = 2 * len(expected)
    async with receiving(broker) as receivers:
        server = await make_linked(broker.url, WEBHOOK_ALLOW="127.0.0.1", PROCESSING_INTERVAL="0.2")
        for device in (*(f"probe-{n}" for n in range(DEVICES)), "relay"):
            await server.device(device)
        async with server.client() as http:
            made = await http.post("/rules", json=rule(receivers.port), headers=ADMIN)
            assert made.status_code == 201, made.text
        killer = Killer(server, receivers, total)
        killing = asyncio.create_task(killer.run(), name="killer")

        def all_arrived():
            return killer.kills >= KILLS and len(receivers.received) >= total

        def all_noted():
            waiting = "SELECT COUNT(*) FROM action WHERE state = 'pending'"
            relayed = "SELECT COUNT(*) FROM measurement m JOIN sensor s ON s.number = m.sensor"
            return database.column(waiting) == ["0"] and database.column(
                f"{relayed} WHERE s.device_id = 'relay'"
            ) == [str(raises)]

        try:
            await send(server, everything, receivers)
            await condition(all_arrived, SECONDS, "all actions run")
            await condition(all_noted, SECONDS, "all actions noted")
        finally:
            killing.cancel()
        await server.stop()

    received = receivers.received
    # A key says what an action is: always of the same, and never of another.
    for way in ("webhook", "mqtt"):
        about = [set(found) for (by, _), found in received.items() if by == way]
        assert all(len(each) == 1 for each in about)
        assert len(about) == len(expected)
        found = {(name, at, occasion) for each in about for name, at, occasion in each}
        assert {(name, _seconds(at), occasion) for name, at, occasion in found} == expected
    begun = {}
    for line in database.column(BEGUN):
        rule_id, position, type_, sensor, at, fingerprint, attempts, *state = line.split(" ", 8)
        assert state == ["done", ""]
        key = idempotency_key(rule_id, int(position), type_, int(sensor), int(at), int(fingerprint))
        begun[key] = int(attempts)
    assert len(begun) == total + raises
    # Nothing came more often than is noted.
    repeats = [(key, len(found)) for (_, key), found in received.items() if len(found) > 1]
    assert all(count <= begun[key] for key, count in repeats)
    counted = sum(attempts - 1 for attempts in begun.values())
    came_again = sum(count - 1 for _, count in repeats)
    print(
        f"{database.engine}: {killer.kills} kills, {len(begun)} actions, {receivers.count()}"
        f" arrived, {came_again} came again, {counted} begun again, 0 forgotten"
    )


def _seconds(at):
    return int(time.mktime(time.strptime(at, "%Y-%m-%dT%H:%M:%S.%fZ")) - time.timezone)
