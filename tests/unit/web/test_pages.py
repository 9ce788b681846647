import dataclasses
import re

import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st

from heliograph.web.pages import PageRequest, decode_cursor, encode_cursor

signed64 = st.integers(-(2**63), 2**63 - 1)


@dataclasses.dataclass
class Row:
    timestamp: int
    fingerprint: int = 0


@given(signed64, signed64)
def test_a_cursor_names_exactly_one_row(timestamp, fingerprint):
    text = encode_cursor(Row(timestamp, fingerprint))
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", text)
    assert decode_cursor(text) == (timestamp, fingerprint)


@pytest.mark.parametrize("text", ["", "x", "\u00e9", "AAAA", "A" * 23, "!" * 22, "A" * 1000])
def test_what_is_no_cursor_is_a_validation_error(text):
    with pytest.raises(RequestValidationError):
        decode_cursor(text)


def rels(page, rows):
    return re.findall(r'rel="(\w+)"', page.links("/p", rows) or "")


def test_links_lead_on_where_there_may_be_more():
    full, short = [Row(1), Row(2)], [Row(1)]
    assert rels(PageRequest(limit=2), full) == ["previous"]
    assert rels(PageRequest(limit=2), short) == []
    assert rels(PageRequest(limit=2, direction="next"), full) == ["next"]
    assert rels(PageRequest(5, limit=2), full) == ["next", "previous"]
    assert rels(PageRequest(5, limit=2), short) == ["previous"]
    assert rels(PageRequest(5, "previous", limit=2), short) == ["next"]
    assert rels(PageRequest(5, limit=2), []) == []


def test_a_link_carries_the_cursor_of_the_pages_edge():
    links = PageRequest(5, limit=1).links("/p", [Row(7, -3)])
    cursor = re.search(r"cursor=([\w-]+)", links)[1]
    assert decode_cursor(cursor) == (7, -3)
    assert links.startswith("</p?direction=next&limit=1&")
