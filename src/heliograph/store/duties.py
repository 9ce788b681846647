"""What one server at a time does of all that share a database, by leases with fences.

A duty belongs to the instance that has it for as long as that lives. Each transaction of a duty
makes sure that it is still this server's, and keeps it so until its commit: a server that stood
still for longer than its lease, and goes on, writes nothing under a duty that another has by then.
"""

import asyncio
import contextlib
import enum
from collections.abc import Callable, Iterator

import structlog

from heliograph.errors import DutyLostError, StoreUnavailableError
from heliograph.store.engine import Engine, Subject, Transaction, json_text
from heliograph.store.fencing import FENCE, Fence
from heliograph.store.instances import Held

log = structlog.get_logger()

# How often it is seen whose duties are free: so long they may rest after their holder's lease.
LOOK_SECONDS = 5.0


class DutyName(enum.StrEnum):
    """What one server at a time does."""

    ROLLUPS = "rollups"
    RETENTION = "retention"
    CONFIGURATIONS = "configurations"
    ALERTS = "alerts"
    HEARTBEAT = "heartbeat"
    PACKING = "packing"


class Duty:
    """One of the duties, as this server knows it; made by itself it is always this server's."""

    def __init__(self, name: DutyName) -> None:
        self.name = name
        self._fence: Fence | None = None
        self._is_sure: Callable[[], bool] | None = None
        self._given = asyncio.Event()

    @classmethod
    def leased(cls, name: DutyName, is_sure: Callable[[], bool]) -> "Duty":
        """Return one that is this server's only once it is given, and while `is_sure` is true."""
        duty = cls(name)
        duty._is_sure = is_sure
        return duty

    @property
    def held(self) -> bool:
        """Whether it is this server's now."""
        return self._is_sure is None or (self._fence is not None and self._is_sure())

    async def given(self) -> None:
        """Return when it is this server's."""
        while not self.held:
            self._given.clear()
            await self._given.wait()

    @contextlib.contextmanager
    def fenced(self) -> Iterator[None]:
        """Have each transaction of this task make sure that the duty is this server's.

        One that finds it another's raises DutyLostError, and has changed nothing.

        Raises:
            DutyLostError: it is another's.
        """
        if self._is_sure is not None and self._fence is None:
            raise DutyLostError(self.name)
        fence = self._fence
        token = FENCE.set(fence)
        try:
            yield
        except DutyLostError:
            if self._fence == fence:
                self._fence = None
            raise
        finally:
            FENCE.reset(token)

    def give(self, fence: Fence | None) -> None:
        """Take notice of whose it is; None: another's."""
        if self._is_sure is not None:
            self._fence = fence
        if fence is not None:
            self._given.set()


class Duties(Subject):
    """All duties; `token` is this server's among the instances of a database."""

    def __init__(self, engine: Engine, token: str, is_sure: Callable[[], bool] | None) -> None:
        """Take what is free while `is_sure` of the lease; None: there are no other servers."""
        super().__init__(engine)
        self._token = token
        self._is_alone = is_sure is None
        self._duties = {
            name: Duty(name) if is_sure is None else Duty.leased(name, is_sure) for name in DutyName
        }
        self._are_made = False
        self._work = asyncio.Event()

    def __getitem__(self, name: DutyName) -> Duty:
        """Return one of them."""
        return self._duties[name]

    @property
    def held(self) -> list[str]:
        """The names of those that are this server's now."""
        return [name.value for name, duty in self._duties.items() if duty.held]

    async def run(self) -> None:
        """Take what is free, for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if self._is_alone else LOOK_SECONDS):
                    await self._work.wait()
            self._work.clear()
            with contextlib.suppress(StoreUnavailableError):
                await self.look()

    async def look(self) -> None:
        """Take what is free, and take notice of what is whose.

        Raises:
            StoreUnavailableError: the database is away.
        """
        if self._is_alone:
            return

        async def work(transaction: Transaction) -> list[Held]:
            if not self._are_made:
                await transaction.fetch("duties_make", names=json_text(list(DutyName)))
            await transaction.fetch("duties_take", token=self._token)
            return [Held(*row) for row in await transaction.fetch("duties_list")]

        found = await self._engine.change(work)
        self._are_made = True
        taken = []
        for each in found:
            # There may be more in a database that a later version has used.
            duty = self._duties.get(each.duty)  # type: ignore[call-overload] # a name is its text
            if duty is not None:
                was_held = duty.held
                is_ours = each.holder == self._token
                duty.give(Fence(each.duty, each.holder, each.fence) if is_ours else None)
                if is_ours and not was_held:
                    taken.append(each.duty)
        if taken:
            log.info("duties taken over", duties=taken)

    def forget(self) -> None:
        """Take all anew: the database was put back."""
        if not self._is_alone:
            for duty in self._duties.values():
                duty.give(None)
            self._are_made = False
            self._work.set()

    async def end(self) -> None:
        """Leave all to others."""
        if not self._is_alone:
            with contextlib.suppress(StoreUnavailableError):
                await self._write("duties_release", token=self._token)
