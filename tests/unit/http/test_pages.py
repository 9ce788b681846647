import dataclasses
import re

import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st

from heliograph.http.pages import (
    PageRequest,
    decode_cursor,
    encode_cursor,
    next_to,
)
from heliograph.store.pages import Page

signed64 = st.integers(-(2**63), 2**63 - 1)


@dataclasses.dataclass
class Row:
    timestamp: int
    fingerprint: int = 0


@given(signed64, signed64)
def test_a_cursor_names_exactly_one_row(timestamp, fingerprint):
    text = encode_cursor(timestamp, fingerprint)
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", text)
    assert decode_cursor(text) == (timestamp, fingerprint)


@pytest.mark.parametrize("text", ["", "x", "\u00e9", "AAAA", "A" * 23, "!" * 22, "A" * 1000])
def test_what_is_no_cursor_is_a_validation_error(text):
    with pytest.raises(RequestValidationError):
        decode_cursor(text)


def rels(request, page):
    return re.findall(r'rel="(\w+)"', request.links("/p", page) or "")


def test_links_lead_on_where_there_may_be_more():
    more = Page([Row(1), Row(2)], more=True, reached=(2, 0))
    last = Page([Row(1)])
    assert rels(PageRequest(limit=2), more) == ["previous"]
    assert rels(PageRequest(limit=2), last) == []
    assert rels(PageRequest(limit=2, direction="next"), more) == ["next"]
    assert rels(PageRequest(5, limit=2), more) == ["next", "previous"]
    assert rels(PageRequest(5, limit=2), last) == ["previous"]
    assert rels(PageRequest(5, "previous", limit=2), last) == ["next"]
    assert rels(PageRequest(limit=2), Page()) == []


@pytest.mark.parametrize(("direction", "back"), [("next", "previous"), ("previous", "next")])
def test_from_a_page_without_rows_it_goes_back_to_all_that_is_behind_it(direction, back):
    step = 1 if direction == "next" else -1
    key = (6, -(2**63)) if direction == "next" else (4, 2**63 - 1)
    cursor = encode_cursor(7, 3)
    for request, expected in (
        (PageRequest(5, direction, limit=2), key),
        (PageRequest(None, direction, limit=2, cursor=cursor), (7, 3 + step)),
    ):
        link = request.links("/p", Page())
        assert re.findall(r'rel="(\w+)"', link) == [back]
        assert decode_cursor(re.search(r"cursor=([\w-]+)", link)[1]) == expected


@given(signed64, signed64, st.sampled_from([1, -1]))
def test_the_next_position_is_next_and_can_be_encoded(timestamp, fingerprint, step):
    at = timestamp, fingerprint
    other = next_to(at, step)
    assert decode_cursor(encode_cursor(*other)) == other
    if other != at:
        assert (other > at) == (step > 0)
        assert next_to(other, -step) == at
    else:
        assert set(at) <= {-(2**63), 2**63 - 1}


def test_a_link_carries_the_cursor_of_the_pages_edge_and_the_attributes():
    request = PageRequest(5, limit=1)
    links = request.links("/p", Page([Row(7, -3)]), ["a.b", "c d"])
    cursor = re.search(r"cursor=([\w-]+)", links)[1]
    assert decode_cursor(cursor) == (7, -3)
    assert links.startswith("</p?direction=previous&limit=1&")
    assert "&attribute=a.b&attribute=c+d>" in links
