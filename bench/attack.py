"""Clients that mean harm, or do it without meaning to: one kind a process, until told to end.

They come from an address of their own. What they send is built before the clock starts, again and
again the same bytes, so that they cost the server more than themselves. One whose connection is
ended opens another.
"""

import base64
import contextlib
import dataclasses
import functools
import http.client
import itertools
import json
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from bench.mqtt_load import exactly
from bench.packets import PACKET_IDS, connect, identifier, remaining_length, subscribe
from bench.requests import post
from bench.starting_line import LoadError, raise_open_files, report, wait_for_go

ADDRESS = ("127.0.0.2", 0)
PATIENCE = 60.0
PAUSE = 0.05
READ_SIZE = 1 << 18
NAME, PASSWORD = "stranger", "a long password of a stranger"
DEVICE = "attacker"
CONFIGURED_BYTES = 1_000
MEBIBYTE = 1 << 20
LARGE_VALUES = 64


@dataclasses.dataclass
class Target:
    """The server that is attacked, and what an attacker has been given there.

    `token` is of an account without a network.
    """

    http_port: int
    mqtt_port: int
    admin_key: str
    sensors: int
    token: str = ""

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Return what the server answers a well-meant request.

        Raises:
            LoadError: no success.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=PATIENCE)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            content = {"Content-Type": "application/json"} if body is not None else {}
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {**named, **content})
            answer = connection.getresponse()
            said = answer.read()
        if answer.status >= http.client.BAD_REQUEST:
            raise LoadError(f"{method} {path} was answered {answer.status}: {said[:400]!r}")
        return json.loads(said) if said else None

    def enter(self) -> None:
        """Sign up."""
        credentials = {"username": NAME, "password": PASSWORD}
        self.token = self.call("POST", "/users", credentials)["access_token"]

    @functools.cached_property
    def key(self) -> str:
        """The key of a device that the attacker is given when he asks for it."""
        made = self.call("POST", "/devices", {"device_id": DEVICE}, X_API_Key=self.admin_key)
        return str(made["api_key"])

    def open(self, port: int, seconds: float = PATIENCE) -> socket.socket:
        """Return a connection from the attackers' address."""
        return socket.create_connection(("127.0.0.1", port), seconds, source_address=ADDRESS)

    def mqtt(self, client_id: str, name: str, password: str, *, clean: bool) -> socket.socket:
        """Return an MQTT connection that is logged in."""
        connection = self.open(self.mqtt_port)
        packet = bytearray(connect(client_id, name, password))
        if not clean:
            packet[packet.index(b"MQTT") + 5] &= ~0x02
        connection.sendall(packet)
        answer = exactly(connection, 4)
        if answer[3] != 0:
            raise LoadError(f"CONNECT of {name} was answered {answer.hex()}")
        return connection


# One connection of an attack, called again when it returns: it goes on until the event is set.
Client = Callable[[threading.Event], None]


def sending(opened: Callable[[], socket.socket], data: bytes, *, reading: bool) -> Client:
    """Return a client that sends the same bytes for ever; it takes the answers or does not."""

    def run(ended: threading.Event) -> None:
        with opened() as connection:
            connection.setblocking(False)
            rest = memoryview(data)
            poll = select.poll()
            poll.register(connection, select.POLLOUT | (select.POLLIN if reading else 0))
            while not ended.is_set():
                # Whoever is made to wait waits at no cost of his own.
                for _, events in poll.poll(1_000):
                    if events & select.POLLIN and not connection.recv(READ_SIZE):
                        return
                    if events & (select.POLLERR | select.POLLHUP):
                        return
                    if events & select.POLLOUT:
                        rest = rest[connection.send(rest) :] or memoryview(data)

    return run


def http_unread(target: Target) -> list[Client]:
    """Pipeline requests with a large answer, and read nothing."""
    data = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20_000
    return [sending(lambda: target.open(target.http_port), data, reading=False)] * 20


def http_pages(target: Target) -> list[Client]:
    """Ask for page after page of large values."""
    text = "x" * (MEBIBYTE - 4_096)
    for number in range(LARGE_VALUES):
        body = {"timestamp": time.time() - number, "value": text}
        target.call("POST", f"/sensors/{DEVICE}/measurements", body, X_API_Key=target.key)

    def run(ended: threading.Event) -> None:
        while not ended.is_set():
            with contextlib.closing(
                http.client.HTTPConnection("127.0.0.1", target.http_port, PATIENCE, ADDRESS)
            ) as connection:
                path = f"/devices/{DEVICE}/history?limit=10000"
                connection.request("GET", path, headers={"X-API-Key": target.key})
                answer = connection.getresponse()
                while answer.read(READ_SIZE) and not ended.is_set():
                    pass

    return [run] * 8


def http_log_ins(target: Target) -> list[Client]:
    """Log in with a right password, at once and again."""
    body = json.dumps({"username": NAME, "password": PASSWORD})
    request = post("/authentication", "", body).replace(b"X-API-Key: \r\n", b"")
    return [sending(lambda: target.open(target.http_port), request, reading=True)] * 80


def websocket_empty(target: Target) -> list[Client]:
    """Send frames without payload on a WebSocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    request = (
        "GET /realtime/all HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"Authorization: Bearer {target.token}\r\n\r\n"
    ).encode()

    def opened() -> socket.socket:
        connection = target.open(target.http_port)
        connection.sendall(request)
        if not (answer := connection.recv(READ_SIZE)).startswith(b"HTTP/1.1 101"):
            raise LoadError(f"the WebSocket was answered {answer[:200]!r}")
        return connection

    return [sending(opened, b"\x81\x80mask" * 100_000, reading=False)] * 4


def mqtt_filters(target: Target) -> list[Client]:
    """Leave sessions behind whose filters overlap."""
    filters = ["#", "+/#", "measurements/#", "measurements/+", "+/+", "measurements/+/#"]
    filters += [f"measurements/{identifier(number)}" for number in range(1, 6)]
    for number in range(100):
        with target.mqtt(f"detached-{number}", NAME, target.token, clean=False) as connection:
            for packet_id, topic_filter in enumerate(filters, 1):
                connection.sendall(subscribe(packet_id, topic_filter, 1))
            connection.sendall(b"\xe0\x00")
            while connection.recv(READ_SIZE):
                pass
    return []


def mqtt_configurations(target: Target) -> list[Client]:
    """Subscribe to everybody's configurations, again and again."""
    network = next(
        each["network_identifier"]
        for each in target.call("GET", "/networks", X_API_Key=target.admin_key)
        if each["network_name"] == "default"
    )
    target.call(
        "POST",
        f"/networks/{network}/configurations",
        {"configuration": {"text": "x" * CONFIGURED_BYTES}},
        X_API_Key=target.admin_key,
    )
    data = b"".join(subscribe(packet_id, "configurations/+", 1) for packet_id in range(1, 101))
    numbers = itertools.count()

    def opened() -> socket.socket:
        return target.mqtt(f"curious-{next(numbers)}", NAME, target.token, clean=True)

    return [sending(opened, data, reading=True)] * 4


def mqtt_tiny(target: Target) -> list[Client]:
    """Publish the smallest messages at QoS 0 as fast as they are taken."""
    key, numbers = target.key, itertools.count()

    def opened() -> socket.socket:
        return target.mqtt(f"flood-{next(numbers)}", DEVICE, key, clean=True)

    return [sending(opened, b"\x30\x05\x00\x01x{}" * 10_000, reading=True)] * 4


def mqtt_unfinished(target: Target) -> list[Client]:
    """Hold connections whose CONNECT lacks its last byte."""
    whole = connect("unfinished", "nobody", "x" * 65_000)

    def run(ended: threading.Event) -> None:
        with contextlib.ExitStack() as connections:
            for _ in range(500):
                if ended.is_set():
                    break
                connection = connections.enter_context(target.open(target.mqtt_port))
                connection.settimeout(PAUSE)
                with contextlib.suppress(OSError):
                    connection.sendall(whole[:-1])
            ended.wait(PATIENCE)

    return [run] * 10


def mqtt_qos2(target: Target) -> list[Client]:
    """Publish at QoS 2 and release nothing."""
    topic = f"measurements/{DEVICE}".encode()
    pieces = []
    for packet_id in range(1, PACKET_IDS + 1):
        message = b'{"value":%d}' % packet_id
        head = len(topic).to_bytes(2, "big") + topic + packet_id.to_bytes(2, "big")
        pieces.append(b"\x34" + remaining_length(len(head) + len(message)) + head + message)
    key, numbers = target.key, itertools.count()

    def opened() -> socket.socket:
        return target.mqtt(f"unreleased-{next(numbers)}", DEVICE, key, clean=False)

    return [sending(opened, b"".join(pieces), reading=True)] * 10


KINDS: dict[str, Callable[[Target], list[Client]]] = {
    "http-unread": http_unread,
    "http-pages": http_pages,
    "http-log-ins": http_log_ins,
    "websocket-empty": websocket_empty,
    "mqtt-filters": mqtt_filters,
    "mqtt-configurations": mqtt_configurations,
    "mqtt-tiny": mqtt_tiny,
    "mqtt-unfinished": mqtt_unfinished,
    "mqtt-qos2": mqtt_qos2,
}


def attack(client: Client, ended: threading.Event) -> None:
    """Go on until the end; a connection that is ended or refused is opened again."""
    while not ended.is_set():
        with contextlib.suppress(OSError, LoadError, http.client.HTTPException):
            client(ended)
        ended.wait(PAUSE)


def main() -> None:
    specification: dict[str, Any] = json.loads(sys.argv[1])
    kind = specification.pop("kind")
    raise_open_files(8_000)
    target, ended = Target(**specification), threading.Event()
    target.enter()
    threads = [threading.Thread(target=attack, args=(c, ended)) for c in KINDS[kind](target)]
    wait_for_go()
    for thread in threads:
        thread.start()
    sys.stdin.readline()
    ended.set()
    for thread in threads:
        thread.join()
    report()


if __name__ == "__main__":
    main()
