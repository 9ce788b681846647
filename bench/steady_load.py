"""A load of measurements over MQTT that goes on until it is told to end, as devices send them now.

The messages are built before the clock starts and sent again and again; all that changes from one
time to the next is when they say that they were measured.
"""

import json
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

from bench.mqtt_load import Sender, deliver, opened
from bench.packets import PACKET_IDS, chunks, payload, puback, publish
from bench.starting_line import awaited_end, report, wait_for_go

# So many messages that the packet ids begin again with the first.
MESSAGES = PACKET_IDS
TIME = b'"timestamp": '
DIGITS = b"%010d.%03d"


class SteadySender(Sender):
    """Publishes for its sensors in turn, a chunk of messages at a time, for ever."""

    def __init__(self, connection: socket.socket, window: int, sensors: Sequence[int]) -> None:
        """Build the messages; no chunk has two of one sensor."""
        super().__init__(connection, window)
        message = payload(0, 1).replace(TIME + b"0.000", TIME + DIGITS % (0, 0))
        packets = [
            publish(sensors[index % len(sensors)], message, index + 1) for index in range(MESSAGES)
        ]
        size = max(1, min(500, window // 4, len(sensors)))
        self._every = [(bytearray(data), count) for data, count in chunks(packets, size)]
        self._cycle = b"".join(puback(index + 1) for index in range(MESSAGES))
        self._length = len(packets[0])
        self._time_at = packets[0].index(TIME) + len(TIME)
        self._chunk = self._millisecond = 0
        self._ended = False

    @property
    def is_open(self) -> bool:
        """Whether there is something to send now."""
        return bool(self._rest) or (not self._ended and self.sent - self.acknowledged < self.window)

    @property
    def is_done(self) -> bool:
        """Whether it was told to end, and all is acknowledged."""
        return self._ended and not self._rest and self.acknowledged == self.sent

    def stop(self) -> None:
        """Send no more than the chunk that is under way."""
        self._ended = True

    def go_on(self) -> None:
        """Send again after a stop."""
        self._ended = False

    def _next(self) -> tuple[bytes | bytearray, int]:
        """Take the next chunk, timed now: no two have the same time."""
        data, count = self._every[self._chunk]
        self._chunk = (self._chunk + 1) % len(self._every)
        self._millisecond = max(self._millisecond + 1, time.time_ns() // 1_000_000)
        text = DIGITS % divmod(self._millisecond, 1_000)
        # All messages are as long: one stride from one's digit to the same of the next.
        for at, digit in enumerate(text, self._time_at):
            data[at :: self._length] = bytes((digit,)) * count
        return data, count

    def _expected(self, start: int, end: int) -> bytes:
        """Return the PUBACKs that are due, from one byte to another."""
        whole = len(self._cycle)
        at = start % whole
        times = -(-(at + end - start) // whole)
        return (self._cycle * times)[at : at + end - start]


def main() -> None:
    specification: dict[str, Any] = json.loads(sys.argv[1])
    first, last = specification["sensors"]
    connection = opened(specification["port"], "load-steady", "gateway", specification["key"])
    sender = SteadySender(connection, specification["window"], range(first, last + 1))
    warm_up = specification["warm_up"]
    deliver([sender], lambda _: sender.sent >= warm_up)
    warmed = sender.acknowledged
    sender.go_on()
    wait_for_go()
    ended = awaited_end()
    seconds = deliver([sender], lambda _: ended.is_set())
    report(seconds=seconds, messages=sender.acknowledged - warmed, warm_up=warmed)


if __name__ == "__main__":
    main()
