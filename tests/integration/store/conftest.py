import uuid

import pytest


@pytest.fixture
def register(store):
    """Return a function that registers a sensor and returns it."""

    async def register(**members):
        members.setdefault("created_at", 1)
        return await store.sensors.create(identifier=str(uuid.uuid4()), **members)

    return register


@pytest.fixture
async def sensor(register):
    """The number of a registered sensor."""
    return (await register()).number
