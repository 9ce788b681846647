"""Where a client stands with several servers."""

import pytest

from heliograph.live.positions import Watermarks, beside, on_the_way, parse, passed
from heliograph.model.identifiers import INGEST_ID_STEP


def an_id(count, number):
    return count * INGEST_ID_STEP + number


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("1024", {0: 1024}),
        ("1025,512,2050", {1: 1025, 0: 512, 2: 2050}),
        ("", None),
        ("1025,", None),
        ("x", None),
        ("-1", None),
        # Two of one server, and more than 63 bits.
        ("1025,513", None),
        (str(1 << 63), None),
        ("1" * 20, None),
        ("٣", None),
    ],
)
def test_an_event_id_names_a_position(text, position):
    assert parse(text) == position


def test_a_position_is_written_as_it_is_read():
    marks = Watermarks(lambda: 1025)
    assert marks.beside(1) == b""
    marks.others[2] = 2050
    assert marks.beside(1) == b",2050"
    assert marks.beside(2) == b",1025"
    assert parse(f"1025{marks.beside(1).decode()}") == marks.position


def test_each_server_has_its_own_order():
    after, until = {0: an_id(5, 0), 1: an_id(9, 1)}, {0: an_id(8, 0), 1: an_id(9, 1)}
    ids = [an_id(count, number) for count in range(4, 11) for number in (0, 1, 2)]
    found = [each for each in ids if passed(after, until, each)]
    # Of the third nothing was known, nor is: all that is not older than what was.
    assert found == sorted(
        [*(an_id(count, 0) for count in (6, 7, 8)), *(an_id(count, 2) for count in range(5, 11))]
    )


def test_who_leaves_on_the_way_goes_on_there_without_a_gap_or_a_repeat():
    after = {1: an_id(2, 1), 3: an_id(4, 3)}
    until = {0: an_id(6, 0), 1: an_id(5, 1), 3: an_id(6, 3)}
    ids = [an_id(count, number) for count in range(8) for number in (0, 1, 2, 3)]
    way = [each for each in ids if passed(after, until, each)]
    for at, each in enumerate(way):
        position = on_the_way(after, until, each, met={1, 2})
        again = parse(f"{each}{beside(position, each & 511).decode()}")
        assert again == position
        assert [other for other in ids if passed(again, until, other)] == way[at + 1 :]
