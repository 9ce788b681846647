"""A link in a server of the test's own, to a broker that is scripted or to a real one."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from broker import PLAIN, PROGRAM, Mosquitto
from scripted_broker import scripted_broker
from server import blocked, running


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Look and try again sooner than in earnest."""
    for name, seconds in (
        ("CHECK_SECONDS", 0.02),
        ("FIRST_RETRY_SECONDS", 0.02),
        ("LONGEST_RETRY_SECONDS", 0.1),
        ("LINGER_SECONDS", 0.5),
    ):
        monkeypatch.setattr(f"heliograph.mqtt.link.{name}", seconds)
    for module in ("reading", "link"):
        monkeypatch.setattr(f"heliograph.mqtt.{module}.RETRY_SECONDS", 0.02)


@pytest.fixture
async def broker():
    async with scripted_broker() as broker:
        yield broker


@pytest.fixture
async def server(broker, tmp_path):
    """Return a server that is about to connect to the scripted broker."""
    async with running(tmp_path, mqtt_url=broker.url, mqtt_listen=()) as server:
        yield server


@pytest.fixture
def mosquittos():
    """Return a function that starts a Mosquitto with the given options."""
    if PROGRAM is None:
        pytest.skip("Mosquitto is not installed")
    started = []

    def start(options: str = PLAIN) -> Mosquitto:
        broker = Mosquitto(options)
        started.append(broker)
        broker.start()
        return broker

    yield start
    for broker in started:
        broker.close()


@pytest.fixture
def mosquitto(mosquittos):
    return mosquittos()


@pytest.fixture
def linked(tmp_path):
    """Return a context manager: a server in the test's folder with a link to the broker."""

    @contextlib.asynccontextmanager
    async def linked(broker, folder: Path = tmp_path, **settings):
        options = {"mqtt_url": broker.url, "mqtt_listen": (), **settings}
        async with running(folder, **options) as server:
            yield server

    return linked


@pytest.fixture(name="blocked")
def blocked_fixture():
    """Return a context manager within which a server's database commits nothing."""
    return blocked


@pytest.fixture
def readiness():
    """Return a coroutine function that tells what /readyz says."""

    async def readiness(server):
        return (await server.http.get("/readyz")).json()

    return readiness


@pytest.fixture
def problem(readiness):
    """Return a coroutine function that waits for a problem and tells it as /readyz does."""

    async def problem(server, part: str = ""):
        async with asyncio.timeout(60):
            while True:
                for reason in (await readiness(server))["reasons"]:
                    if reason.startswith("No connection to the MQTT broker: ") and (
                        part in reason and "not connected yet" not in reason
                    ):
                        return reason.partition(": ")[2]
                await asyncio.sleep(0.005)

    return problem
