import asyncio
import json

import pytest
from bench.bare_listener import packet
from bench.configuration_load import Device, Devices, all_at_once, configuration
from bench.packets import identifier, puback, received, remaining_length
from bench.revisions import SqliteRevisions
from bench.starting_line import LoadError


class Transport:
    def __init__(self):
        self.written = b""

    def write(self, data):
        self.written += data


def publication(revision, packet_id=9):
    topic = f"configurations/{identifier(1)}".encode()
    message = b'{"revision":%d,"configuration":{}}' % revision
    body = len(topic).to_bytes(2, "big") + topic + packet_id.to_bytes(2, "big") + message
    return b"\x32" + remaining_length(len(body)) + body


@pytest.fixture
async def device():
    device = Device(1, Devices(1))
    device.connection_made(Transport())
    device.data_received(b"\x20\x02\x00\x00" + b"\x90\x03\x00\x01\x01")
    device.transport.written = b""
    return device


async def test_a_device_is_ready_with_its_subscription(device):
    assert device.ready.done()
    device.devices.check()


async def test_a_device_acknowledges_a_revision_and_says_that_it_applied_it(device):
    data = publication(0)
    device.data_received(data[:5])
    assert device.transport.written == b""
    device.data_received(data[5:])
    assert device.transport.written[:4] == puback(9)
    start, stop = packet(device.transport.written, 4, len(device.transport.written))
    _, message = received(device.transport.written[start:stop])
    assert json.loads(message)["heartbeats"][0]["revision"] == 0
    assert list(device.devices.moments) == [1]
    assert device.devices.unacknowledged == 1
    device.data_received(puback(1))
    await asyncio.wait_for(device.devices.wait(1), 60)


@pytest.mark.parametrize(
    "revisions", [pytest.param([0, 0], id="twice"), pytest.param([0, 2], id="lost")]
)
async def test_a_revision_twice_or_one_left_out_is_an_error(device, revisions):
    for revision in revisions:
        device.data_received(publication(revision))
    with pytest.raises(LoadError, match=f"got {revisions[1]} after 0"):
        device.devices.check()


@pytest.mark.parametrize("answer", [b"\x20\x02\x00\x05", b"\x90\x03\x00\x01\x80"])
async def test_a_refusal_is_an_error(answer):
    device = Device(1, Devices(1))
    device.connection_made(Transport())
    device.data_received(answer)
    with pytest.raises(LoadError):
        device.devices.check()


async def test_a_device_without_a_revision_is_an_error(device):
    class Requests:
        async def send(self, request):
            return []

    with pytest.raises(LoadError, match="0 of 1 devices"):
        await all_at_once(device.devices, Requests(), "/", "key", 1)


def test_each_request_has_another_configuration():
    assert configuration(1) != configuration(2)


def test_only_a_success_counts_as_an_acknowledgment(tmp_path):
    revisions = SqliteRevisions(str(tmp_path / "bench.db"))
    revisions._database.executescript(
        "CREATE TABLE configuration (sensor, revision, success);"
        "INSERT INTO configuration VALUES (1, 0, 1), (2, 0, 0), (3, 0, NULL), (1, 1, 1)"
    )
    assert revisions.acknowledged(0) == 1
    assert revisions.is_acknowledged(1, 1)
    assert not revisions.is_acknowledged(2, 0)
    revisions.close()
