"""A network is deleted by another process while something is put into it: never a homeless record.

Whoever asked is told that there is no such network, or that the network is not empty.
"""

import asyncio
import contextlib
import uuid

import pytest

from heliograph.errors import AlreadyExistsError, RowError
from heliograph.model.sensor import NewSensor
from heliograph.model.time import now
from heliograph.store import open_store
from server import running

# What it runs of the product, others run too.
pytestmark = pytest.mark.uncovered

ROUNDS = 20


@pytest.fixture
async def other(database_url):
    """The store of another process on the same database."""
    store = await open_store(database_url)
    yield store
    await store.close()


async def network(store):
    made = await store.networks.create(
        identifier=str(uuid.uuid4()), name=str(uuid.uuid4()), created_at=now(), owner=None
    )
    return made.identifier


async def test_a_sensor_and_its_network_that_is_deleted_at_once(store, other):
    for _ in range(ROUNDS):
        home = await network(store)
        new = NewSensor(identifier=str(uuid.uuid4()), created_at=now(), network_identifier=home)
        made, deleted = await asyncio.gather(
            store.sensors.create_all([new]), other.networks.delete(home), return_exceptions=True
        )
        found = await store.sensors.find(new.identifier)
        if deleted is True:
            assert isinstance(made, RowError)
            assert found is None
        else:
            assert isinstance(deleted, AlreadyExistsError)
            assert found is not None
        assert bool(await store.networks.find(home)) == (found is not None)


@contextlib.contextmanager
def deleting(subject, name, other, home):
    """Have the network deleted between the route's checks and what it does with the store."""
    method = getattr(subject, name)

    async def late(*arguments, **members):
        assert await other.networks.delete(home)
        return await method(*arguments, **members)

    setattr(subject, name, late)
    try:
        yield
    finally:
        delattr(subject, name)


@pytest.mark.parametrize(
    ("method", "path", "what", "body"),
    [
        ("POST", "/sensors", "sensors.create_all", {"sensor_name": "bulbasaur"}),
        ("POST", "/devices", "sensors.create_all", {"device_id": "pump-2"}),
        ("POST", "/devices/batch", "sensors.create_all", [{"device_id": "pump-2"}]),
        ("POST", "/nodes", "nodes.create", {"serial_number": "NODE-1", "firmware_version": "1"}),
        ("PUT", "/sensors/pump-1", "sensors.change", {}),
        ("PUT", "/sensors/pump-1", "sensors.configure", {"configuration": {}}),
        ("PATCH", "/devices/pump-1", "sensors.change", {}),
    ],
)
async def test_what_would_go_into_a_network_that_has_gone(
    tmp_path, database_url, other, method, path, what, body
):
    async with running(tmp_path, database_url=database_url, mqtt_listen=()) as server:
        await server.device("pump-1")
        home = await network(server.store)
        await server.services.registry.changed()
        subject, name = what.split(".")
        given = (
            [{**each, "network_identifier": home} for each in body]
            if isinstance(body, list)
            else {**body, "network_identifier": home}
        )
        with deleting(getattr(server.store, subject), name, other, home):
            answer = await server.http.request(method, path, json=given)
        assert (answer.status_code, answer.json()["code"]) == (404, "NETWORK_NOT_FOUND")
        listed = (await server.http.get("/sensors")).json()
        assert [each["device_id"] for each in listed] == ["pump-1"]
        assert listed[0]["network_identifier"] != home
