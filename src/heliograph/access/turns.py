"""Who comes next where one at a time is served: round robin over addresses, and their accounts."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from heliograph.errors import ErrorCode, HeliographError

RETRY_SECONDS = 5


class Party(NamedTuple):
    """On whose account somebody waits: an address (of IPv6 its /64), and there an account."""

    network: str
    account: str


class Turns:
    """Serves one at a time. A network that has been served goes behind all others that wait.

    So whoever is alone at an address waits for the one that is being served and, at worst, for
    one of each other address, however many wait there. Within an address it is the same with its
    accounts. Of those who wait as one party the first to come is the first.
    """

    def __init__(
        self,
        *,
        most: int,
        most_of_network: int,
        most_of_party: int,
        rest: float = 0.0,
        spent: Callable[[], float] = time.thread_time,
    ) -> None:
        """Bound how many wait: all together, those of a network, and those of a party.

        A network of which more wait when one has been served is served again after `rest` times
        as long as the event loop was busy meanwhile, by what it has `spent` of its processor in
        seconds: where nobody else has anything to do, nobody need rest. Others do not wait for it.
        """
        self._most = most
        self._most_of_network = most_of_network
        self._most_of_party = most_of_party
        # In the order in which they are served.
        self._queues: dict[str, dict[str, deque[asyncio.Future[None]]]] = {}
        self._served: Party | None = None
        self._rest = rest
        self._spent = spent
        self._spent_before = 0.0
        # Until when a network is not served.
        self._resting: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many wait, without the one that is served."""
        return sum(map(self._of_network, self._queues))

    @contextlib.asynccontextmanager
    async def take(self, party: Party) -> AsyncIterator[None]:
        """Wait for the turn, and keep it as long as the block lasts.

        Raises:
            HeliographError: RATE_LIMITED, too many wait as this party or from its network;
                QUEUE_FULL, too many wait altogether.
        """
        if self._served is None and party.network not in self._resting:
            self._serve(party)
        else:
            await self._wait(party)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, party: Party) -> None:
        self._make_room(party)
        turn = asyncio.get_running_loop().create_future()
        self._queues.setdefault(party.network, {}).setdefault(party.account, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._leave(party, turn)
            else:
                self._pass_on()  # it had its turn already
            raise

    def _make_room(self, party: Party) -> None:
        mine = self._of_network(party.network)
        own = len(self._queues.get(party.network, {}).get(party.account, ()))
        if own >= self._most_of_party:
            raise _too_many_of_yours()
        # Whoever crowds out the others gives way, the last to come first.
        if mine >= self._most_of_network:
            if not self._turn_away(party.network, own + 1):
                raise _too_many_of_yours()
        elif self.waiting >= self._most:
            network = max(self._queues, key=self._of_network)
            if self._of_network(network) <= mine + 1:
                message = "Too many log in at the same time"
                raise HeliographError(ErrorCode.QUEUE_FULL, message, retry_after=RETRY_SECONDS)
            self._turn_away(network, 0)

    def _turn_away(self, network: str, few: int) -> bool:
        """Turn away the last of the account that most wait as at a network; False: so few do."""
        account, queue = max(self._queues[network].items(), key=lambda item: len(item[1]))
        if len(queue) <= few:
            return False
        last = queue[-1]
        self._leave(Party(network, account), last)
        if not last.done():
            last.set_exception(_too_many_of_yours())
        return True

    def _of_network(self, network: str) -> int:
        return sum(map(len, self._queues.get(network, {}).values()))

    def _leave(self, party: Party, turn: "asyncio.Future[None]") -> None:
        accounts = self._queues.get(party.network, {})
        queue = accounts.get(party.account, deque())
        with contextlib.suppress(ValueError):
            queue.remove(turn)
        self._forget_empty(party)

    def _forget_empty(self, party: Party) -> None:
        accounts = self._queues.get(party.network, {})
        if not accounts.get(party.account):
            accounts.pop(party.account, None)
        if not accounts:
            self._queues.pop(party.network, None)

    def _pass_on(self) -> None:
        """Let the next one have the turn."""
        if self._served is not None and self._served.network in self._queues:
            network, account = self._served
            if self._rest:
                busy = self._spent() - self._spent_before
                self._resting[network] = time.monotonic() + self._rest * busy
            # Behind those that have come meanwhile.
            accounts = self._queues[network] = self._queues.pop(network)
            if account in accounts:
                accounts[account] = accounts.pop(account)
        self._served = None
        self._end_rests()
        while self._served is None and (following := self._next_network()) is not None:
            account, queue = next(iter(self._queues[following].items()))
            turn = queue.popleft()
            party = Party(following, account)
            self._forget_empty(party)
            if not turn.done():
                self._serve(party)
                turn.set_result(None)

    def _serve(self, party: Party) -> None:
        self._served, self._spent_before = party, self._spent()

    def _next_network(self) -> str | None:
        return next((network for network in self._queues if network not in self._resting), None)

    def _end_rests(self) -> None:
        """Let those go on whose rest is over, and look again when the next one's is."""
        if not self._resting:
            return
        moment = time.monotonic()
        self._resting = {n: until for n, until in self._resting.items() if until > moment}
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._resting:
            soonest = min(self._resting.values()) - moment
            self._timer = asyncio.get_running_loop().call_later(soonest, self._look)

    def _look(self) -> None:
        if self._served is None:
            self._pass_on()
        else:
            self._end_rests()


def _too_many_of_yours() -> HeliographError:
    return HeliographError(
        ErrorCode.RATE_LIMITED,
        "Too many log-ins of this account, or from this address, at the same time",
        retry_after=RETRY_SECONDS,
    )
