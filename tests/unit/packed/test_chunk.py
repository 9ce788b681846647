"""Chunks: what is packed comes back to the byte, counts as its rows do, and tells its damage."""

import random
from bisect import bisect_left
from itertools import pairwise
from operator import itemgetter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.model.aggregation import NUMERIC, aggregate
from heliograph.model.attributes import columns
from heliograph.model.canonical import canonical
from heliograph.model.fingerprints import measurement_fingerprint, telling_text
from heliograph.packed.chunk import MAXIMUM_ROWS, PackedRows, pack
from heliograph.packed.head import DamagedChunkError, read_head
from rows import NOON, measurement

# 2025-10-09T08:53:20Z
START = 1_760_000_000_000_000

names = st.text(r"ab.\"é %", max_size=3) | st.just("value")
numbers = st.one_of(
    st.integers(-3, 3),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.integers(-1_000_000, 1_000_000).map(lambda hundredths: hundredths / 100),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1.0, 1, True, False, 1e16, 1e-7, 5e-324, 0.1 + 0.2, 2**53 + 1]),
)
scalars = st.one_of(numbers, st.none(), st.text(max_size=4), st.sampled_from(["on", "off"]))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=6,
)
# What devices send: the same few attributes, mostly numbers.
readings = st.fixed_dictionaries({"t": scalars}, optional={"h": numbers, "at": scalars})
frames = st.tuples(
    st.integers(0, 5_000_000),
    st.integers(-2_000_000, 2_000_000),
    st.integers(0, 1 << 20),
    st.none() | st.integers(0, 3),
    st.none() | st.floats(0, 1e9, exclude_min=True),
    st.none() | st.text(min_size=1, max_size=4),
)


def row_of(value, time, *, receipt=None, late=0, revision=None, device=None, element=None):
    text = canonical(value)
    fingerprint = measurement_fingerprint(revision, telling_text(value, text), element)
    receipt = time if receipt is None else receipt
    ingest_id = (receipt // 1_000 << 21) + (late << 9) + 3
    row = (ingest_id, 7, time, fingerprint, receipt, revision, device, text.decode())
    return row if element is None else (*row, element)


def rows_of(found):
    """Return rows of these values, a second apart."""
    return [row_of(value, START + at * 1_000_000) for at, value in enumerate(found)]


def opened(rows):
    chunk = pack(rows)
    assert (chunk.rows, chunk.kept) == (len(rows), 0)
    return PackedRows(read_head(chunk.head), chunk.body)


def ordered(rows):
    unique = {(row[2], row[3]): row for row in rows}
    return [unique[key] for key in sorted(unique)]


def assert_same(found, rows):
    """Compare with what tells 1 from 1.0 and True, and 0.0 from -0.0."""
    assert repr(found) == repr(rows)


@given(st.lists(st.tuples(values | readings, frames), min_size=1, max_size=12))
def test_what_is_packed_comes_back(found):
    rows = []
    for value, (later, delay, late, revision, device, element) in found:
        time = START + later
        rows.append(
            row_of(
                value, time, receipt=time + delay, late=late, revision=revision, device=device,
                element=element,
            )
        )  # fmt: skip
    rows = ordered(rows)
    chunk = pack(rows)
    assert chunk.kept == 0
    packed = PackedRows(read_head(chunk.head), chunk.body)
    assert_same(packed.rows(), rows)
    middle = len(rows) // 2
    assert_same(packed.rows(middle, middle + 1), rows[middle : middle + 1])
    assert_same(packed.rows_at([len(rows) - 1, 0]), [rows[-1], rows[0]])
    assert packed.times == [row[2] for row in rows]
    ids = [row[0] for row in rows]
    for since, before in (
        (min(ids), max(ids) + 1),
        (ids[middle], ids[middle] + 1),
        (ids[0] - 1_000, ids[-1]),
    ):
        found = packed.ids_between(since, before)
        assert found == [(each, at) for at, each in enumerate(ids) if since <= each < before]
    head = packed.head
    assert (head.first, head.last, head.count) == (rows[0][2], rows[-1][2], len(rows))
    assert (head.first_id, head.last_id) == (min(ids), max(ids))


def test_what_cannot_be_made_again_is_kept_as_it_is():
    rows = rows_of([{"t": 1.5}, {"t": 2.5}, {"t": 3.5}, {"t": 4.5}])
    # An earlier version's text, another's fingerprint.
    rows[1] = (*rows[1][:7], '{"t": 2.50}')
    rows[2] = (*rows[2][:3], 12345, *rows[2][4:])
    chunk = pack(rows)
    assert chunk.kept == 2
    packed = PackedRows(read_head(chunk.head), chunk.body)
    assert_same(packed.rows(), rows)
    assert_same(packed.rows(1, 2), rows[1:2])
    assert packed.fingerprints([2]) == [12345]
    assert packed.aggregates([(0, 4)])["t"][0].total == 12.0


def column_of_kind(kind, count):
    """Return so many values as devices send them."""
    made = random.Random(kind)
    found = []
    level = 20.0
    for at in range(count):
        level += made.gauss(0, 0.05)
        found.append(
            {
                "decimals": round(level, 2),
                "trend": round(at * 0.25 + made.random(), 3),
                "integers": made.choice([3, 5, 1_000]),
                "counter": (1 << 62) + at,
                "doubles": level,
                "booleans": made.random() < 0.5,
                "mixed": int(level) if at % 7 == 0 else round(level, 1),
                "gaps": None if at % 10 == 0 else round(level, 2),
                "signs": made.choice([0.0, -0.0, 0]),
                "large": made.choice([1.5, 1 << 60, 0.1 + 0.2]),
                "beyond": made.choice([1e308, 1.5e308]),
                "huge": made.choice([1 << 63, 3]),
                "words": made.choice(["on", "off"]),
                "outliers": round(level, 2) if at % 500 else 1e9,
            }[kind]
        )
    return found


KINDS = (
    "decimals",
    "trend",
    "integers",
    "counter",
    "doubles",
    "booleans",
    "mixed",
    "gaps",
    "signs",
    "large",
    "beyond",
    "huge",
    "words",
    "outliers",
)


def assert_counts_as_rows(packed, rows, segments):
    documents = list(map(value_of, rows))
    found = packed.aggregates(segments)
    for position, (first, last) in enumerate(segments):
        by_name = columns(documents[first:last])
        expected = {
            name: known
            for name, column in by_name.items()
            if (known := aggregate(column)) is not None
        }
        here = {name: each[position] for name, each in found.items() if each[position] is not None}
        assert here.keys() == expected.keys()
        for name, known in expected.items():
            own = here[name]
            assert (own.count, own.at) == (known.count, rows[last - 1][2])
            # What is added up is not always the same to the last bit, all else is.
            assert repr((own.minimum, own.maximum, own.last)) == repr(
                (known.minimum, known.maximum, known.last)
            )
            assert type(own.total) is type(known.total)
            if type(known.total) is int:
                assert own.total == known.total
                continue
            found_numbers = [each for each in by_name[name] if type(each) in NUMERIC]
            magnitudes = sum(abs(float(each)) for each in found_numbers)
            assert abs(own.total - known.total) <= 1e-15 * magnitudes


def value_of(row):
    return msgspec.json.decode(row[7])


@pytest.mark.parametrize("kind", KINDS)
def test_columns_come_back_and_count_as_rows_do(kind):
    count = 1_300
    found = column_of_kind(kind, count)
    others = [{"y": at} if at % 3 else {} for at in range(count)]
    rows = rows_of([{"x": each, **other} for each, other in zip(found, others, strict=True)])
    packed = opened(rows)
    assert_same(packed.rows(), rows)
    assert_same(packed.rows(400, 464), rows[400:464])
    for size in (7, 90, 305, 1_300):
        edges = [*range(0, count, size), count]
        assert_counts_as_rows(packed, rows, list(pairwise(edges)))
    assert_counts_as_rows(opened(rows), rows, [(64, 384), (385, 386), (386, 1_298)])


@given(
    st.lists(values | readings, min_size=1, max_size=10),
    st.lists(st.integers(0, 10), max_size=4),
)
def test_any_values_count_as_rows_do(found, edges):
    rows = rows_of(found)
    edges = sorted({0, len(rows), *(edge for edge in edges if edge < len(rows))})
    assert_counts_as_rows(opened(rows), rows, list(pairwise(edges)))


def test_numbers_and_extremes():
    found = [{"t": 1}, {"t": 5.5}, {"h": 1}, {"t": "broken"}, {"t": -3}, {"t": True}, {"t": 4}]
    packed = opened(rows_of(found))
    assert packed.numbers("t") == [1.0, 5.5, None, None, -3.0, 1.0, 4.0]
    assert packed.numbers("t", 1, 3) == [5.5, None]
    assert packed.numbers("unknown") == [None] * 7
    known = packed.head.attributes["t"]
    assert (known.count, known.numbers) == (6, 5)
    assert known.minimum_at == (4, 4_000_000)
    assert known.maximum_at == (1, 1_000_000)
    # The least and the greatest of (1, 5.5), (-3, True) and (4).
    assert packed.extremes("t", 2) == {0: 1.0, 1: 5.5, 4: -3.0, 5: 1.0, 6: 4.0}
    assert packed.extremes("t", 100) == {0: 1.0, 1: 5.5, 4: -3.0, 6: 4.0}
    assert packed.extremes("unknown", 2) == {}


def test_too_many_attributes_are_packed_as_documents():
    found = [{f"a{at}_{number}": number for number in range(200)} for at in range(6)]
    rows = rows_of(found)
    packed = opened(rows)
    assert packed.head.attributes == {}
    assert_same(packed.rows(), rows)
    assert_counts_as_rows(packed, rows, [(0, 2), (2, 6)])
    assert packed.aggregates([(0, 6)], ["a3_7"])["a3_7"][0].last == 7
    assert packed.numbers("a3_7", 2, 5) == [None, 7.0, None]


def test_an_element_without_an_id_may_have_null_for_it():
    rows = [*rows_of([1]), row_of(2, START + 1, element="e")]
    assert_same(opened([(*rows[0], None), rows[1]]).rows(), ordered(rows))


@pytest.mark.parametrize(
    "found", [[{"value": 1.5}, {"value": [1]}], [{}, {}], [{"%b": "%"}], [None]]
)
def test_shapes_with_a_meaning_of_their_own_come_back(found):
    rows = rows_of(found)
    assert_same(opened(rows).rows(), rows)


def test_positions_of_times():
    steady, gap = rows_of([at / 4 for at in range(600)]), row_of(1, START + 10**12)
    for rows in (steady, [*steady, gap]):
        times = [row[2] for row in rows]
        asked = [times[0] - 1, times[0], times[77], times[77] + 1, times[-1], times[-1] + 1]
        expected = [bisect_left(times, each) for each in asked]
        assert opened(rows).positions(asked) == expected
        assert opened(rows).positions(asked * 40) == expected * 40
        held = {times[0], times[77], times[-1]}
        assert opened(rows).times_among(asked) == held
        assert opened(rows).times_among(asked * 40) == held
        assert opened(rows).times_among([times[-1] + 1]) == set()


def test_extremes_are_found_in_blocks():
    made = random.Random(1)
    # So few that each is met again and again: the first of equal ones is taken.
    found = [made.randint(0, 40) / 10 for _ in range(1_100)]
    packed = opened(rows_of(found))
    for among in (10, 256, 300, 333, 1_000):
        # Whole blocks of 64, of which there are seventeen, and what is behind them.
        edges = [*range(0, 1_100, among), 1_100]
        if among >= 256:
            edges = [*range(0, 1_088, among // 64 * 64), 1_088, 1_100]
        expected = {0, 1_099}
        for first, last in pairwise(edges):
            part = found[first:last]
            expected |= {first + part.index(min(part)), first + part.index(max(part))}
        extremes = packed.extremes("value", among)
        assert list(extremes.items()) == [(at, found[at]) for at in sorted(expected)]


def test_a_chunk_takes_the_first_rows_that_fit():
    rows = rows_of(range(MAXIMUM_ROWS + 1))
    assert pack(rows).rows == MAXIMUM_ROWS
    large = rows_of(["x" * (5 << 20), "y" * (5 << 20)])
    assert pack(large).rows == 1
    assert pack(rows_of(["x" * (9 << 20), 1])).rows == 1


def test_rows_that_make_no_chunk_are_refused():
    rows = rows_of([1, 2])
    with pytest.raises(ValueError, match="no rows"):
        pack([])
    with pytest.raises(ValueError, match="ascend"):
        pack(rows[::-1])
    with pytest.raises(ValueError, match="ascend"):
        pack([rows[0], rows[0]])
    with pytest.raises(ValueError, match="several sensors"):
        pack([rows[0], (rows[1][0], 8, *rows[1][2:])])
    for text in ("NaN", "1,2", ""):
        with pytest.raises(ValueError, match="no JSON"):
            pack([rows[0], (*rows[1][:7], text)])


def test_every_flipped_byte_is_recognised_and_named():
    rows = rows_of([{"t": at / 4, "s": "on", "h": [at]} if at % 2 else at for at in range(20)])
    rows[3] = (*rows[3][:3], 1, *rows[3][4:])
    chunk = pack(rows)
    head = read_head(chunk.head)
    for at in range(len(chunk.head)):
        flipped = bytearray(chunk.head)
        flipped[at] ^= 1 << at % 8
        with pytest.raises(DamagedChunkError) as damage:
            read_head(bytes(flipped))
        assert damage.value.part == "head"
    at = 0
    for name, place in head.columns.items():
        for _ in range(place.length):
            flipped = bytearray(chunk.body)
            flipped[at] ^= 1 << at % 8
            with pytest.raises(DamagedChunkError) as damage:
                PackedRows(head, bytes(flipped)).verify()
            assert damage.value.part == name
            at += 1
    assert at == len(chunk.body)
    PackedRows(head, chunk.body).verify()
    for body in (chunk.body[:-1], chunk.body + b"\0"):
        with pytest.raises(DamagedChunkError):
            PackedRows(head, body).verify()


def test_a_damaged_column_leaves_the_others():
    rows = rows_of([{"t": at / 4, "h": at} for at in range(20)])
    chunk = pack(rows)
    head = read_head(chunk.head)
    flipped = bytearray(chunk.body)
    flipped[head.needed(["h"]) - 1] ^= 1
    packed = PackedRows(head, bytes(flipped))
    parts = [(0, 10), (10, 20)]
    with pytest.raises(DamagedChunkError) as damage:
        packed.aggregates(parts, ["h"])
    assert damage.value.part == ".h"
    assert packed.aggregates(parts, ["t"]) == opened(rows).aggregates(parts, ["t"])


def test_aggregates_need_the_beginning_of_the_body():
    rows = rows_of([{"t": at / 4, "h": at} if at % 2 else {"t": at / 4} for at in range(200)])
    chunk = pack(rows)
    head = read_head(chunk.head)
    for names in (["t"], ["h"], None):
        needed = head.needed(names)
        assert needed < len(chunk.body)
        found = PackedRows(head, chunk.body[:needed]).aggregates([(0, 10), (10, 200)], names)
        assert found == opened(rows).aggregates([(0, 10), (10, 200)], names)


def test_times_are_not_read_for_what_is_known_to_be_last():
    rows = rows_of([{"t": at / 4} for at in range(20)])
    chunk = pack(rows)
    flipped = bytes([chunk.body[0] ^ 1]) + chunk.body[1:]
    packed = PackedRows(read_head(chunk.head), flipped)
    parts = [(0, 10), (10, 20)]
    with pytest.raises(DamagedChunkError):
        packed.aggregates(parts)
    expected = opened(rows).aggregates(parts)["t"]
    for known, at in zip(expected, (5, 6), strict=True):
        known.at = at
    assert packed.aggregates(parts, ats=[5, 6])["t"] == expected


def test_the_whole_chunk_is_answered_from_the_head():
    rows = rows_of([{"t": at / 4, "s": "on"} for at in range(20)])
    found = PackedRows(read_head(pack(rows).head), b"").aggregates([(0, 20)])
    assert found["t"] == [aggregate_at(rows)]
    assert found["s"] == [None]


def aggregate_at(rows):
    known = aggregate([value_of(row)["t"] for row in rows])
    known.at = rows[-1][2]
    return known


def test_fingerprints_of_rows_of_one_time_are_made_once(monkeypatch):
    """A device without a clock gives thousands of rows one time: each look made all of them."""
    rows = sorted((measurement(1, NOON, {"t": at}) for at in range(50)), key=itemgetter(2, 3))
    chunk = pack(rows)
    packed = PackedRows(read_head(chunk.head), chunk.body)
    made = []
    fingerprints = packed.fingerprints
    monkeypatch.setattr(
        packed, "fingerprints", lambda positions: made.append(1) or fingerprints(positions)
    )
    for at, row in enumerate(rows):
        assert packed.fingerprints_at(NOON)[1][at] == row[3]
    assert packed.fingerprints_at(NOON + 1) == (50, [])
    assert packed.fingerprints_at(NOON - 1) == (0, [])
    assert packed.fingerprints_at(NOON)[0] == 0
    assert len(made) == 4
