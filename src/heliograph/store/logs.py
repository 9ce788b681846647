"""Log messages."""

from collections.abc import Sequence

import msgspec

from heliograph.model.records import Log, LogAggregate
from heliograph.store.engine import Engine, Row
from heliograph.store.pages import ENTRY_BYTES, Hold, Page, Pages, hold_any

# An aggregate is of so many of the newest messages, and there are so many aggregates, at most.
MAXIMUM_MESSAGES = 1_000_000
MAXIMUM_AGGREGATES = 10_000
# What their subjects come to, in characters.
LARGEST_SUBJECTS = 8 << 20

_encode = msgspec.json.Encoder().encode


def _logs(rows: Sequence[Row]) -> list[Log]:
    return [Log(*row[:-1]) for row in rows]


def _sizes(rows: Sequence[Row]) -> list[int]:
    # As JSON: a control character takes six.
    return [len(_encode(row[6:8])) for row in rows]


class Logs(Pages[Log]):
    """What sensors logged."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, "logs", _logs, _sizes)

    async def aggregates(
        self, sensor: int, *, start: int, end: int, hold: Hold = hold_any
    ) -> Page[LogAggregate]:
        """Return one for each severity (warning, error) and subject, the last seen last.

        Of those last seen, as many as may be, and as their subjects are not larger than half a
        page; `truncated` tells whether there are more.
        """
        rows = await self._engine.fetch(
            "logs_aggregates",
            sensor=sensor,
            start=start,
            end=end,
            rows=MAXIMUM_MESSAGES,
            limit=MAXIMUM_AGGREGATES,
            longest=LARGEST_SUBJECTS,
        )
        page = Page([LogAggregate(*row[:7]) for row in reversed(rows)])
        page.truncated = bool(rows) and rows[0][7] > len(rows)
        page.size = sum([len(_encode(row[1])) + 2 * ENTRY_BYTES for row in rows])
        hold(page.size)
        return page
