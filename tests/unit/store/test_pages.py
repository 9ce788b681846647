"""Walking pages, whatever times the rows have."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.model.records import Measurement
from heliograph.store import pages as pages_module
from heliograph.store.measurements import having
from heliograph.store.pages import Pages

LEAST, GREATEST = -(1 << 63), (1 << 63) - 1
# Of each row's text.
SIZE = 100
edges = st.sampled_from([LEAST, LEAST + 1, GREATEST, 0])
# Few times, so that many rows share one.
keys = st.lists(st.tuples(st.integers(-2, 2), st.integers(-9, 9) | edges), unique=True)


class Rows:
    """An engine of some rows in memory that answers the two queries of pages."""

    def __init__(self, rows: Sequence[tuple[int, int]]) -> None:
        self._rows = sorted(rows)

    async def fetch(
        self, query, *, timestamp, fingerprint, limit, longest, since=LEAST, until=GREATEST, **_
    ):
        cursor = timestamp, fingerprint
        if query == "rows_after":
            found = [row for row in self._rows if row > cursor and row[0] <= until]
        else:
            found = [row for row in self._rows[::-1] if row < cursor and row[0] >= since]
        return [(0, *row, "x" * SIZE if longest >= SIZE else None, SIZE) for row in found[:limit]]


def records(rows):
    assert all(row[3] is not None for row in rows)
    return [
        Measurement(0, timestamp, fingerprint, 0, None, msgspec.Raw(b"{}"))
        for _, timestamp, fingerprint, _, _ in rows
    ]


def sizes(rows):
    return [len(row[3]) for row in rows]


def pages(rows):
    return Pages(Rows(rows), "rows", records, sizes)


def positions(page):
    return [(row.timestamp, row.fingerprint) for row in page]


def even(row):
    return row if row.fingerprint % 2 == 0 else None


async def walk(table, direction, limit, select, *, by_key):
    """Return what is met, in the order of time, page by page: by the exact cursor, or by times."""
    met = []
    page = await table.page(1, key=None, direction=direction, limit=limit, select=select)
    for _ in range(1_000):
        met = [*met, positions(page)] if direction == "next" else [positions(page), *met]
        if not page.more or (by_key and not page):
            return met
        if by_key:
            edge = page[-1 if direction == "next" else 0].timestamp
            page = await table.page(1, key=edge, direction=direction, limit=limit, select=select)
        else:
            page = await table.page(
                1, cursor=page.reached, direction=direction, limit=limit, select=select
            )
    raise AssertionError("it does not end")


@given(keys, st.integers(1, 7), st.sampled_from(["next", "previous"]), st.booleans())
def test_walking_by_the_cursor_meets_every_row_once(rows, limit, direction, selected):
    met = asyncio.run(walk(pages(rows), direction, limit, even if selected else None, by_key=False))
    wanted = [row for row in sorted(rows) if not selected or row[1] % 2 == 0]
    assert [row for page in met for row in page] == wanted
    # No two pages share a time.
    times = [time for page in met for time in {row[0] for row in page}]
    assert len(times) == len(set(times))


@given(keys, st.integers(1, 7), st.sampled_from(["next", "previous"]), st.booleans())
def test_walking_by_times_meets_every_row_once_and_divides_none(rows, limit, direction, selected):
    select = even if selected else None
    wanted = [row for row in sorted(rows) if not selected or row[1] % 2 == 0]
    met = asyncio.run(walk(pages(rows), direction, limit, select, by_key=True))
    assert [row for page in met for row in page] == wanted
    times = [{timestamp for timestamp, _ in page} for page in met]
    for at, page in enumerate(times):
        assert not any(page & other for other in times[:at])


@given(keys, st.integers(1, 7), st.integers(-3, 3), st.integers(-3, 3), st.booleans())
def test_a_range_is_walked_from_both_ends(rows, limit, start, end, forward):
    table = pages(rows)

    async def walked():
        met, cursor = [], None
        while True:
            page = await table.between(
                1, start=start, end=end, cursor=cursor, forward=forward, limit=limit
            )
            assert len(page) <= limit
            met += positions(page)
            if not page.more:
                return met
            cursor = page.reached

    wanted = sorted((row for row in rows if start <= row[0] < end), reverse=not forward)
    assert asyncio.run(walked()) == wanted


@given(
    keys, st.integers(1, 7), st.sampled_from(["next", "previous"]), st.booleans(), st.integers(1, 4)
)
def test_pages_that_end_early_by_bytes_lose_nothing(rows, limit, direction, selected, fitting):
    select = even if selected else None
    wanted = [row for row in sorted(rows) if not selected or row[1] % 2 == 0]
    forward = direction == "next"

    async def walked():
        table, met, cursor = pages(rows), [], None
        while True:
            if cursor is None:
                page = await table.page(
                    1, key=None, direction=direction, limit=limit, select=select
                )
            else:
                page = await table.page(
                    1, cursor=cursor, direction=direction, limit=limit, select=select
                )
            assert len(page) <= fitting
            found = positions(page)
            met = met + found if forward else found + met
            if not page.more:
                return met
            # Inside a time only where that is said, and then there is nothing else on the page.
            edge, left = page.reached, [row for row in wanted if row not in met]
            divided = bool(page) and edge[0] in {row[0] for row in left}
            # What follows and is left out is of the same time, too.
            assert page.truncated == divided or (selected and page.truncated)
            if page.truncated:
                assert {row.timestamp for row in page} == {edge[0]}
            cursor = edge

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages_module, "LARGEST_PAGE", fitting * (SIZE + pages_module.ENTRY_BYTES))
        patch.setattr(pages_module, "CHUNK_SIZE", 3 * SIZE)
        patch.setattr(pages_module, "FEW", 2)
        assert asyncio.run(walked()) == wanted


@pytest.mark.parametrize("direction", ["next", "previous"])
@given(rows=keys, limit=st.integers(1, 3))
def test_a_page_that_looks_in_vain_leads_on(direction, rows, limit):
    """With a bound on what is looked at smaller than what is left out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages_module, "MAXIMUM_ROWS", 4)
        met = asyncio.run(walk(pages(rows), direction, limit, even, by_key=False))
    assert [row for page in met for row in page] == [row for row in sorted(rows) if row[1] % 2 == 0]


@pytest.mark.parametrize(
    ("names", "value", "left"),
    [
        (["a"], b'{"a":1,"b":2}', b'{"a":1}'),
        (["b", "a", "a"], b'{"a":1,"b":2}', b'{"b":2,"a":1}'),
        (["a.b"], b'{"a":{"b":1.0,"c":2}}', b'{"a":{"b":1.0}}'),
        (["a.b", "a.c.d"], b'{"a":{"b":1,"c":{"d":null}}}', b'{"a":{"b":1,"c":{"d":null}}}'),
        (["a\\.b"], b'{"a.b":1,"a":{"b":2}}', b'{"a.b":1}'),
        (["a"], b'{"a":{"b":1}}', None),
        (["b"], b'{"a":{"b":1}}', None),
        (["a"], b'{"b":"\\"a\\":1"}', None),
        (["value"], b"7", b"7"),
        (["value", "a"], b"[1]", b"[1]"),
        (["a"], b"7", None),
        (["value"], b'{"value":7,"a":1}', b'{"value":7}'),
    ],
)
def test_what_is_left_of_a_value(names, value, left):
    row = having(names)(Measurement(1, 2, 3, 4, 5, msgspec.Raw(value)))
    assert (bytes(row.value) if row is not None else None) == left
    if row is not None:
        assert (row.id, row.timestamp, row.fingerprint, row.revision) == (1, 2, 3, 5)


@pytest.mark.parametrize("select", [None, even])
def test_large_rows_are_reserved_before_they_are_read(monkeypatch, select):
    monkeypatch.setattr(pages_module, "CHUNK_SIZE", SIZE * pages_module.ROWS_AT_FIRST // 2)
    engine, told = Rows([(n, 2 * n) for n in range(20)]), []
    table, fetch = Pages(engine, "rows", records, sizes), engine.fetch
    texts = ["x" * SIZE] * 8

    async def fetch_and_tell(query, **parameters):
        rows = await fetch(query, **parameters)
        told.append([row[3] for row in rows if row[3] is not None])
        return rows

    monkeypatch.setattr(engine, "fetch", fetch_and_tell)

    def hold(size):
        told.append(size)
        if told[-2] == texts:
            raise MemoryError

    with pytest.raises(MemoryError):
        asyncio.run(table.page(1, limit=150, select=select, hold=hold))
    # Of the first chunk only the lengths are read; of the next its length is known.
    assert told == [[], 8 * SIZE, texts, 8 * (SIZE + pages_module.ENTRY_BYTES)]


def test_a_page_holds_in_the_end_what_it_comes_to(monkeypatch):
    monkeypatch.setattr(pages_module, "CHUNK_SIZE", SIZE * pages_module.ROWS_AT_FIRST // 2)
    table = pages([(n, n) for n in range(20)])
    held = []
    page = asyncio.run(table.page(1, limit=150, hold=held.append))
    assert len(page) == 20
    assert held[-1] == page.size == 20 * (SIZE + pages_module.ENTRY_BYTES)
    assert max(held) <= pages_module.LARGEST_PAGE
