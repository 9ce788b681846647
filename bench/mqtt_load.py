"""A load of measurements over MQTT, as fast as the other side acknowledges them."""

import json
import math
import selectors
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.mqtt_connection import Sender, opened
from bench.packets import device_key, identifier, publishes
from bench.starting_line import LoadError, report, wait_for_go

PATIENCE = 60.0
# How long ago the first was measured, in milliseconds: all of it is in the past.
AGE = 3_600_000


def connections(specification: dict[str, Any]) -> list[tuple[Sender, list[int]]]:
    """Return the open connections, each with the sensors that it publishes for."""
    count, numbers = specification["connections"], range(1, specification["sensors"] + 1)
    senders = []
    for index in range(count):
        if specification["gateway"]:
            own, username, password = list(numbers), "gateway", specification["key"]
        else:
            own = [numbers[index]]
            username, password = identifier(own[0]), device_key(own[0])
        connection = opened(specification["port"], f"load-{index}", username, password)
        senders.append((Sender(connection, max(1, specification["window"] // count)), own))
    return senders


def deliver(senders: Sequence[Sender], over: Callable[[float], bool] | None = None) -> float:
    """Send everything; return the seconds until the last PUBACK.

    `over` tells, from the seconds spent, whether to send no more.
    """
    selector = selectors.DefaultSelector()
    both, reading = selectors.EVENT_READ | selectors.EVENT_WRITE, selectors.EVENT_READ
    interest = dict.fromkeys(senders, both)
    for sender in senders:
        selector.register(sender.connection, both, sender)
    started = progress = time.perf_counter()
    waiting = set(senders)
    while waiting:
        events = selector.select(1.0)
        clock = time.perf_counter()
        progress = clock if events else progress
        if clock - progress > PATIENCE:
            raise LoadError(f"nothing acknowledged for {PATIENCE:g} seconds")
        if over is not None and over(clock - started):
            for sender in senders:
                sender.stop()
        for key, ready in events:
            sender = key.data
            if ready & selectors.EVENT_READ:
                sender.receive()
            if ready & selectors.EVENT_WRITE and sender.is_open:
                sender.send()
            if sender.is_done:
                waiting.discard(sender)
        for sender in senders:
            wanted = both if sender.is_open else reading
            if interest[sender] != wanted:
                interest[sender] = wanted
                selector.modify(sender.connection, wanted, sender)
    selector.close()
    return time.perf_counter() - started


def main() -> None:
    specification = json.loads(sys.argv[1])
    measurements = specification["measurements"]
    first = int(time.time() * 1_000) - specification.get("age", AGE)
    pairs = connections(specification)
    senders = [sender for sender, _ in pairs]
    for phase in ("warm_up", "messages"):
        share = specification[phase] // len(pairs)
        for sender, sensors in pairs:
            sender.load(publishes(sensors, share, measurements, first))
            first += share * measurements
        if phase == "warm_up":
            deliver(senders)
    wait_for_go()
    longest = specification.get("seconds", math.inf)
    seconds = deliver(senders, lambda spent: spent > longest)
    report(seconds=seconds, messages=sum(sender.acknowledged for sender in senders))


if __name__ == "__main__":
    main()
