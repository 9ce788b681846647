"""Format 1 stays readable: a chunk that was stored once comes back as what it was."""

import base64
import zlib

import msgspec
import pytest

from heliograph.model.canonical import canonical
from heliograph.model.fingerprints import measurement_fingerprint, telling_text
from heliograph.packed.chunk import PackedRows, pack
from heliograph.packed.head import DamagedChunkError, read_head
from heliograph.packed.integers import Integers, StoredIntegers

# 2025-10-09T08:53:20Z
START = 1_760_000_000_000_000

HEAD = """
AUeUeXF7InNlbnNvciI6NywiZmlyc3QiOjE3NjAwMDAwMDAwMDAwMDAsImxhc3QiOjE3NjAwMDExMTkwMDAwMDEsImNvdW50Ijo1
MjAsImZpcnN0X2lkIjozNjkwOTg3NTIwMDA0MTk0MzA5LCJsYXN0X2lkIjozNjkwOTg5ODY2NzE3MjgyMzA5LCJhdHRyaWJ1dGVz
Ijp7ImNvdW50ZXIiOls1MTcsNTE3LDExNTI5MjE1MDQ2MDY4NDY5NzYsMTE1MjkyMTUwNDYwNzExNjMzNyw1Ljk2MDYwNDE3ODgx
Nzg2NWUyMCwxMTUyOTIxNTA0NjA3MTE2MzM3LFswLDBdLFs1MTksMTExOTAwMDAwMV1dLCJkZWNpbWFsIjpbNTE4LDUxOCwtOTYu
NzUsMy43NSw4NjQuNzUsMS43NSxbNzcsNzcwMDAwMDBdLFsxNSwxNTAwMDAwMV1dLCJkb3VibGUiOls1MTcsNTE3LC0wLjAsMC4z
MzMzMzMzMzMzMzMzMzMzLDE3MC42NjY2NjY2NjY2NjY2NiwwLjMzMzMzMzMzMzMzMzMzMzMsWzAsMF0sWzEsMTAwMDAwMV1dLCJt
aXhlZCI6WzUxNywzMDksMSwxLjUsMzYwLjUsMSxbMCwwXSxbMSwxMDAwMDAxXV0sIndvcmQiOls1MTcsMCxudWxsLG51bGwsbnVs
bCxudWxsLG51bGwsbnVsbF0sInZhbHVlIjpbMSwxLDkyMjMzNzIwMzY4NTQ3NzU4MDgsOTIyMzM3MjAzNjg1NDc3NTgwOCw5LjIy
MzM3MjAzNjg1NDc3NmUxOCw5MjIzMzcyMDM2ODU0Nzc1ODA4LFsxMDAsMTAwMDAwMDA0XSxbMTAwLDEwMDAwMDAwNF1dLCJhXFwu
Yi5jIjpbMSwwLG51bGwsbnVsbCxudWxsLG51bGwsbnVsbCxudWxsXX0sImNvbHVtbnMiOnsidGltZXMiOls3MCwzMDIyNDIzMDg3
XSwic2hhcGVzIjpbMTA1LDY1Mjg5NDE1N10sIi5jb3VudGVyIjpbMjk2LDM4MDMyMjE2NzhdLCIuZGVjaW1hbCI6WzExMSwzMTg1
NDkwOTE0XSwiLmRvdWJsZSI6Wzg2LDQyMDI3NzA1MjRdLCIubWl4ZWQiOls3NCwzMTg2NzA1NzM2XSwiLndvcmQiOls0MiwyMjY2
OTcyOTYxXSwiLnZhbHVlIjpbMzAsNDEyMjEwMTczMF0sIi5hXFwuYi5jIjpbMjUsMTIxMzg4MDQxXSwicmVjZWlwdHMiOlszNywx
MjQ3NDUwMjQ0XSwiaWRzIjpbMzEsMzIwNzg0NzQyMV0sInJldmlzaW9ucyI6WzQ1LDE0MTkyNjY4NTldLCJkZXZpY2VfdGltZXN0
YW1wcyI6WzQ1LDgzMjA2NzUyM10sImVsZW1lbnRfaWRzIjpbNDgsMzEyOTk1MDgyNl0sImtlcHQiOlszNSwzMzA5MjAwNjcwXX19
"""
BODY = """
ls0CCM8ABkC17s4AAM4AD0HAwwTEMGpsrmtoqq1vHKVGNAUQwyggGrgNtANoBwAaBcSDwwPtANoBgEYB8UB5oB1AOwAYAJLESatW
Ss4vzStJLVKyyivNydFRSklNzsxNzIFz80uTclJhvNzMitQUGKc8vwjKruWqRtVXywUigaKJeklKVtVKyVBhHSWgUdW1tQDEG2Jg
IBUwkqyDiZlkLaOAzgCgUTAKGBgYGAADAJfNAgUAAJbNAgXPEAAAAAAAAADNAYvDAsSuKquoqqlraGpp6+jq6Zswacq0GbPmzFuw
aMmyFavWrNuwacu2Hbv27Dtw6MixE6fOnLtw6co12zv3Hjx68uzFqzfvPnz68u3Hrz//GJhY2Di4ePgEhETEJKRk5BSUVNQ0tHT0
DIxMzCysLji5uHl4+fgFBIWERUTFxCUkpaRlZOXkFRSVlJFq+Y1bpNpuY+cwaj8B+wH6Ryr4j0UIL2DAL00xYBhgwDjAgIliABgA
k88QAAAAAAAAAATEUWJo5Ozk7OTs5GSAMhhYIGCOzYIFCxYsWAAQg4DzFLbpnlI8MIaA02SWqW7iHMGNMT42OjI8ADEwMDAwMjIx
s8AYMD4jKyevoKikLEAMhABgAMDAl80CBgECls0CBgDQmcMCxClqaEABHxoo4BdMwCq/iTqmj/JpxgeIARX8o4R/U52AeopMH+XT
jA8YAJPR2jUCxCw6ffovBJxmOH369OnTp52g4AFHQkJCQkICQKpwwACh1KFAj11JSUlJSQkwAMDAl80CBQEAxEtiCB0GgGHUDors
AIge9tIcDOcIoocdAI0mglE7QgEaTQSjdoQCNJoIRu0IBWg0EYzaEQoQw9VhAOjhieFsB0AN9sMA0MMTw9kOwADAwMCXzQIFxBJj
YGRiZmYghSBZA6nqRwl6EwABls0BNQoAwgHED2JgZWDAjfBK4pUb1ggwAMDEDMsrzcnhUspPS1MCAMQHY2BkGFYQAJfNAgUDAMDA
xAxTys9T4lLKT0tTAgDEEmNgIBUwIgOKNJOse1Q/bfQDAJcBBADAwMQVszQyMjY2NzIwNrMwNTE3N7UwsAAAwJcBAwDAwMQQizbU
qVZKUbLKK83JqY0FAMCSw5bNAgjNB9DMrMMCxBZqaICBOQ2jzBHLBIgBDj6PMkcuEzAAkpbNAggAAMIBxApiYGRiGEWjCDAAls0C
CAUAwgDEAJfNAgjEC2NmHgWDCjAMDAAAAJZ3AwDCAMQAwMQGyyvNyQEAxAhjYBgFgwoAAJfNAgjEC2NmhgJG5lEwggEAAZYBfQDC
AMQAwMQGyyvNyQEAxAhjYBgFo4ABAJfNAggDAMDAxBPLK83J4VJKNVQCEkYGYMoESAEAxBFjYGQYHoBpoB1AJcA8MNYCAIuONjXQ
sbTUUapWiFFKSU3OzE3MiVGyUjDQMzVQqFWKjQUA
"""

# Of each second, up to 1.9 ms late; the last member tells how far they are from their steps.
STEADY = """
lyjPAAZAte7OAmrOAA9CP8ICxE0AKADX/5a8LObqONCycuioRprMtHr2UPTihgjU6kr06CaugJwCskCEEn6goFYEwYEBAAAIwqA0
//84F9y1yEGZZSfm1gMtjDYouP4BAJLR/ZbNBPY=
"""


def value(at):
    if at == 100:
        return 1 << 63
    if at == 101:
        return {"a.b": {"c": [1, {"d": None}]}, "e": {}}
    return {
        "counter": (1 << 60) + at * at,
        "decimal": at % 16 / 4 - (100.0 if at == 77 else 0),
        "double": 1 / 3 if at % 100 else -0.0,
        "mixed": [1, 1.5, True, None, "off"][at % 5],
        "word": "on" if at % 64 < 50 else "off",
    }


def row(at):
    text = canonical(value(at))
    revision = 3 if at > 400 else None
    element = f"e{at}" if at % 200 == 1 else None
    fingerprint = measurement_fingerprint(revision, telling_text(value(at), text), element)
    time = START + at * 1_000_000 + at * at % 7 + (600_000_000 if at > 300 else 0)
    receipt = time + 2_000 + at % 11 * 300
    ingest_id = (receipt // 1_000 << 21) + (at % 3 << 9) + 5
    device = 12.5 if at == 9 else None
    found = (ingest_id, 7, time, fingerprint, receipt, revision, device, text.decode())
    if at == 50:
        found = (*found[:3], 99, *found[4:7], '{ "decimal": 0.50 }')
    return found if element is None else (*found, element)


ROWS = [row(at) for at in range(520)]


def test_a_chunk_of_format_1_comes_back():
    head = read_head(base64.b64decode(HEAD))
    packed = PackedRows(head, base64.b64decode(BODY))
    packed.verify()
    assert repr(packed.rows()) == repr(ROWS)
    assert repr(packed.rows(490, 510)) == repr(ROWS[490:510])
    # From blocks of 64 and what is before and behind them.
    (known,) = packed.aggregates([(3, 500)], ["decimal"])["decimal"]
    assert (known.count, known.minimum, known.maximum) == (495, -96.75, 3.75)
    assert known.total == sum(value(at)["decimal"] for at in range(3, 500) if at not in (100, 101))
    assert head.attributes["decimal"].last == 1.75


def test_steady_times_come_back_whether_or_not_it_is_told_how_far_they_are_from_their_steps():
    times = [START + at * 1_000_000 + at * at * 37 % 1_900 for at in range(40)]
    members = msgspec.msgpack.decode(base64.b64decode(STEADY))
    for stored in (members, members[:-1]):
        found = Integers(msgspec.convert(stored, StoredIntegers))
        assert found.places([START, times[7], times[7] + 1, START + 30_000_000]) == [0, 7, 8, 30]
        assert found.all == times


def test_the_same_rows_have_the_same_head():
    chunk = pack(ROWS)
    head, stored = read_head(chunk.head), read_head(base64.b64decode(HEAD))
    assert chunk.kept == 1
    # Another zlib may make other bytes of the same columns.
    assert head.attributes == stored.attributes
    assert list(head.columns) == list(stored.columns)


# A fingerprint is made of this text: a chunk's are those of its rows only while it stays.
@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (20.25, "20.25"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1e-5, "0.00001"),
        (1.5e-7, "1.5e-7"),
        (123456789012345680.0, "1.2345678901234568e17"),
        (1e15, "1000000000000000.0"),
        (1e16, "1e16"),
        (1e22, "1e22"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e308"),
        ((1 << 64) - 1, "18446744073709551615"),
        (-(1 << 63), "-9223372036854775808"),
        ("é\n\u2028\x7f", '"é\\n\u2028\x7f"'),
    ],
)
def test_texts_of_values_stay(number, text):
    assert canonical(number).decode() == text


def test_fingerprints_stay():
    assert measurement_fingerprint(None, b'{"t":20.25}') == -2035844679605960742
    assert measurement_fingerprint(3, b'{"t":20.25}', "e1") == -5797137567444695429


def test_a_later_format_is_refused_by_name():
    text = pack(ROWS[:1]).head[5:]
    # As a later version would write it: its checksum is right.
    later = b"\2" + zlib.crc32(b"\2" + text).to_bytes(4, "little") + text
    with pytest.raises(DamagedChunkError, match="format 2 is of a later version"):
        read_head(later)
