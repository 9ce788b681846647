"""What servers tell one another, in pieces."""

import pytest

from heliograph.live.signals import (
    MAXIMUM_BYTES,
    PIECE_BYTES,
    Announced,
    Assembly,
    Changed,
    Hello,
    Ids,
    Pieces,
    Revised,
    Shown,
    encode,
)

MESSAGES = [
    Ids(3, 1, 2, ("a",), ("log",)),
    Ids(3, 1, 2, None),
    Hello(511),
    Changed("presence", 1, "{}", (None, True)),
    Shown("rule", 1, "n", '{"a":"\u00e4\U0001f321"}' * 2_000, "pump"),
    Revised(((1, 2), (3, 4))),
    Announced("commands/a", b"\x00\xff" * 20_000, None),
]


def pieces_of(*messages):
    cut = Pieces()
    return [piece for each in messages for piece in cut.of(encode(each))]


def test_messages_come_as_they_were():
    pieces = pieces_of(*MESSAGES)
    assert len(pieces) > len(MESSAGES)
    assert max(len(piece.encode()) for piece in pieces) <= PIECE_BYTES + 20 < 8_000
    assert len(set(pieces)) == len(pieces)
    assembly = Assembly()
    assert [message for piece in pieces if (message := assembly.take(piece))] == MESSAGES


@pytest.mark.parametrize("lost", range(len(pieces_of(MESSAGES[4], MESSAGES[0])) - 1))
def test_of_what_is_not_whole_nothing_is_taken(lost):
    pieces = pieces_of(MESSAGES[4], MESSAGES[0])
    del pieces[lost]
    assembly = Assembly()
    assert [message for piece in pieces if (message := assembly.take(piece))] == [MESSAGES[0]]


def test_what_another_version_sends_is_left_out():
    assembly = Assembly()
    garbage = ("", "x", "1", "1.", '1.["new",1]', "+.", "9" * 30, '2.["ids"]', "3.[", "4.{}")
    assert [assembly.take(piece) for piece in garbage] == [None] * len(garbage)
    assert assembly.take('5.["hello",7]') == Hello(7)


def test_a_message_that_does_not_end_is_not_kept():
    assembly = Assembly()
    for count in range(MAXIMUM_BYTES // 5_000 + 10):
        assert assembly.take(f"{count}+[{'x' * 5_000}") is None
    assert sum(map(len, assembly._parts)) <= MAXIMUM_BYTES
    assert assembly.take(f"{count + 1}.]") is None
    assert assembly.take(f'{count + 2}.["hello",7]') == Hello(7)
