"""Times of a page: the texts that one by one would have, made together."""

import sys
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from heliograph.exchange import formats
from heliograph.exchange.elements import epoch_seconds
from heliograph.exchange.formats import Format, Names, encode_rows, moment_texts
from heliograph.model.records import Kind
from heliograph.model.time import EARLIEST, LATEST, SECOND, to_rfc3339

FIRST = -62_135_596_800 * SECOND


@given(st.lists(st.integers(FIRST, LATEST), max_size=5))
@example([FIRST, -1, 0, EARLIEST, LATEST])
def test_each_is_the_text_that_it_has_by_itself(microseconds):
    assert moment_texts(microseconds) == [to_rfc3339(each) for each in microseconds]


@pytest.mark.parametrize("form", [Format.CSV, Format.JSONL])
def test_exported_times_are_made_without_a_call_a_row(form):
    rows = [(EARLIEST + n, n, EARLIEST, None, None, "1", None) for n in range(100)]
    names = Names("0" * 32, None)
    with mock.patch.object(formats, "moment_texts", wraps=moment_texts) as made:
        page = encode_rows(form, Kind.MEASUREMENT, names, rows)
    assert page.count(b"2001-09-09T01:46:40.0000") == 200
    # Of both columns of times, each of which takes the calls that it takes for a few rows.
    assert made.call_count == 2
    assert calls(moment_texts, [row[0] for row in rows]) == calls(moment_texts, [EARLIEST] * 3)


def test_exported_times_are_read_without_a_call_a_row():
    texts = moment_texts([EARLIEST + n for n in range(100)])
    assert len(epoch_seconds(texts)) == 100
    assert calls(epoch_seconds, texts) == calls(epoch_seconds, texts[:3])


def calls(work, given):
    """Return how often something is called from Python to do it."""
    work(given)
    seen = []
    sys.setprofile(lambda _, event, __: seen.append(event))
    try:
        work(given)
    finally:
        sys.setprofile(None)
    return sum(event in ("call", "c_call") for event in seen)
