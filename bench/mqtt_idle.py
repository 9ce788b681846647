"""Devices that connect and then say nothing."""

import json
import selectors
import socket
import sys

from bench.limits import raise_open_files
from bench.mqtt_connection import SOCKET_TIMEOUT
from bench.packets import connect, device_key, identifier
from bench.starting_line import LoadError, report, wait_for_go

WAVE = 50


def wave(port: int, numbers: range) -> list[socket.socket]:
    """Return the connections of some devices, each accepted."""
    opened = []
    with selectors.DefaultSelector() as selector:
        for number in numbers:
            connection = socket.create_connection(("127.0.0.1", port), timeout=SOCKET_TIMEOUT)
            connection.sendall(
                connect(f"device-{number}", identifier(number), device_key(number), 3_600)
            )
            selector.register(connection, selectors.EVENT_READ, (number, connection))
            opened.append(connection)
        waiting = len(opened)
        while waiting:
            events = selector.select(SOCKET_TIMEOUT)
            if not events:
                raise LoadError(f"{waiting} connections were not answered")
            for key, _ in events:
                number, connection = key.data
                answer = connection.recv(4)
                if len(answer) != 4 or answer[0] != 0x20 or answer[3] != 0:
                    raise LoadError(f"CONNECT of device {number} was answered {answer.hex()}")
                selector.unregister(key.fileobj)
                waiting -= 1
    return opened


def main() -> None:
    specification = json.loads(sys.argv[1])
    count = specification["connections"]
    raise_open_files(count + 200)
    wait_for_go()
    connections = []
    for at in range(1, count + 1, WAVE):
        connections += wave(specification["port"], range(at, min(at + WAVE, count + 1)))
    report(connections=len(connections))
    sys.stdin.readline()


if __name__ == "__main__":
    main()
