"""Several workers, of which one is killed and one stands still: nothing lost, nothing twice.

HELIOGRAPH_WORKERS is their number, HELIOGRAPH_READINGS that of the readings, HELIOGRAPH_STANDS for
how many seconds one stands still, HELIOGRAPH_SAME how often the same is sent to all.
"""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import time
from functools import partial
from operator import itemgetter

import httpx
import pytest

from faults.database import check_once, values
from faults.http_sender import HttpSender
from faults.process import ADMIN_KEY, condition
from faults.sender import Sender, identified, timed, untimed
from faults.watching import (
    ConfigurationViewer,
    SocketViewer,
    StreamViewer,
    SubscriptionViewer,
    Viewer,
)
from faults.workers import AUDIT, Workers
from mqtt_client import Client, publish

WORKERS = int(os.environ.get("HELIOGRAPH_WORKERS", "2"))
READINGS = int(os.environ.get("HELIOGRAPH_READINGS", "600"))
STANDS = float(os.environ.get("HELIOGRAPH_STANDS", "0"))
SAME = int(os.environ.get("HELIOGRAPH_SAME", "30"))
LONG = {"WORKERS": 4, "READINGS": 20_000, "STANDS": 40.0, "SAME": 1_000}
SECONDS = 240
PATIENCE = 5.0
REVISION_SECONDS = 0.2
# Of each of three that publish; 16 post one at a time. All share an event loop with those who
# watch, and while that is busy each of its turns brings what a window holds. With more in all than
# the 64 of a subscriber these fall behind for good, and lose what is over their bound.
WINDOW = 14
DROPPED = "heliograph_mqtt_dropped_messages_total"
DAY = 86_400
DUE = 20
FAULTS = 2
# Attempts to be connected to the worker that is meant, whichever accepts.
TRIES = 400


@pytest.fixture
async def start(postgresql_database, tmp_path):
    """Return a function that starts the workers."""
    servers = []

    async def start(**variables):
        server = Workers(
            tmp_path,
            postgresql_database,
            WORKERS,
            AUTO_MIGRATE="false",
            RETENTION_DAYS="1",
            MAX_STREAMS_PER_PRINCIPAL="100",
            **variables,
        )
        servers.append(server)
        await server.start()
        return server

    yield start
    for server in servers:
        if server.is_running():
            for worker in server.workers():
                os.kill(worker, signal.SIGCONT)
        await server.stop()


class Load:
    """Devices that send over MQTT and HTTP until all is acknowledged, a round after another."""

    def __init__(self, server):
        self.server = server
        self.senders = {}

    async def round(self, name, count, meanwhile=None):
        """Send so many; `meanwhile` is called once half of it is acknowledged."""
        each, start = count // 5, time.time() - 3_600
        makes = {"timed": timed, "identified": identified, "untimed": untimed}
        senders = {}
        for kind, make in makes.items():
            device = f"{kind}-{name}"
            key = await self.server.device(device)
            messages = make(device, each, start) if make is timed else make(device, each)
            senders[device] = Sender(
                self.server.mqtt_port, device, key, messages, window=WINDOW, patience=PATIENCE
            )
        for kind in ("posted", "keyed"):
            device = f"{kind}-{name}"
            key = await self.server.device(device)
            senders[device] = HttpSender(
                self.server.port, key, each, idempotent=kind == "keyed", patience=PATIENCE
            )
        half = asyncio.Event()

        def progress(_count):
            if sum(len(sender.acknowledged) for sender in senders.values()) >= count // 2:
                half.set()

        for sender in senders.values():
            sender.on_progress = progress
        self.senders |= senders
        async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
            for sender in senders.values():
                tasks.create_task(sender.run())
            if meanwhile is not None:
                await half.wait()
                meanwhile()

    @property
    def expected(self):
        return [
            (device, number)
            for device, sender in self.senders.items()
            for number in range(len(sender.values))
        ]


class Revisions:
    """Posts one configuration after another, for as long as the context lasts."""

    def __init__(self, server):
        self.server = server

    async def __aenter__(self):
        await self.server.device("configured")
        self.ends = False
        self.task = asyncio.create_task(self.run())
        return self

    async def __aexit__(self, *_):
        # None is left under way.
        self.ends = True
        await self.task

    async def run(self):
        while not self.ends:
            body = {"configuration": {"posted": time.time()}}
            # Who is asked may be the one that is killed, or stands still: then another one is.
            with contextlib.suppress(httpx.TransportError, TimeoutError):
                async with asyncio.timeout(PATIENCE), self.server.client() as client:
                    await client.post("/sensors/configured/configurations", json=body)
            await asyncio.sleep(REVISION_SECONDS)

    @property
    def newest(self):
        return int(self.server.database.column("SELECT max(revision) FROM configuration")[0])


def named(kind, server, number):
    """Return a client with a name of its own."""
    return kind(server, f"{kind.__name__}-{number}")


async def on_each(server, workers, make):
    """Return by worker what `make` returns once it is open and connected to that worker."""
    found = {}
    for number in range(TRIES):
        viewer = make(number)
        await viewer.open()
        held = server.by_socket(port=viewer.listening)
        worker = held.get(viewer.port)
        if worker in workers and worker not in found:
            found[worker] = viewer
            if len(found) == len(workers):
                return found
        else:
            await viewer.close()
    raise AssertionError(f"{len(found)} of {len(workers)} workers accept connections")


class Connections:
    """Notes which worker has, or had, a connection to the database, by its port."""

    def __init__(self, server):
        self.server = server
        self.workers = {}

    async def __aenter__(self):
        self.task = asyncio.create_task(self.run())
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def run(self):
        while True:
            self.workers |= self.server.by_socket(peer=self.server.database.cluster.port)
            await asyncio.sleep(0.2)


def by_device(numbers):
    """Return for each device how many there are, the first and the last."""
    return {
        device: (len(found), found[0], found[-1])
        for device, each in itertools.groupby(numbers, itemgetter(0))
        if (found := [number for _, number in each])
    }


def check_duties(database, workers, faulty):
    """Check that what a duty writes was written by one process at a time, which had it.

    Who was faulty had it, and may have written nothing until then; in the end another has it.
    """
    rows = [
        row.split("|")
        for row in database.column(
            "SELECT concat_ws('|', duty, port, holder, fence) FROM wrote ORDER BY number"
        )
    ]
    for duty in ("rollups", "retention"):
        written = [
            (int(fence), holder, workers[int(port)])
            for name, port, holder, fence in rows
            if name == duty
        ]
        # A fence has one holder, which is one process, and nothing comes after a higher one.
        assert written == sorted(written), written
        each = set(written)
        assert len({fence for fence, *_ in written}) == len(each) <= 1 + len(faulty), each
        assert written[-1][-1] not in faulty, (each, faulty)


def check_revisions(revisions, newest):
    """Check that the newest came, each once, and nothing older after something newer.

    A publisher that ends may have published what it has not noted, which is published again.
    """
    assert revisions == sorted(revisions), revisions
    assert len(revisions) - len(set(revisions)) <= FAULTS, revisions
    assert revisions[-1] == newest


async def send_due(server, key, first):
    """Send what retention removes at once."""
    async with server.client({"X-API-Key": key}) as client:
        moment = time.time() - 3 * DAY
        readings = [{"n": n, "timestamp": moment + n} for n in range(first, first + DUE)]
        answer = await client.post("/ingest/batch", json=readings)
        assert answer.status_code == 201, answer.text


async def test_one_is_killed_and_one_stands_still(start, broker, postgresql_database):
    database = postgresql_database
    server = await start(MQTT_URL=broker.url, MQTT_SHARED="true")
    database.column(AUDIT)
    load = Load(server)
    everyone = server.workers()
    killed = server.holder("rollups")
    others = [worker for worker in everyone if worker != killed]
    # Streams and sessions resume; the others have nothing to resume by, and stay where nobody ends.
    resuming = {
        kind: await on_each(server, everyone, partial(named, kind, server))
        for kind in (StreamViewer, SubscriptionViewer)
    }
    viewers = {
        kind: await on_each(server, others, partial(named, kind, server))
        for kind in (SocketViewer, ConfigurationViewer)
    }
    published = ConfigurationViewer(server, "device", broker.port)
    await published.open()
    due, faulty = await server.device("due"), {killed}
    async with Connections(server) as connections, Revisions(server) as revisions:
        await send_due(server, due, 0)
        shares = (0.4, 0.2, 0.4) if STANDS else (1.0,)
        await load.round(
            "killed", round(READINGS * shares[0]), lambda: os.kill(killed, signal.SIGKILL)
        )
        await condition(lambda: len(server.workers()) == WORKERS, 60, "the worker started again")
        await condition(lambda: server.holder("rollups") not in (None, killed), 60, "a new holder")
        if STANDS:
            stopped = server.holder("rollups")
            faulty.add(stopped)
            os.kill(stopped, signal.SIGSTOP)
            since = time.monotonic()
            await load.round("stood", round(READINGS * shares[1]))
            await asyncio.sleep(STANDS - (time.monotonic() - since))
            # Unless it stopped within a transaction: then that has to be ended first.
            await condition(lambda: server.holder("rollups") not in (None, stopped), 70, "a holder")
            os.kill(stopped, signal.SIGCONT)
            await load.round("went-on", round(READINGS * shares[2]))
        await send_due(server, due, DUE)
        await condition(lambda: not values(database, "due"), 60, "what is due removed")
    streams, subscribers = (resuming[kind].values() for kind in (StreamViewer, SubscriptionViewer))
    counting = [*streams, *subscribers, *viewers[SocketViewer].values()]
    expected = load.expected
    with contextlib.suppress(AssertionError):
        await condition(lambda: not any(viewer.missing(expected) for viewer in counting), 30)
    for viewer in counting:
        # At QoS 1 what was sent in a server's last second may come twice from who goes on with it.
        if viewer not in [resuming[SubscriptionViewer].get(worker) for worker in faulty]:
            assert not viewer.twice(), (viewer.described, viewer.twice()[:5])
        missing = viewer.missing(expected)
        assert not missing, (viewer.described, by_device(missing), await server.metric(DROPPED))
        assert not viewer.lost, viewer.described
    assert all(resuming[kind][killed].connections > 1 for kind in resuming)
    newest = revisions.newest
    for worker, viewer in viewers[ConfigurationViewer].items():
        if worker not in faulty:
            with contextlib.suppress(AssertionError):
                await condition(lambda viewer=viewer: newest in viewer.revisions)
            check_revisions(viewer.revisions, newest)
    with contextlib.suppress(AssertionError):
        await condition(lambda: newest in published.revisions)
    check_revisions(published.revisions, newest)
    check_duties(database, connections.workers, faulty)
    everybody = [*counting, *viewers[ConfigurationViewer].values(), published]
    await asyncio.gather(*(viewer.close() for viewer in everybody))
    await server.stop()
    for device, sender in load.senders.items():
        check_once(values(database, device), sender.values)


async def pinned(server, workers, headers):
    """Return by worker an HTTP client whose only connection that worker has."""
    found = {}
    for _ in range(TRIES):
        client = server.client(headers)
        answer = await client.get("/ping")
        port = answer.extensions["network_stream"].get_extra_info("client_addr")[1]
        worker = server.by_socket(port=server.port).get(port)
        if worker in workers and worker not in found:
            found[worker] = client
            if len(found) == len(workers):
                return list(found.values())
        else:
            await client.aclose()
    raise AssertionError(f"{len(found)} of {len(workers)} workers accept connections")


class Publisher(Viewer):
    """A gateway: it publishes, and waits for the acknowledgment."""

    def __init__(self, server, name):
        super().__init__(server, name, server.mqtt_port)

    async def run(self):
        self.client = await Client.connected(self.listening, self.name, "admin", ADMIN_KEY)
        self.port = self.client.writer.get_extra_info("sockname")[1]
        self.opened.set()
        await asyncio.Event().wait()

    async def publish(self, topic, payload):
        self.client.send(publish(topic, payload, packet_id=1))
        assert await self.client.packet() == b"\x40\x00\x01"


async def test_the_same_comes_to_all_at_once(start, postgresql_database):
    server = await start()
    workers = server.workers()
    keys = {name: await server.device(name) for name in ("keyed", "identified")}
    viewers = []
    for kind in (StreamViewer, SocketViewer, SubscriptionViewer):
        viewers += (await on_each(server, workers, partial(named, kind, server))).values()
    keyed = await pinned(server, workers, {"X-API-Key": keys["keyed"]})
    posting = await pinned(server, workers, {"X-API-Key": keys["identified"]})
    publishers = (await on_each(server, workers, partial(named, Publisher, server))).values()
    for number in range(SAME):
        value = {"n": number}
        headers = {"Idempotency-Key": f"key-{number}"}
        answers = await asyncio.gather(
            *(client.post("/ingest", json=value, headers=headers) for client in keyed)
        )
        assert {answer.status_code for answer in answers} == {201}, [a.text for a in answers]
        assert len({answer.text for answer in answers}) == 1, [a.text for a in answers]
        element = {"id": f"element-{number}", "value": value}
        answers = await asyncio.gather(
            *(client.post("/sensors/identified/measurements", json=element) for client in posting),
            *(
                publisher.publish("measurements/identified", json.dumps([element]).encode())
                for publisher in publishers
            ),
        )
        stored = [answer.json() for answer in answers if answer is not None]
        assert sum(answer["accepted"] for answer in stored) <= 1, stored
    expected = [(name, number) for name in keys for number in range(SAME)]
    with contextlib.suppress(AssertionError):
        await condition(lambda: not any(viewer.missing(expected) for viewer in viewers))
    for viewer in viewers:
        assert dict(viewer.shown) == dict.fromkeys(expected, 1), viewer.described
        assert not viewer.lost, viewer.described
    await asyncio.gather(*(each.close() for each in (*viewers, *publishers)))
    await asyncio.gather(*(client.aclose() for client in (*keyed, *posting)))
    for name in keys:
        check_once(values(postgresql_database, name), [f'{{"n":{n}}}' for n in range(SAME)])
