"""The MQTT clients that people have, against the server as they start it.

What a device sees is the same at the listener and at a broker that the server is linked to.
"""

import asyncio
import contextlib
import json
import shutil
import socket
import struct
import subprocess
import threading
import time

import gmqtt
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from broker import running_mosquitto
from mqtt_client import connect, publish
from server import ADMIN_KEY, ServerProcess

SECONDS = 60
PAHO_VERSIONS = {"3.1.1": paho.MQTTv311, "5": paho.MQTTv5}

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:gmqtt")


class Installation(ServerProcess):
    """A server, and the port where its devices connect: the listener's or a broker's."""

    def __init__(self, folder, broker=None):
        linked = {"MQTT_URL": broker.url, "MQTT_LISTEN": ""} if broker else {}
        super().__init__(folder, **linked)
        self.broker = broker
        if broker is not None:
            self.mqtt_port = broker.port

    def check_values(self, device, expected, **parameters):
        """Check the device's stored values, oldest first, as they are read over HTTP.

        Our own acknowledgment comes after the commit; a broker's comes before.
        """
        if self.broker is not None:
            until(lambda: len(self.history(device, **parameters)) >= len(expected))
        rows = reversed(self.history(device, **parameters))
        assert [row["metrics"]["value"] for row in rows] == expected


@pytest.fixture(scope="module")
def listener(tmp_path_factory):
    with Installation(tmp_path_factory.mktemp("listener")) as server:
        yield server


@pytest.fixture(scope="module")
def linked(tmp_path_factory):
    with (
        running_mosquitto() as broker,
        Installation(tmp_path_factory.mktemp("linked"), broker) as server,
    ):
        yield server


@pytest.fixture(params=["listener", "mosquitto"])
def server(request):
    return request.getfixturevalue("listener" if request.param == "listener" else "linked")


@pytest.fixture
def device(server, request):
    return server.device(f"d-{abs(hash(request.node.name))}")


def until(condition, seconds=SECONDS):
    """Poll until the condition holds, and return what it said."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.01)
    raise AssertionError("it did not happen in time")


# Mosquitto's command line clients

needs_mosquitto = pytest.mark.skipif(
    shutil.which("mosquitto_pub") is None, reason="the Mosquitto clients are not installed"
)
mosquitto_versions = pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])


def mosquitto(program, server, username, password, version, *options):
    return [
        program,
        *("-h", "127.0.0.1", "-p", str(server.mqtt_port), "-V", version),
        *("-u", username, "-P", password, *options),
    ]


def mosquitto_pub(server, device, version, *options):
    command = mosquitto("mosquitto_pub", server, device.device_id, device.key, version, *options)
    return subprocess.run(command, check=True, timeout=SECONDS, capture_output=True, text=True)


@contextlib.contextmanager
def mosquitto_sub(server, username, password, version, *options):
    """Run mosquitto_sub; yield it once it has its SUBACK."""
    command = mosquitto("mosquitto_sub", server, username, password, version, "-d", *options)
    with subprocess.Popen(
        ["stdbuf", "-oL", *command], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            for line in process.stdout:
                if line.startswith("Subscribed"):
                    break
            yield process
        finally:
            process.kill()


def lines(process, count):
    """Return so many lines of messages, without what -d says of packets."""
    timer = threading.Timer(SECONDS, process.kill)
    timer.start()
    found = []
    for line in process.stdout:
        if not line.startswith("Client "):
            found.append(line.rstrip("\n"))
        if len(found) == count:
            break
    timer.cancel()
    return found


@needs_mosquitto
@mosquitto_versions
@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_mosquitto_pub_and_sub(server, device, version, qos):
    payload = '{"value": %s}'
    watch = ("-t", "measurements/#", "-v", "-q", qos)
    with mosquitto_sub(server, "admin", ADMIN_KEY, version, *watch) as watcher:
        topic = f"measurements/{device.device_id}"
        for number in range(3):
            text = payload % number
            mosquitto_pub(server, device, version, "-q", qos, "-t", topic, "-m", text)
        assert lines(watcher, 3) == [f"{topic} {payload % number}" for number in range(3)]
    server.check_values(device, [0, 1, 2])


@needs_mosquitto
@mosquitto_versions
def test_mosquitto_pub_line_by_line(server, device, version):
    command = mosquitto(
        *("mosquitto_pub", server, device.device_id, device.key, version),
        *("-q", "1", "-l", "-t", f"measurements/{device.identifier}"),
    )
    text = "".join(f'{{"value": {number}}}\n' for number in range(500))
    subprocess.run(command, check=True, timeout=SECONDS, input=text, text=True)
    server.check_values(device, [*range(500)])


def check_connected(server, device, expected):
    def connected():
        return server.http.get(f"/devices/{device.device_id}").json()["connected"]

    if server.broker is not None:
        until(lambda: connected() is expected)
    assert connected() is expected


@needs_mosquitto
@mosquitto_versions
def test_mosquitto_sub_with_a_will(server, device, version):
    topic = f"status/{device.device_id}"
    will = ("--will-topic", topic, "--will-payload", "offline", "--will-qos", "1", "--will-retain")
    with mosquitto_sub(server, "admin", ADMIN_KEY, version, "-v", "-t", topic) as watcher:
        own = ("-t", f"configurations/{device.device_id}", *will)
        with mosquitto_sub(server, device.device_id, device.key, version, *own):
            mosquitto_pub(server, device, version, "-q", "1", "-r", "-t", topic, "-m", "online")
            check_connected(server, device, True)
        assert f"{topic} online" in lines(watcher, 1)
        assert f"{topic} offline" in lines(watcher, 1)
    check_connected(server, device, False)


# At the listener only: who may log in at a broker is the broker's own affair.
@needs_mosquitto
@mosquitto_versions
def test_mosquitto_says_why_a_log_in_failed(listener, version):
    device = listener.device(f"wrong-{version}")
    command = mosquitto(
        *("mosquitto_pub", listener, device.device_id, "wrong", version, "-t", "a", "-m", "b")
    )
    result = subprocess.run(command, timeout=SECONDS, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "not authori" in result.stderr.lower() or "bad user name" in result.stderr.lower()


# paho-mqtt


class Paho:
    """A paho client that notes what happens."""

    def __init__(self, server, device, version, *, client_id="", clean=True):
        five = version == "5"
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=PAHO_VERSIONS[version],
            **({} if five else {"clean_session": clean}),
        )
        self.client.username_pw_set(device.device_id, device.key)
        self.messages, self.connected, self.subscribed, self.published = [], [], [], []
        self.client.on_publish = lambda _c, _u, number, _r, _p: self.published.append(number)
        self.client.on_message = lambda _c, _u, message: self.messages.append(message)
        self.client.on_connect = lambda _c, _u, flags, reason, _p: self.connected.append(
            (flags.session_present, str(reason))
        )
        self.client.on_subscribe = lambda _c, _u, _m, reasons, _p: self.subscribed.extend(reasons)
        options = {}
        if five:
            options["clean_start"] = clean
            if not clean:
                options["properties"] = Properties(PacketTypes.CONNECT)
                options["properties"].SessionExpiryInterval = 3_600
        self.client.connect("127.0.0.1", server.mqtt_port, 60, **options)
        self.client.loop_start()
        until(lambda: self.connected)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def paho_client():
    """Return a function that makes clients, which are closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(*args, **options):
            client = Paho(*args, **options)
            stack.callback(client.close)
            return client

        yield make


@pytest.mark.parametrize("version", PAHO_VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_paho(server, device, paho_client, version, qos):
    client = paho_client(server, device, version)
    topic = f"measurements/{device.device_id}"
    client.client.subscribe(topic, qos)
    until(lambda: client.subscribed)
    sent = [client.client.publish(topic, json.dumps({"value": n}), qos) for n in range(50)]
    for message in sent:
        message.wait_for_publish(SECONDS)
    until(lambda: len(client.messages) == 50)
    assert [json.loads(message.payload)["value"] for message in client.messages] == [*range(50)]
    server.check_values(device, [*range(50)])


@pytest.mark.parametrize("version", PAHO_VERSIONS)
def test_paho_goes_on_with_its_session(server, device, paho_client, version):
    topic = f"measurements/{device.device_id}"
    sender = paho_client(server, device, version)
    first = paho_client(server, device, version, client_id=f"kept-{version}", clean=False)
    assert first.connected == [(False, "Success")]
    first.client.subscribe(topic, 1)
    until(lambda: first.subscribed)
    first.close()
    for number in range(20):
        sender.client.publish(topic, json.dumps({"value": number}), 1).wait_for_publish(SECONDS)
    second = paho_client(server, device, version, client_id=f"kept-{version}", clean=False)
    assert second.connected == [(True, "Success")]
    until(lambda: len(second.messages) == 20)
    assert [json.loads(m.payload)["value"] for m in second.messages] == [*range(20)]


@pytest.mark.parametrize("version", PAHO_VERSIONS)
@pytest.mark.parametrize("place", ["listener", "mosquitto"])
def test_paho_lives_through_a_kill_of_the_server(tmp_path, paho_client, version, place):
    """What was not acknowledged is sent again, by it or by the broker: everything is there once."""
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(running_mosquitto()) if place == "mosquitto" else None
        server = stack.enter_context(Installation(tmp_path, broker))
        device = server.device()
        client = paho_client(server, device, version, client_id="survivor", clean=False)
        client.client.reconnect_delay_set(0.05, 0.2)
        topic = f"measurements/{device.device_id}"
        for number in range(400):
            payload = json.dumps({"value": number, "timestamp": 1_700_000_000 + number})
            client.client.publish(topic, payload, 1 + number % 2)
            if number == 200:
                server.restart()
        until(lambda: len(client.published) == 400)
        server.check_values(device, [*range(400)], start=1_700_000_000)


# gmqtt


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_gmqtt(server, device, version, qos):
    client = gmqtt.Client(f"gmqtt-{version}-{qos}")
    client.set_auth_credentials(device.device_id, device.key)
    messages, subscribed = asyncio.Queue(), asyncio.Event()
    client.on_message = lambda _c, _topic, payload, _qos, _p: messages.put_nowait(payload)
    client.on_subscribe = lambda *_: subscribed.set()
    topic = f"measurements/{device.device_id}"
    async with asyncio.timeout(SECONDS):
        await client.connect("127.0.0.1", server.mqtt_port, version=version)
        client.subscribe(topic, qos=min(qos, 1))
        await subscribed.wait()
        for number in range(20):
            client.publish(topic, {"value": number}, qos=qos)
        shown = [json.loads(await messages.get())["value"] for _ in range(20)]
        await client.disconnect()
    assert shown == [*range(20)]
    server.check_values(device, [*range(20)])


# What microcontrollers speak


class PubSubClient:
    """As Arduino's PubSubClient: MQTT 3.1.1, keep alive 15, a few bytes a write, QoS 0."""

    def __init__(self, server, device, client_id="arduino"):
        self.socket = socket.create_connection(("127.0.0.1", server.mqtt_port), SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.write(connect(client_id, device.device_id, device.key, keepalive=15))
        assert self.read(4) == b"\x20\x02\0\0"

    def write(self, data, piece=16):
        for at in range(0, len(data), piece):
            self.socket.sendall(data[at : at + piece])

    def read(self, size):
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            assert more, "the server has closed the connection"
            data += more
        return data


def test_an_arduino(server, device):
    client = PubSubClient(server, device)
    topic = f"measurements/{device.device_id}"
    for number in range(10):
        client.write(publish(topic, b'{"value": %d}' % number, qos=0))
    client.write(b"\xc0\0", 1)
    assert client.read(2) == b"\xd0\0"
    until(lambda: len(server.history(device)) == 10)
    for number in range(10, 20):
        client.write(publish(topic, b'{"value": %d}' % number, packet_id=number))
        assert client.read(4) == b"\x40\x02" + struct.pack(">H", number)
    server.check_values(device, [*range(20)])
    client.write(b"\xe0\0")
    assert client.socket.recv(1) == b""


def test_an_arduino_that_saves_up(server, device):
    """It measures for a while before it turns its radio on, and sends all of it at once."""
    client = PubSubClient(server, device, "saving")
    elements = [{"timestamp": 1_700_000_000 + n, "value": n} for n in range(100)]
    payload = json.dumps({"measurements": elements}).encode()
    client.write(publish(f"measurements/{device.identifier}", payload, packet_id=7), 256)
    assert client.read(4) == b"\x40\x02\x00\x07"
    server.check_values(device, [*range(100)], start=1_700_000_000)


def test_an_arduino_that_resets(server, device):
    """Its old connection is still there when it comes back with its client id."""
    first = PubSubClient(server, device, "reset")
    second = PubSubClient(server, device, "reset")
    assert first.socket.recv(1) == b""
    second.write(b"\xc0\0")
    assert second.read(2) == b"\xd0\0"


def test_curl_reads_what_mqtt_brought(server, device):
    PubSubClient(server, device, "c").write(
        publish(f"measurements/{device.device_id}", b'{"value": {"temperature": 21.5}}', qos=0)
    )
    until(lambda: server.history(device))
    url = f"{server.url}/devices/{device.device_id}/history"
    command = ["curl", "-sf", "-H", f"X-API-Key: {device.key}", url]
    answer = subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
    (row,) = json.loads(answer.stdout)
    assert row["metrics"] == {"temperature": 21.5}
