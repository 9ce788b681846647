"""Where the newest row is looked for: near at first, so that few rows are read."""

from types import SimpleNamespace

import pytest

from heliograph.model.identifiers import first_ingest_id
from heliograph.model.time import DAY, MINUTE, now
from heliograph.store.clock import ClockStates
from heliograph.store.store import Store


class Rows:
    """An engine whose newest row has been received so long ago; it notes what is asked for."""

    def __init__(self, age: int | None):
        self.receipt = None if age is None else now() - age
        self.asked: list[int] = []

    async def fetch(self, query, **parameters):
        if query == "clock_state":
            return [(0, 0, 0, None, None, None)]
        self.asked.append(parameters["since"])
        if self.receipt is None or first_ingest_id(self.receipt) < self.asked[-1]:
            return []
        return [(first_ingest_id(self.receipt), self.receipt)]


async def newest(rows):
    return await Store.newest(SimpleNamespace(engine=rows, clock=ClockStates(rows)))


@pytest.mark.parametrize("age", [0, 7 * MINUTE, 2 * 60 * MINUTE, 3 * DAY, 4_000 * DAY])
async def test_no_more_is_read_than_twice_as_far_back_as_the_newest_lies(age):
    rows = Rows(age)
    assert await newest(rows) == (first_ingest_id(rows.receipt), rows.receipt)
    assert rows.asked[-1] >= first_ingest_id(now() - max(2 * age, MINUTE) - MINUTE)
    assert len(rows.asked) < 25


async def test_where_nothing_is_stored_all_is_asked_for_once():
    rows = Rows(None)
    assert await newest(rows) == (0, 0)
    assert rows.asked[-1] == 0
    assert len(rows.asked) < 30
