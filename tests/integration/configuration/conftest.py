"""A server of the test's own in this process, and a Mosquitto."""

import pytest
import uvloop

from broker import running_mosquitto


def pytest_asyncio_loop_factories(config, item):
    """Run these tests on what the server runs on as its users start it."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def mosquitto():
    with running_mosquitto() as broker:
        yield broker
