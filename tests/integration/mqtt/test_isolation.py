"""What a device with a key of its own can't reach on the listener."""

import pytest

import isolation
from server import ADMIN_KEY, running


@pytest.fixture
async def server(tmp_path):
    async with running(tmp_path) as server:
        yield server


@pytest.fixture(params=["identifier", "device_id"])
async def world(server, request):
    """Devices that go by one of their names."""
    own, foreign = await server.device("own-1"), await server.device("foreign-1")

    async def stored(name):
        sensor = await server.store.sensors.find(name)
        return await server.store.measurements.page(
            sensor.number, key=None, direction="next", limit=100
        )

    return isolation.World(
        server.port,
        (getattr(own, request.param), own.key),
        (getattr(foreign, request.param), foreign.key),
        ("admin", ADMIN_KEY),
        stored,
        (own.device_id, foreign.device_id),
    )


async def test_publishing(world):
    await isolation.check_publishing(world)


async def test_subscribing(world, server):
    await isolation.check_subscribing(world, isolation.configured_by(server))


async def test_wills(world):
    await isolation.check_wills(world)


async def test_anothers_session(world, server):
    await isolation.check_sessions(world, isolation.configured_by(server))
