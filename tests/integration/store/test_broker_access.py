"""What is kept of a key for brokers: with the key, and no longer than it."""

import uuid

from heliograph.model.credentials import hash_key, key_members


async def devices(store):
    return {device.device_id: device async for device in store.broker_access.devices()}


async def create(store, device_id, **members):
    return await store.sensors.create(
        identifier=str(uuid.uuid4()), created_at=1, device_id=device_id, **members
    )


async def test_every_device_with_a_key_is_there(store, monkeypatch):
    monkeypatch.setattr("heliograph.store.brokers.PAGE", 2)
    given = {f"d-{number}": key_members(f"key {number}") for number in range(5)}
    for name, members in given.items():
        await create(store, name, **members)
    await create(store, "without-a-key")
    found = await devices(store)
    assert {name: found[name].password for name in found} == {
        name: members["broker_password"] for name, members in given.items()
    }
    assert all(device.is_active is True for device in found.values())


async def test_it_stays_while_the_key_does(store):
    sensor = await create(store, "pump", **key_members("old"))
    before = (await devices(store))["pump"]
    await store.sensors.change(sensor.number, name="another name", is_active=False)
    after = (await devices(store))["pump"]
    assert (after.password, after.is_active) == (before.password, False)


async def test_it_goes_with_the_key(store):
    sensor = await create(store, "pump", **key_members("old"))
    new = key_members("new")
    await store.sensors.change(sensor.number, **new)
    assert (await devices(store))["pump"].password == new["broker_password"]
    # A key of which nobody made it: the old one's must not go on.
    await store.sensors.change(sensor.number, key_hash=hash_key("newer"))
    found = (await devices(store))["pump"]
    assert (found.password, found.key_hash) == (None, hash_key("newer"))


async def test_a_deleted_sensor_has_none(store):
    sensor = await create(store, "pump", **key_members("old"))
    await store.sensors.delete(sensor.number, 2)
    assert await devices(store) == {}
    rows = await store.sensors.change(sensor.number, is_active=True)
    assert rows is not None
    assert rows.key_hash is None
    assert await devices(store) == {}
