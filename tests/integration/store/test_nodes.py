"""Nodes, on both engines: what they carry, and what becomes of it."""

import asyncio
import uuid

import pytest

from heliograph.errors import AlreadyExistsError
from heliograph.store import open_store
from heliograph.store.nodes import NodeNotEmptyError
from heliograph.store.sensors import WrongNodeError


@pytest.fixture
def network(store):
    """Return a function that makes a network and returns its identifier."""

    async def network(name="roof"):
        made = await store.networks.create(
            identifier=str(uuid.uuid4()), name=name, created_at=1, owner=None
        )
        return made.identifier

    return network


@pytest.fixture
def make_node(store):
    """Return a function that registers a node, by default in the network `default`."""

    async def make_node(**members):
        members.setdefault("network_identifier", (await store.networks.default()).identifier)
        return await store.nodes.create(identifier=str(uuid.uuid4()), created_at=1, **members)

    return make_node


async def test_a_node_is_found_by_its_uuid_in_any_case(store):
    identifier = str(uuid.uuid4())
    default = (await store.networks.default()).identifier
    node = await store.nodes.create(
        identifier=identifier.upper(),
        network_identifier=default,
        serial_number="N1",
        firmware_version="1.2",
        name="Mast",
        created_at=7,
    )
    assert (node.identifier, node.network_identifier) == (identifier, default)
    assert (node.serial_number, node.firmware_version, node.name) == ("N1", "1.2", "Mast")
    assert await store.nodes.find(identifier.upper()) == node
    for unknown in (str(uuid.uuid4()), "", "N1", "\0", "\ud800"):
        assert await store.nodes.find(unknown) is None
    with pytest.raises(AlreadyExistsError) as raised:
        await store.nodes.create(identifier=identifier, network_identifier=default, created_at=1)
    assert raised.value.field == "identifier"


async def test_serial_numbers_are_unique_in_a_network(store, make_node, network, register):
    await register(serial_number="1")
    node = await make_node(serial_number="1")
    with pytest.raises(AlreadyExistsError) as raised:
        await make_node(serial_number="1")
    assert raised.value.field == "serial_number"
    other = await make_node(serial_number="1", network_identifier=await network())
    with pytest.raises(AlreadyExistsError):
        await store.nodes.change(other.identifier, network_identifier=node.network_identifier)
    assert (await make_node()).serial_number is (await make_node()).serial_number is None


async def test_only_the_members_given_are_changed(store, make_node):
    node = await make_node(serial_number="1", firmware_version="1", name="Mast")
    changed = await store.nodes.change(node.identifier, firmware_version="2", name=None)
    assert (changed.serial_number, changed.firmware_version, changed.name) == ("1", "2", None)
    assert await store.nodes.find(node.identifier) == changed
    assert await store.nodes.change(node.identifier) == changed
    assert await store.nodes.change(str(uuid.uuid4()), name="x") is None
    with pytest.raises(TypeError):
        await store.nodes.change(node.identifier, number=5)


async def test_a_node_carries_sensors_of_its_own_network_only(store, make_node, network, register):
    node, other = await make_node(), await make_node(network_identifier=await network())
    sensor = await register(node_identifier=node.identifier)
    assert sensor.node_identifier == node.identifier
    for wrong in (other.identifier, str(uuid.uuid4())):
        with pytest.raises(WrongNodeError):
            await register(node_identifier=wrong)
        with pytest.raises(WrongNodeError):
            await store.sensors.change(sensor.number, node_identifier=wrong)
    assert await store.sensors.find_number(sensor.number) == sensor
    moved = await store.sensors.change(
        sensor.number,
        network_identifier=other.network_identifier,
        node_identifier=other.identifier,
    )
    assert moved.node_identifier == other.identifier


async def test_a_sensor_that_leaves_the_network_leaves_its_node(
    store, make_node, network, register
):
    node = await make_node()
    sensor = await register(node_identifier=node.identifier)
    kept = await store.sensors.change(
        sensor.number, name="x", network_identifier=sensor.network_identifier
    )
    assert kept.node_identifier == node.identifier
    moved = await store.sensors.change(sensor.number, network_identifier=await network())
    assert moved.node_identifier is None


async def test_a_node_with_sensors_stays_in_its_network(store, make_node, network, register):
    node, roof = await make_node(), await network()
    sensor = await register(node_identifier=node.identifier)
    with pytest.raises(NodeNotEmptyError):
        await store.nodes.change(node.identifier, network_identifier=roof)
    await store.sensors.detach(sensor.number, node.identifier)
    moved = await store.nodes.change(node.identifier, network_identifier=roof)
    assert moved.network_identifier == roof


async def test_a_network_with_nodes_is_not_deleted(store, make_node, network):
    roof = await network()
    node = await make_node(network_identifier=roof)
    with pytest.raises(AlreadyExistsError):
        await store.networks.delete(roof)
    await store.nodes.delete(node.identifier)
    assert await store.networks.delete(roof)


async def test_deleting_a_node_detaches_its_sensors_and_tells_the_registry(
    store, make_node, register
):
    node, other = await make_node(), await make_node()
    carried = [await register(node_identifier=node.identifier) for _ in range(3)]
    elsewhere = await register(node_identifier=other.identifier)
    version = (await store.sensors.newest_change()).version
    assert await store.nodes.delete(node.identifier)
    assert not await store.nodes.delete(node.identifier)
    changed = await store.sensors.changed_since(version)
    assert [sensor.number for sensor in changed] == [sensor.number for sensor in carried]
    assert all(sensor.node_identifier is None for sensor in changed)
    assert await store.sensors.find_number(elsewhere.number) == elsewhere
    assert await store.nodes.find(node.identifier) is None


async def test_detaching_leaves_a_sensor_alone_that_is_elsewhere(store, make_node, register):
    node, other = await make_node(), await make_node()
    sensor = await register(node_identifier=node.identifier)
    assert await store.sensors.detach(sensor.number, other.identifier) is None
    assert (await store.sensors.find_number(sensor.number)).node_identifier == node.identifier
    assert (await store.sensors.detach(sensor.number, node.identifier)).node_identifier is None
    assert await store.sensors.detach(sensor.number, node.identifier) is None
    assert await store.sensors.detach(999, node.identifier) is None


async def test_nodes_are_listed_in_the_order_of_their_creation(store, make_node, network):
    roof = await network()
    nodes = [await make_node(serial_number=str(at), firmware_version=str(at % 2)) for at in (2, 0)]
    nodes.append(await make_node(serial_number="0", network_identifier=roof))

    async def listed(networks=None, **arguments):
        arguments = {"offset": 0, "limit": 10, **arguments}
        page, total = await store.nodes.list(networks=networks, **arguments)
        return [nodes.index(node) for node in page], total

    assert await listed() == ([0, 1, 2], 3)
    assert await listed(offset=1, limit=1) == ([1], 3)
    assert await listed([roof]) == ([2], 1)
    assert await listed([]) == ([], 0)
    assert await listed(serial_number="0") == ([1, 2], 2)
    assert await listed(firmware_version="0") == ([0, 1], 2)
    assert await listed(serial_number="0", firmware_version="0") == ([1], 1)


async def test_attaching_while_the_node_moves_ends_in_one_network(
    database_url, store, make_node, network, register
):
    roof = await network()
    node, sensor = await make_node(), await register()
    other = await open_store(database_url)
    try:
        for _ in range(10):
            attached, moved = await asyncio.gather(
                store.sensors.change(sensor.number, node_identifier=node.identifier),
                other.nodes.change(node.identifier, network_identifier=roof),
                return_exceptions=True,
            )
            # Whoever comes second finds what the first has done.
            assert isinstance(attached, WrongNodeError) != isinstance(moved, NodeNotEmptyError)
            await store.sensors.detach(sensor.number, node.identifier)
            await store.nodes.change(node.identifier, network_identifier=sensor.network_identifier)
    finally:
        await other.close()
