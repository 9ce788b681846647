"""Loads that come at their own pace, however busy the server is, until they are told to end.

`messages`: measurements over MQTT, so many a second. `packets`: ten a second over HTTP, each timed
until a subscriber has it.
"""

import json
import select
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

from bench.http_load import ask
from bench.mqtt_load import PATIENCE, opened, viewer, wait_for_publish
from bench.packets import PACKET_IDS, payload, puback, publish
from bench.requests import device_id, post
from bench.starting_line import LoadError, awaited_end, report, wait_for_go

TICK = 0.02
PACKET_SECONDS = 0.1
TOPIC = "commands"


def numbered(sensors: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield messages of all sensors in turn, measured when they are taken, each with its PUBACK."""
    millisecond = index = 0
    while True:
        millisecond = max(millisecond + 1, time.time_ns() // 1_000_000)
        packet_id = index % PACKET_IDS + 1
        yield publish(index % sensors + 1, payload(millisecond, 1), packet_id), puback(packet_id)
        index += 1


def messages(given: dict[str, Any]) -> None:
    """Send what is due every few milliseconds; report how far the PUBACKs were behind at most."""
    connection = opened(given["port"], "load-arriving", "gateway", given["key"])
    made = numbered(given["sensors"])
    wait_for_go()
    ended, began = awaited_end(), time.perf_counter()
    sent = acknowledged = longest = 0
    due, rest = b"", b""
    progress = began
    while not ended.is_set() or due:
        clock = time.perf_counter()
        wanted = 0 if ended.is_set() else int((clock - began) * given["rate"]) - sent
        if wanted > 0:
            packets, answers = zip(*(next(made) for _ in range(wanted)), strict=True)
            connection.sendall(b"".join(packets))
            due += b"".join(answers)
            sent += wanted
        while select.select([connection], [], [], TICK)[0]:
            rest = connection.recv(1 << 18)
            if not rest or not due.startswith(rest):
                raise LoadError(f"not the PUBACKs that are due: {rest[:32].hex()}")
            due = due[len(rest) :]
            progress = time.perf_counter()
            if progress - clock > TICK:
                break
        acknowledged = sent - len(due) // 4
        longest = max(longest, sent - acknowledged)
        if due and time.perf_counter() - progress > PATIENCE:
            raise LoadError(f"nothing acknowledged for {PATIENCE:g} seconds")
    report(seconds=time.perf_counter() - began, messages=sent, unacknowledged=longest)


def packets(given: dict[str, Any]) -> None:
    """Time one packet after another, from its request to its PUBLISH."""
    watching = viewer(given["mqtt_port"], given["key"], TOPIC)
    wait_for_go()
    # Not before: the server closes a connection on which nothing is asked for some seconds.
    connection = socket.create_connection(("127.0.0.1", given["port"]), timeout=PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ended, due = awaited_end(), time.perf_counter()
    milliseconds: list[float] = []
    while not ended.is_set():
        mark = f"bench-{len(milliseconds)}"
        device = device_id(len(milliseconds) % given["sensors"] + 1)
        body = {"device_id": device, "measurements": {"temperature": 21.5}, "status": mark}
        request = post("/packets", given["key"], json.dumps(body))
        started = time.perf_counter()
        connection.sendall(request)
        is_answered = is_published = False
        while not (is_answered and is_published):
            ready = select.select([connection, watching], [], [], PATIENCE)[0]
            if not ready:
                answered = "answered" if is_answered else "not answered"
                raise LoadError(f"packet {mark}: {answered}, and nothing came for {PATIENCE:g} s")
            if connection in ready:
                ask(connection, b"", b"201")
                is_answered = True
            # Others' packets come too.
            if watching in ready and f'"{mark}"'.encode() in wait_for_publish(watching):
                milliseconds.append((time.perf_counter() - started) * 1_000)
                is_published = True
        due = max(due + PACKET_SECONDS, time.perf_counter())
        time.sleep(max(0.0, due - time.perf_counter()))
    report(milliseconds=milliseconds)


def main() -> None:
    given = json.loads(sys.argv[1])
    {"messages": messages, "packets": packets}[given["kind"]](given)


if __name__ == "__main__":
    main()
