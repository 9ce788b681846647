"""Keeps the rollups going: a task beside ingest, which takes no more time than is left.

Queries are right at any moment: what is not rolled up yet they take from raw rows.
"""

import asyncio
import dataclasses
from collections.abc import Callable

import structlog

from heliograph.errors import StoreUnavailableError
from heliograph.ingest.reports import NumberTextReports
from heliograph.ingest.state import PipelineState
from heliograph.model.time import DAY, HOUR, MINUTE, SECOND, now
from heliograph.store import Store
from heliograph.store.lateness import LAG
from heliograph.store.rolling import Rolling, SupersededError
from heliograph.store.rollup_change import changes
from heliograph.store.rollup_counting import NumberTexts

log = structlog.get_logger()

# The frontier moves by so much of the clock.
STEP = 10 * MINUTE
# Far behind (the server was off) by an hour's steps, very far by a day's.
FAR, VERY_FAR = 3 * HOUR, 3 * DAY
# Between two looks at what is to do; marks of one look are worked off after the next, so that a
# burst of late rows is one piece of work.
POLL_SECONDS = 5.0
# Another instance that has worked within this time goes on with it.
OTHERS_SECONDS = 30.0
LONGEST_RETRY_SECONDS = 60.0
# While so many rows a second come, or as many messages wait, ingest goes before.
BUSY_ROWS, BUSY_DEPTH = 1_000, 500
# The time waited for each that was worked: ingest leaves a tenth then, else a half.
WAIT_BUSY, WAIT_IDLE = 9.0, 1.0
LONGEST_WAIT_SECONDS = 5.0


@dataclasses.dataclass(slots=True)
class RollupState:
    """How far the rollups are, for metrics. Times are microseconds."""

    frontier: int | None = None
    marks: int = 0
    ranges: int = 0
    stored_total: int = 0
    # Hours with more attributes than are rolled up.
    wide_total: int = 0

    def lag_seconds(self, moment: int) -> float:
        """Return how far the frontier is behind the clock."""
        return max(0, moment - self.frontier) / SECOND if self.frontier is not None else 0.0


class RollupTask:
    """Moves the frontier, and works off marks of late rows and the backlog of history."""

    def __init__(
        self,
        store: Store,
        pipeline: PipelineState,
        texts: NumberTextReports,
        *,
        moment: Callable[[], int] = now,
    ) -> None:
        """Roll up by the time that `moment` tells: what comes before the frontier is late.

        All values are looked at here, so that it is here that numbers sent as texts are found.
        """
        self._moment = moment
        self.state = RollupState()
        self._store = store
        self._pipeline = pipeline
        self._texts = texts
        self._found = NumberTexts(texts.is_news)
        self._rolling = Rolling(store.engine, self._pace, self._found)
        # Only one process writes to a SQLite file.
        self._alone = store.engine.name == "sqlite"
        self._seen: tuple[int, float] = (-1, 0.0)
        self._mark = 0
        # Since when it works, and how many rows had come by then.
        self._since = (0.0, 0)

    def forget(self) -> None:
        """Begin anew: the database was put back."""
        self._rolling = Rolling(self._store.engine, self._pace, self._found)
        self._seen, self._mark = (-1, 0.0), 0

    async def run(self) -> None:
        """Work for ever."""
        delay = POLL_SECONDS
        while True:
            try:
                with self._store.lineage.pinned():
                    delay = 0.0 if await self._work() else POLL_SECONDS
            except SupersededError:
                log.debug("another instance works on the rollups")
                delay = POLL_SECONDS
            except StoreUnavailableError as error:
                log.debug("the rollups wait for the database", reason=str(error))
                delay = min(max(delay, 0.5) * 2, LONGEST_RETRY_SECONDS)
            except Exception:
                # Whatever it is, queries are right without rollups: no reason to end the server.
                log.exception("rolling up has failed")
                delay = LONGEST_RETRY_SECONDS
            await asyncio.sleep(delay)

    async def _work(self) -> bool:
        """Do what is to be done now; tell whether there is more."""
        rolling = self._rolling
        began = asyncio.get_running_loop().time()
        more = True
        self._begin()
        while more and asyncio.get_running_loop().time() - began < POLL_SECONDS:
            state = await rolling.state()
            if not self._alone and self._others(state.generation):
                more = False
            elif (target := due(state.frontier, self._moment())) > state.frontier:
                await rolling.advance(target)
            else:
                more = bool(await rolling.redo(self._mark) or await rolling.fill())
        # Those that have come by now have waited long enough at the next look.
        self._mark = await rolling.newest_mark()
        await self._tell()
        return more

    async def _tell(self) -> None:
        for (sensor, name), text in self._found.take().items():
            self._texts.tell(sensor, name, text)
        pending = await self._store.rollups.pending()
        self.state.frontier = (await self._rolling.state()).frontier
        self.state.marks, self.state.ranges = pending.marks, pending.ranges
        self.state.stored_total, self.state.wide_total = self._rolling.stored, self._rolling.wide

    def _others(self, generation: int) -> bool:
        """Tell whether another instance has worked lately."""
        time = asyncio.get_running_loop().time()
        count = changes(generation)
        if count == changes(self._rolling.generation):
            return False
        if count != self._seen[0]:
            self._seen = (count, time)
        return time - self._seen[1] < OTHERS_SECONDS

    def _begin(self) -> None:
        self._since = (asyncio.get_running_loop().time(), self._pipeline.rows_total)

    async def _pace(self) -> None:
        """Wait for as long as the work since the last wait asks for."""
        since, rows = self._since
        worked = asyncio.get_running_loop().time() - since
        came = self._pipeline.rows_total - rows
        busy = came > BUSY_ROWS * worked or self._pipeline.depth > BUSY_DEPTH
        wait = worked * (WAIT_BUSY if busy else WAIT_IDLE)
        await asyncio.sleep(min(wait, LONGEST_WAIT_SECONDS))
        self._begin()


def due(frontier: int, moment: int) -> int:
    """Return where the frontier moves to next; not behind it: nothing is to be done."""
    latest = moment - LAG
    latest -= latest % STEP
    behind = latest - frontier
    for far, step in ((VERY_FAR, DAY), (FAR, HOUR)):
        if behind > far:
            return frontier - frontier % step + step
    return latest
