"""Who may always be served over MQTT, and who gets what others leave over.

Each principal but administrators has a share: so much may be taken from it however much others
send. What is beyond that is taken while there is room, and waits, unread, while others send as
much as can be committed. Nothing is refused: its client is held back as by a slow network.
"""

import asyncio

import msgspec
import structlog

from heliograph.model.principal import Principal
from heliograph.model.tokens import Taken
from heliograph.mqtt.counts import Counts
from heliograph.mqtt.host import Host
from heliograph.mqtt.reading import SHARE, PacketProtocol
from heliograph.mqtt.session import Owner

log = structlog.get_logger()

# About what a message with one measurement counts as in flight, in bytes.
MESSAGE_BYTES = 640
# In messages: any packet but a PUBLISH and a PUBACK that is due, and each filter of a SUBSCRIBE
# or UNSUBSCRIBE.
PACKET_COST = 0.5
FILTER_COST = 10.0
# The whole share of so many seconds may be taken at once.
BURST_SECONDS = 6.0
TICK_SECONDS = 0.1
# With nothing to commit at so many ticks in a row the others have stopped. At one alone it may be
# that they have not been read yet.
IDLE_TICKS = 5
# While a commit has more than so many messages of those within their shares, there is no more
# room: what comes while the one before is written makes a few at most as long as there is.
CROWDED_MESSAGES = 150
WARN_SECONDS = 60.0
MAXIMUM_SHARES = 100_000
# Often enough to settle with other servers: a burst lasts for longer.
SETTLE_SECONDS = 2.0
# What differs by less than one of so many parts of a burst is not settled.
SETTLED_PARTS = 100


class Share(msgspec.Struct, eq=False):
    """What a principal may still have taken, in bytes; below 0 it is more than its share."""

    name: str
    credit: float
    credited_at: float
    connections: int = 0
    is_over: bool = False
    # Bytes of it that were committed while it was over.
    committed: int = 0
    warn_from: float = 0.0
    # Connections of which nothing is taken.
    waiting: set[PacketProtocol] = msgspec.field(default_factory=set)
    # The credit as it was last settled with other servers, and what it has earned since.
    settled: float = 0.0
    earned: float = 0.0


class Shares:
    """Knows the shares of all who are connected, and holds back who is over while others send."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: Host,
        counts: Counts,
        messages_per_minute: int,
    ) -> None:
        """Give each principal so many messages a minute; 0: nobody is held back."""
        self._loop = loop
        self._counts = counts
        self._host = host
        self.allow(messages_per_minute)
        self._shares: dict[Owner, Share] = {}
        self._over: set[Share] = set()
        self._is_crowded = False
        self._idle_ticks = 0
        self._last_commits = (0, 0)
        self._timer: asyncio.TimerHandle | None = None
        self._is_shared = False
        self._settle_from = 0.0

    def allow(self, messages_per_minute: int) -> None:
        """Give each principal so many messages a minute from now on."""
        self._per_second = messages_per_minute / 60 * MESSAGE_BYTES
        self._burst = self._per_second * BURST_SECONDS

    def enter(self, owner: Owner, principal: Principal) -> Share | None:
        """Return the share that a new connection of this principal has a part in; None: none."""
        if not self._per_second or principal.is_admin:
            return None
        share = self._shares.get(owner)
        if share is None:
            if len(self._shares) >= MAXIMUM_SHARES:
                self._shares = {o: s for o, s in self._shares.items() if s.connections or s.is_over}
            share = Share(principal.name, self._burst, self._loop.time(), settled=self._burst)
            self._shares[owner] = share
        share.connections += 1
        return share

    @staticmethod
    def leave(share: Share, connection: PacketProtocol) -> None:
        """Forget a connection that has ended; what its principal has taken is not forgotten."""
        share.waiting.discard(connection)
        share.connections -= 1

    def overdraw(self, share: Share, connection: PacketProtocol) -> None:
        """Hold the connection back if its principal has had its share and others send, too."""
        self._earn(share)
        if share.credit >= 0 or not self._burst:
            return
        share.credit = max(share.credit, -self._burst)
        if not share.is_over:
            share.is_over = True
            self._over.add(share)
            if self._timer is None:
                self._last_commits = self._host.committed
                self._is_crowded = False
                self._timer = self._loop.call_later(TICK_SECONDS, self._tick)
        if self._is_crowded:
            if not share.waiting:
                self._warn(share)
            share.waiting.add(connection)
            connection.pause(SHARE)

    def share(self, *, is_shared: bool) -> None:
        """Settle what is taken with other servers from now on, or count alone."""
        self._is_shared = is_shared
        for share in self._shares.values():
            share.settled, share.earned = share.credit, 0.0

    def taken(self) -> Taken:
        """Return what is to be settled; what was left over by others is put back."""
        moment = self._loop.time()
        by_name: dict[int | str, float] = {}
        if self._is_shared and self._burst and moment >= self._settle_from:
            self._settle_from = moment + SETTLE_SECONDS
            for share in self._shares.values():
                self._earn(share)
                spent = share.settled + share.earned - share.credit
                if abs(spent) >= self._burst / SETTLED_PARTS:
                    by_name[share.name] = spent
                    share.settled, share.earned = share.credit, 0.0
        return Taken("mqtt", self._burst, self._per_second or 1.0, by_name)

    def settle(self, left: dict[int | str, float]) -> None:
        """Have what all servers together have left, but for what was taken since it was asked."""
        for share in self._shares.values():
            if (found := left.get(share.name)) is not None:
                # By as much is what is settled another one than was known here.
                share.credit += found - share.settled
                share.settled = found

    def _warn(self, share: Share) -> None:
        self._counts.held_back += 1
        if share.credited_at >= share.warn_from:
            share.warn_from = share.credited_at + WARN_SECONDS
            log.info("client throttled", name=share.name)

    def close(self) -> None:
        """Hold nobody back any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _earn(self, share: Share) -> None:
        moment = self._loop.time()
        earned = (moment - share.credited_at) * self._per_second
        before, share.credit = share.credit, min(share.credit + earned, self._burst)
        share.earned += share.credit - before
        share.credited_at = moment

    def _tick(self) -> None:
        """Look whether there is room, and let those go on who may."""
        self._is_crowded = self._look()
        for share in list(self._over):
            self._earn(share)
            if not self._is_crowded or not self._burst:
                # What was left over by others is nobody's debt.
                share.credit = max(share.credit, 0.0)
            elif share.credit < 0:
                continue
            if share.credit >= self._burst:
                share.is_over = False
                self._over.discard(share)
            waiting, share.waiting = share.waiting, set()
            for connection in waiting:
                # All of them at once would be a long turn.
                connection.wait_for_turn()
                connection.resume(SHARE)
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick) if self._over else None

    def _look(self) -> bool:
        """Return whether those within their shares fill the commits by themselves."""
        bytes_before, commits_before = self._last_commits
        self._last_commits = bytes_now, commits_now = self._host.committed
        over = 0
        for share in self._over:
            over += share.committed
            share.committed = 0
        commits = commits_now - commits_before
        if not commits:
            # The database may be slow, or those who filled the commits have stopped.
            self._idle_ticks = 0 if self._host.in_flight else self._idle_ticks + 1
            return self._is_crowded and self._idle_ticks < IDLE_TICKS
        self._idle_ticks = 0
        others = bytes_now - bytes_before - over
        return others > commits * CROWDED_MESSAGES * MESSAGE_BYTES
