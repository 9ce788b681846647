"""Packing, folding and replacing of rollups, compared with plain Python."""

from importlib import import_module

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from heliograph.model.aggregation import aggregate
from heliograph.rollups.packing import MAXIMUM_ATTRIBUTES_OF_ROLLUP, pack, unpack
from heliograph.rollups.rollup import Rollup, folded, replaced

numbers = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)
# Slot → rows, each of them what its attributes have.
contents = st.dictionaries(
    st.integers(0, 59),
    st.lists(st.dictionaries(st.sampled_from("abc"), numbers), min_size=1, max_size=3),
    max_size=6,
)


def built(content):
    rollup = Rollup()
    for slot in sorted(content):
        rows = content[slot]
        rollup.count(slot, len(rows))
        for name in "abc":
            if known := aggregate([row[name] for row in rows if name in row]):
                rollup.append(slot, name, known)
    return rollup


def plain(rollup):
    """Return all that a rollup holds, with the types of its numbers.

    A total of zero has no sign: the sum of -0.0 alone is 0.0. One beyond a float is an integer.
    """
    attributes = {
        name: [
            msgspec.structs.replace(each, total=each.total + 0.0)
            if abs(each.total) < 1e308
            else each
            for each in found
        ]
        for name, found in rollup.attributes.items()
    }
    return repr((rollup.rows, rollup.complete, sorted(attributes.items())))


@given(contents)
def test_what_is_packed_comes_back(content):
    rollup = built(content)
    for text in (False, True):
        again = unpack(pack(rollup, text=text))
        assert plain(again) == plain(rollup)


@given(contents, contents, st.integers(0, 60), st.integers(0, 60))
def test_replaced_slots_are_those_of_the_other(old, new, first, length):
    last = min(first + length, 60)
    inner = {slot: rows for slot, rows in new.items() if first <= slot < last}
    outer = {slot: rows for slot, rows in old.items() if not first <= slot < last}
    found = replaced(unpack(pack(built(old))), first, last, built(inner))
    assert plain(found) == plain(built({**outer, **inner}))


@given(contents)
def test_folded_is_all_in_one_slot(content):
    found = folded(built(content), 7)
    rows = [row for slot in sorted(content) for row in content[slot]]
    assert found.rows == ({7: len(rows)} if rows else {})
    whole = built({7: rows} if rows else {})
    assert found.attributes.keys() == whole.attributes.keys()
    for name, (known,) in found.attributes.items():
        (expected,) = whole.attributes[name]
        for member in ("at", "count", "minimum", "maximum", "last"):
            assert getattr(known, member) == getattr(expected, member)


def test_more_attributes_than_are_kept_are_told():
    rollup = Rollup()
    rollup.count(3, 1)
    for number in range(MAXIMUM_ATTRIBUTES_OF_ROLLUP + 5):
        rollup.append(3, f"{number:05}", aggregate([number]))
    found = unpack(pack(rollup))
    assert not found.complete
    assert sorted(found.attributes) == sorted(rollup.attributes)[:MAXIMUM_ATTRIBUTES_OF_ROLLUP]


def test_what_is_beyond_64_bits_is_told():
    found = unpack(pack(built({0: [{"a": 1 << 70}]})))
    assert not found.complete
    assert [known.last for known in found.attributes["a"]] == [float(1 << 70)]
    assert not unpack(pack(built({0: [{"a": 10**400}]}))).complete
    # Which JSON has a place for.
    found = unpack(pack(built({0: [{"a": 1 << 70}]}), text=True))
    assert found.complete
    assert [known.last for known in found.attributes["a"]] == [1 << 70]


def test_what_follows_from_another_column_is_not_packed():
    single = {slot: [{"a": slot / 7}] for slot in range(60)}
    double = {slot: [{"a": slot / 7}, {"a": slot / 9}] for slot in range(60)}
    assert len(pack(built(single))) < 60 * 12 < len(pack(built(double)))


@given(contents)
def test_what_was_stored_before_views_read_it_is_written_anew(content):
    migration = import_module("heliograph.store.migrations.versions.0034_hourly")
    rollup = built(content)
    text = migration._as_text(pack(rollup))
    assert text[:1] == b"["
    assert plain(unpack(text)) == plain(rollup)
    assert plain(unpack(migration._as_lists(text))) == plain(rollup)
    assert plain(unpack(migration._as_lists(pack(rollup, text=True)))) == plain(
        unpack(pack(rollup))
    )
