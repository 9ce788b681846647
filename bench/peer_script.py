"""The peer that most people begin with: a subscriber that inserts and commits message by message.

As the tutorials have it: paho-mqtt, a Mosquitto in front, QoS 1, sqlite3 or psycopg as they come.
Its table is the bare one, on SQLite in a file that is in WAL mode already, which asks for fewer
writes to the disk than the mode that the tutorials leave it in. Its port is open once it is
subscribed.
"""

import argparse
import itertools
import json
import socket
import sqlite3
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
import psycopg
from paho.mqtt.enums import CallbackAPIVersion

from bench.bare_store import COLUMNS, Row

CONNECT_TIMEOUT = 10


def inserting(url: str) -> Callable[[Row], None]:
    """Return what inserts a row and commits it."""
    columns, postgresql = ", ".join(COLUMNS), url.startswith("postgresql://")
    places = ", ".join(["%s" if postgresql else "?"] * len(COLUMNS))
    insert = f"INSERT INTO measurement ({columns}) VALUES ({places})"
    database: Any
    if postgresql:
        database = psycopg.connect(url, connect_timeout=CONNECT_TIMEOUT)
    else:
        database = sqlite3.connect(url)

    def write(row: Row) -> None:
        database.execute(insert, row)
        database.commit()

    return write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--broker", type=int, required=True, help="the broker's port")
    options = parser.parse_args()
    write = inserting(options.url)
    numbers = itertools.count(1)
    subscribed: list[socket.socket] = []

    def on_connect(client: mqtt.Client, *_: object) -> None:
        client.subscribe("measurements/+", qos=1)

    def on_subscribe(*_: object) -> None:
        subscribed.append(socket.create_server(("127.0.0.1", options.port)))

    def on_message(_client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        sensor, receipt = int(message.topic[-12:]), int(time.time() * 1e6)
        for item in json.loads(message.payload)["measurements"]:
            stamp, value = int(item["timestamp"] * 1e6), json.dumps(item["value"])
            write((sensor, stamp, next(numbers), receipt, item["revision"], value))

    client = mqtt.Client(CallbackAPIVersion.VERSION2, "script")
    client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
    client.connect("127.0.0.1", options.broker)
    client.loop_forever()


if __name__ == "__main__":
    main()
