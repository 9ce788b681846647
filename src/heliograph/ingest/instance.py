"""The instance number of this server, by which its ids are its own.

Several servers on one PostgreSQL lease a number each. The lease is checked before each commit by a
clock that no stop of the process stops; one that has run out is renewed first. If another server
has got the number meanwhile, a new one is leased, and what waits gets new ids. What was tried
already keeps its ids: they were made while the number was this server's, they tell the time, and
the number has rested for twice the lease since, so that nobody makes them again.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from typing import Final

import structlog

from heliograph.errors import AlreadyExistsError, StartError, StoreUnavailableError
from heliograph.ingest.batch import IngestIds
from heliograph.ingest.clock import elapsed_ns
from heliograph.model.identifiers import first_ingest_id
from heliograph.model.listeners import Listeners
from heliograph.model.time import SECOND, now
from heliograph.store import Store
from heliograph.store.instances import Leased, Living

log = structlog.get_logger()

LEASE_SECONDS = 30.0
# Ids from beyond now tell no time that could keep two servers' apart. Whoever had the number may
# still commit what it made behind the newest stored id: so much id time is more than may wait.
ROOM_BEHIND_AHEAD = 10 * SECOND
# Another server is taken for gone if it is not found for so long: after a restart of the database
# each one finds the others only once they have renewed their leases.
GONE_SECONDS = 10.0
# Three renewals may fail before a commit has to wait for one.
RENEWALS_PER_LEASE: Final = 4


class Instance:
    """Holds a number; `ids` makes ids with it. `others` are the servers beside this one.

    The `token` is the server's for as long as it runs, whichever number it has.
    """

    def __init__(
        self, store: Store, ids: IngestIds, *, mqtt_client_ids: Sequence[str] = ()
    ) -> None:
        """Take the first of these client ids that no other server has, if there are any."""
        self.ids = ids
        self.others: list[Living] = []
        # Told when there are more or fewer of them.
        self.counted: Listeners[[]] = Listeners()
        # Told when another server has the number: `hold` takes a new one.
        self.lost: Listeners[[]] = Listeners()
        self._store = store
        self._mqtt_client_ids = mqtt_client_ids
        # Under which this server shares a broker's messages.
        self.mqtt_client_id: str | None = None
        self.token = secrets.token_hex(16)
        self._held_until = 0.0
        self._reported: set[str] = set()
        # Tokens of others that are not found, since when.
        self._missed: dict[str, float] = {}
        self._wanted = asyncio.Event()

    @property
    def number(self) -> int:
        """The number in this server's ids."""
        return self.ids.instance

    @property
    def held(self) -> bool:
        """Whether the number is certainly this server's now."""
        return elapsed_ns() / 1e9 < self._held_until

    async def start(self) -> None:
        """Lease a number.

        Raises:
            StartError: other servers share a broker's messages under these client ids.
        """
        try:
            await self._take_one()
        except StoreUnavailableError as error:
            raise StartError(f"DATABASE_URL: can't lease an instance number: {error}") from error

    async def hold(self) -> bool:
        """Make sure of a number; return whether it is another one now, and so are the next ids.

        Raises:
            StoreUnavailableError: that can't be said now.
        """
        before = self.ids.instance
        began = elapsed_ns() / 1e9
        leased = await self._store.instances.renew(self.token, _lease())
        if leased.number is not None:
            self._note(leased, began)
        else:
            # It must not end for a client id that somebody else has taken meanwhile.
            await self._take(None)
            log.warning(
                "instance number lost to another server: new ids for waiting messages",
                before=before,
                instance=self.ids.instance,
            )
        return self.ids.instance != before

    async def run(self) -> None:
        """Renew the lease, for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEASE_SECONDS / RENEWALS_PER_LEASE):
                    await self._wanted.wait()
            self._wanted.clear()
            began = elapsed_ns() / 1e9
            with contextlib.suppress(StoreUnavailableError):
                leased = await self._store.instances.renew(self.token, _lease())
                if leased.number == self.ids.instance:
                    self._note(leased, began)
                else:
                    # Who commits leases one: what waits has to get new ids.
                    self._held_until = 0.0
                    self.lost()

    def look(self) -> None:
        """Renew the lease now, and so learn of the other servers."""
        self._wanted.set()

    def forget(self) -> None:
        """Lease anew before the next commit: the database was put back, and the lease with it."""
        self._held_until = 0.0

    async def end(self) -> None:
        """Give the number back; it rests."""
        with contextlib.suppress(StoreUnavailableError):
            await self._store.instances.release(self.token, _lease())

    async def _take_one(self) -> None:
        for client_id in self._mqtt_client_ids or (None,):
            with contextlib.suppress(AlreadyExistsError):
                await self._take(client_id)
                self.mqtt_client_id = client_id
                return
        raise StartError(
            "MQTT_CLIENT_ID: another server on this database shares the broker's messages as"
            f" {self._mqtt_client_ids[-1]!r}, and the two would end each other's connections: give"
            " each a client id of its own, which stays the same over restarts"
        )

    async def _take(self, mqtt_client_id: str | None) -> None:
        began = elapsed_ns() / 1e9
        newest, _ = await self._store.newest()
        if newest >= first_ingest_id(now()):
            newest += first_ingest_id(ROOM_BEHIND_AHEAD)
        instances = self._store.instances
        leased = await instances.take(self.token, _lease(), mqtt_client_id=mqtt_client_id)
        self._note(leased, began)
        self.ids.move(self.ids.instance, newest)

    def _note(self, leased: Leased, began: float) -> None:
        number = leased.number
        if number is not None and number != self.ids.instance:
            self.ids.move(number, 0)
        self._held_until = began + LEASE_SECONDS
        found = {other.token for other in leased.others}
        missing = [other for other in self.others if other.token not in found]
        self._missed = {each.token: self._missed.get(each.token, began) for each in missing}
        gone = [each for each in missing if began - self._missed[each.token] > GONE_SECONDS]
        count = len(self.others)
        self.others = sorted([*leased.others, *(each for each in missing if each not in gone)])
        if len(self.others) != count:
            self.counted()
        if gone:
            self._tell("other servers gone", gone=[each.number for each in gone])
        if not found <= self._reported:
            self._tell("other servers on the database")
        self._reported = {other.token for other in self.others}

    def _tell(self, what: str, **told: list[int]) -> None:
        others = [other.number for other in self.others]
        log.info(what, instance=self.ids.instance, others=others, **told)


def _lease() -> int:
    return int(LEASE_SECONDS * SECOND)
