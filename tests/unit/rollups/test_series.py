"""Buckets of chunks and of rows that came late for them."""

from heliograph.packed.chunk import PackedRows, pack
from heliograph.packed.head import read_head
from heliograph.rollups.aggregates import Series
from heliograph.store.stretches import HeadedChunk, Stretch
from rows import NOON, measurement

SECOND = 1_000_000


def test_a_late_row_is_the_last_of_a_bucket_that_ends_before_the_next_packed_one():
    rows = [measurement(7, NOON + at * SECOND, {"t": at}) for at in range(20)]
    late = measurement(7, NOON + 9 * SECOND + 500_000, {"t": 95})
    made = pack(rows)
    chunk = HeadedChunk(1, rows[0][2:4], rows[-1][2:4], read_head(made.head))
    stretch = Stretch([(*late[2:4], late[7])], [chunk])
    start, edge, end = NOON, NOON + 9 * SECOND + 700_000, NOON + 20 * SECOND
    series = Series([start, edge, end], ["t"])
    assert not series.count_stretch(stretch, {1: PackedRows(chunk.head, made.body)}, [(start, end)])
    assert series.rows == [11, 10]
    assert [each.last for each in series.attributes["t"].values()] == [95, 19]
