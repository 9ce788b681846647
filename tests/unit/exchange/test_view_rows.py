"""A measurement that the view `v_attribute` has taken apart is put together again."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.exchange.elements import BadLineError
from heliograph.exchange.view_rows import VIEWS, ViewRows, view_of
from heliograph.model.time import parse

HEADING = ["device_id", "timestamp_us", "revision", "attribute", "number", "text", "id"]
NOON = 1_768_478_400_000_000

# What the view tells apart in CSV: there null is an empty cell, as an empty text is.
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=5)
leaves = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1),
    # Of these PostgreSQL writes as many zeros as of a whole number, for which they are taken.
    st.floats(allow_nan=False, allow_infinity=False).filter(
        lambda number: not 1e16 <= abs(number) < 1 << 63
    ),
    st.booleans(),
    texts.filter(lambda text: text[0] != "["),
    st.just("[no array"),
    st.lists(st.one_of(st.integers(-9, 9), st.booleans(), texts), max_size=3),
)
keys = st.sampled_from(["t", "a.b", "a", "back\\slash", "", "value", "1", "ü\\.x"])
values = st.recursive(
    leaves,
    lambda inner: st.dictionaries(keys, inner, min_size=1, max_size=4),
    max_leaves=8,
).filter(lambda value: isinstance(value, dict))


def attributes(value, prefix=""):
    """Yield name, number and text of each attribute, as SQL tells them."""
    for key, member in value.items():
        name = prefix + key.replace("\\", "\\\\").replace(".", "\\.")
        if isinstance(member, dict):
            yield from attributes(member, f"{name}.")
        elif isinstance(member, bool):
            yield name, str(int(member)), str(member).lower()
        elif isinstance(member, int | float):
            # PostgreSQL's number is a float, and its text without an exponent.
            yield name, repr(float(member)), _decimal(member)
        elif isinstance(member, list):
            yield name, "", msgspec.json.encode(member).decode()
        else:
            yield name, "", member


def _decimal(number):
    large = isinstance(number, float) and abs(number) >= 1e16
    return f"{number:.0f}" if large else repr(number)


def read(*rows, heading=HEADING):
    view = view_of(heading)
    numbered = [(at + 2, list(cells), at) for at, cells in enumerate(rows)]
    return list(ViewRows(view, heading).elements(numbered))


@given(st.lists(values, min_size=1, max_size=3))
def test_measurements_are_put_together_again(measured):
    rows = [
        ("pump-1", str(NOON), "7", *attribute, str(number))
        for number, value in enumerate(measured)
        for attribute in attributes(value)
    ]
    found = read(*rows)
    assert len(found) == len(measured)
    assert found[-1][2] == len(rows) - 1
    for (_, element, _), value in zip(found, measured, strict=True):
        assert element.sensors == ("pump-1",)
        said = msgspec.json.decode(element.text)
        assert said["revision"] == 7
        assert parse(said["timestamp"]) == NOON
        assert repr(_sorted(said["value"])) == repr(_sorted(value))


def _sorted(value):
    if not isinstance(value, dict):
        return value
    return {key: _sorted(value[key]) for key in sorted(value)}


def test_a_large_float_of_postgresql_is_one():
    cells = ("p", str(NOON), "", "t", "1e+22", "1" + "0" * 22, "1")
    assert msgspec.json.decode(read(cells)[0][1].text)["value"] == {"t": 1e22}


def test_rows_without_an_id_begin_another_where_an_attribute_comes_again():
    rows = [(f"{NOON}", "p", name, "1") for name in ("t", "u", "t", "u", "v")]
    found = read(*rows, heading=["timestamp_us", "device_id", "attribute", "number"])
    assert [(line, place) for line, _, place in found] == [(2, 1), (4, 4)]


def test_one_bad_row_spoils_its_measurement_and_no_other():
    rows = [(f"{NOON + at}", "p", name, "1") for at in range(2) for name in ("t", "u")]
    rows[1] = (*rows[1][:3], "x")
    found = read(*rows, heading=["timestamp_us", "device_id", "attribute", "number"])
    assert [isinstance(said, BadLineError) for _, said, _ in found] == [True, False]


@pytest.mark.parametrize(
    "heading",
    [
        ["timestamp_us", "value"],
        ["device_id", "timestamp_us", "value", "mine"],
        ["device_id", "time", "attribute", "number"],
        ["device_id", "device_id", "timestamp_us", "value"],
        [],
    ],
)
def test_a_heading_that_is_of_no_view(heading):
    assert view_of(heading) is None


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_a_whole_heading_is_of_its_view(view):
    assert view_of(sorted(view.columns)) is view
