"""A server of the test's own in this process, and a Mosquitto."""

import pytest

from broker import running_mosquitto


@pytest.fixture
def mosquitto():
    with running_mosquitto() as broker:
        yield broker
