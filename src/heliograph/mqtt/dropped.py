"""The watch on messages that the broker drops after it has acknowledged them."""

import asyncio

import structlog

from heliograph.model.records import BrokerDrops
from heliograph.model.time import SECOND, now

TOPIC = "$SYS/broker/publish/messages/dropped"
# Tells the counts of one run of the broker from those of the next.
UPTIME = "$SYS/broker/uptime"
# It says for how long it has run each `sys_interval`, by its clock, and we note it later by ours.
SLACK_SECONDS = 60
LONGEST_NUMBER = 18

log = structlog.get_logger()


class Dropped:
    """How many messages the broker has dropped since the link was made, and before that.

    Mosquitto counts them in `$SYS`, for all clients together: whoever does not keep up, a full
    queue or a QoS 0 message may be the cause. Other brokers say nothing there. What it dropped
    while no server was there is what it says at first, less what was `known` of it then.
    """

    def __init__(self) -> None:
        self.count = 0
        # What it had said when that was last noted, by this server or by one before.
        self.known: BrokerDrops | None = None
        # Set whenever there is something new to note.
        self.changed = asyncio.Event()
        self._last: int | None = None
        self._uptime: int | None = None
        # The first count, until it is clear of which run of the broker it is.
        self._first: int | None = None

    def said(self) -> BrokerDrops | None:
        """Return what it has said last; None: nothing yet."""
        return None if self._last is None else BrokerDrops(self._last, self._uptime, now())

    def heard(self, topic: str, payload: bytes) -> None:
        """Take one of the broker's own figures."""
        if topic == UPTIME:
            number = payload.removesuffix(b" seconds")
            if number.isdigit() and len(number) <= LONGEST_NUMBER:
                self._uptime = int(number)
                self.settle()
        elif payload.isdigit() and len(payload) <= LONGEST_NUMBER:
            self._count(int(payload))

    def settle(self) -> None:
        """Wait no longer to be told for how long the broker has run."""
        first, self._first = self._first, None
        if first is not None:
            self._begin(first)

    def _count(self, total: int) -> None:
        last = self._last
        if last is None and self.known is not None and self._uptime is None:
            self._first = total
            return
        if last is None:
            self._begin(total)
        elif total != last:
            self._last = total
            # Less than before: it was restarted meanwhile, and counts from 0 again.
            self._add(total - last if total > last else total, while_away=False)

    def _begin(self, total: int) -> None:
        self._last = total
        if self.known is None:
            self.changed.set()  # what was dropped before anybody listened is no news
        elif self._is_another_run(self.known, total):
            self._add(total, while_away=True)
        else:
            self._add(total - self.known.total, while_away=True)

    def _is_another_run(self, known: BrokerDrops, total: int) -> bool:
        if total < known.total:
            return True
        if self._uptime is None or known.uptime is None:
            return False
        elapsed = (now() - known.noted_at) // SECOND
        return self._uptime < known.uptime + elapsed - SLACK_SECONDS

    def _add(self, more: int, *, while_away: bool) -> None:
        self.changed.set()
        if not more:
            return
        self.count += more
        log.warning(
            "the broker has dropped messages that it had taken",
            dropped=more,
            in_all=self.count,
            while_away=while_away,
        )
