"""Files of other makes: tables with a column an attribute, elements of MQTT, line protocol."""

import contextlib
import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.errors import StartError
from heliograph.exchange.csv_rows import CsvRows
from heliograph.exchange.elements import BadLineError, Element
from heliograph.exchange.json_rows import from_json_line
from heliograph.exchange.line_protocol import Mapping, from_line
from heliograph.exchange.reading import Place, csv_rows, look_at_csv
from heliograph.exchange.table_layouts import UTC_ZONE
from heliograph.exchange.table_numbers import json_numbers
from heliograph.exchange.tables import TableOptions, TableRows
from heliograph.model.records import Kind
from heliograph.model.time import from_rfc3339

SPACED = {"t": 3, "n": " x"}


def said(element):
    return element.kind, element.sensors, json.loads(element.text)


def rows_of(text: str | bytes, kind=None, **options):
    """Return what the rows of a table are, read as a file is."""
    file = io.BytesIO(text.encode() if isinstance(text, str) else text)
    look = look_at_csv(file, kind, TableOptions(**options))
    assert look.plan is None or look.plan.questions == ()
    return list(csv_rows(file, Place(0, 0), look, "device_id", has_sensor=True))


def row_of(*lines: str, kind=None, **options):
    (row,) = rows_of("\n".join(lines), kind, **options)
    if isinstance(row.said, BadLineError):
        raise row.said
    return row.said


@pytest.mark.parametrize(
    ("heading", "cells", "expected"),
    [
        ("time,device_id,t,h", "1700000000,a,22.5,", (("a",), 1700000000, {"t": 22.5})),
        ("timestamp,t,on,note", "2026-01-01T00:00:00Z,-3,true,007", ((), None, None)),
        ("timestamp,value", '1700000000,"x"', ((), 1700000000, "x")),
        ("timestamp,value", '1700000000,"{""a"":1}"', ((), 1700000000, {"a": 1})),
        ("timestamp,value,t", "1700000000,1,2", ((), 1700000000, {"value": 1, "t": 2})),
        # As pandas and spreadsheets write them, and people by hand.
        (",time,t,u,on", "0,1700000000,1.5,nan,True", ((), 1700000000, {"t": 1.5, "on": True})),
        ("time,device_id,t,n,,", "1700000000 , a , 3, x,,", (("a",), 1700000000, SPACED)),
    ],
)
def test_a_table_is_read(heading, cells, expected):
    kind, sensors, element = said(row_of(heading, cells))
    names, time, value = expected
    assert kind is Kind.MEASUREMENT
    assert sensors == names
    if time is None:
        time, value = 1767225600, {"t": -3, "on": True, "note": "007"}
    assert element == {"timestamp": time, "value": value}


@pytest.mark.parametrize(
    ("heading", "cells"),
    [
        ("timestamp,t", "1700000000"),
        ("timestamp,t", ",1"),
        ("timestamp,t", "1700000000,"),
        ("timestamp,value", "1700000000,"),
        ("timestamp,value", "1700000000,{"),
        ("timestamp,value", "1700000000,NaN"),
        ("timestamp,t", "1700000000,-Infinity"),
    ],
)
def test_a_row_that_says_nothing_is_bad(heading, cells):
    # Beside one that tells what its columns are.
    row = rows_of(f"{heading}\n{cells}\n1700000000,1\n")[0]
    assert isinstance(row.said, BadLineError)


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (b"", "line 1: the file is empty"),
        (b"t,h\n1,2\n", "no column timestamp .nor time., but t, h: give --time-column"),
        (b"timestamp,t,t\n1,2,3\n", "the same name: t"),
        ("time,t\n".encode("utf-16"), "line 1: not UTF-8 but UTF-16: .* iconv -f UTF-16 -t UTF-8"),
        ("time,t\n".encode("utf-16-be"), "line 1: not UTF-8 but UTF-16"),
        ("time;Temp °C\n".encode("cp1252"), "line 1: not UTF-8: .* iconv -f WINDOWS-1252"),
        (b"\n1700000000,a,2\n", "names no columns, it is a row already: 1700000000,a,2: put a"),
        (b"time,t\r1700000000,2\r", "line 1: a carriage return without a line feed"),
    ],
)
def test_a_file_without_a_heading_says_so(file, why):
    with pytest.raises(StartError, match=why):
        look_at_csv(io.BytesIO(file), None, TableOptions())


def test_lines_are_counted_behind_blank_ones():
    rows = rows_of(b'\n\ntime,t\n1700000000,1\n\n5,"')
    assert [(row.line, row.end.line) for row in rows] == [(4, 4), (6, 6)]
    assert str(rows[1].said) == "a quote is not closed"


def test_a_revision_of_an_export_that_became_a_float_is_one():
    # As pandas writes an export again in which some have none.
    heading = ",sensor_identifier,device_id,timestamp,revision,value"
    element = row_of(heading, "0,x,a,2024-01-01 00:00:00+00:00,3.0,1")
    assert said(element)[2] == {"timestamp": 1704067200, "revision": 3, "value": 1}


def test_an_element_of_mqtt_is_read():
    line = b'{"device_id":"a","timestamp":1700000000,"revision":2,"metrics":{"t":1}}'
    assert said(from_json_line(line)) == (
        Kind.MEASUREMENT,
        ("a",),
        {"timestamp": 1700000000, "revision": 2, "value": {"t": 1}},
    )
    line = b'{"timestamp":1700000000,"severity":"info","subject":"x"}'
    assert said(from_json_line(line, Kind.LOG))[0] is Kind.LOG


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ('"ts":1700000000123,"t":1', ("ts", ".timestamp = .ts / 1000 | del(.ts)")),
        ('"t":1,"time":1700000000', ("time", ".timestamp = .time | del(.time)")),
        ('"last_changed":"2024-01-01T00:00:00+00:00"', ("last_changed", "del(.last_changed)")),
        ('"id":1700000000,"when":"2024-01-01T00:00:00Z"', ("when", ".timestamp = .when")),
        ('"timestamp":null,"Date Time":"2024-01-01T00:00:00Z"', ("Date Time", None)),
    ],
)
def test_a_line_without_a_timestamp_is_told_which_member_looks_like_one(line, meant):
    with pytest.raises(BadLineError) as raised:
        from_json_line(f"{{{line}}}".encode())
    name, program = meant
    said = str(raised.value)
    assert said.startswith(f"timestamp is missing: `{name}` looks like one")
    assert ("jq" in said) is (program is not None)
    assert program is None or program in said


@pytest.mark.parametrize("line", [b'{"t":1}', b'{"ts":12,"a":null,"b":[],"c":"x","d":true}'])
def test_a_line_in_which_nothing_looks_like_a_time_is_told_no_more(line):
    with pytest.raises(BadLineError, match=r"^timestamp is missing$"):
        from_json_line(line)


def test_log_messages_of_other_programs_are_read_as_those_of_tables():
    line = b'{"time":"2026-01-15T12:00:00Z","Level":"WARN","msg":"low","host":"a","device_id":"p"}'
    left_out = set()
    assert said(from_json_line(line, Kind.LOG, left_out)) == (
        Kind.LOG,
        ("p",),
        {"timestamp": 1768478400, "severity": "warning", "subject": "low"},
    )
    assert left_out == {"host"}
    line = (
        b'{"time":1,"timestamp":1768478400,"level":"crit","message":7,"details":{"a":1},"id":"x"}'
    )
    assert said(from_json_line(line, Kind.LOG, left_out))[2] == {
        "timestamp": 1768478400,
        "severity": "error",
        "subject": "7",
        "details": '{"a":1}',
        "id": "x",
    }
    assert left_out == {"host", "time"}
    # What says its kind is of an export, or is told what is wrong with it by the server.
    own = b'{"kind":"log","timestamp":1768478400,"level":"WARN","message":"low"}'
    assert "level" in said(from_json_line(own, Kind.LOG, left_out))[2]
    for wrong, reason in (
        (b'{"time":1768478400,"level":"info"}', "no member subject (nor message, msg)"),
        (b'{"time":1768478400,"message":"x"}', "no member severity (nor level, loglevel)"),
        (b'{"level":"info","message":"x"}', "timestamp is missing"),
    ):
        with pytest.raises(BadLineError, match=re.escape(reason)):
            from_json_line(wrong, Kind.LOG)


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"{",
        b'{"value":1}',
        b'{"timestamp":null,"value":1}',
        b'{"kind":"status","timestamp":1,"value":1}',
        b'{"kind":1,"timestamp":1,"value":1}',
        b'{"timestamp":1,"value":"\\ud800"}',
        b'{"timestamp":1,"value":"\xff"}',
        b'{"timestamp":1,"value":tru}',
        b'{"kind":"heartbeat","timestamp":1,"details":3}',
        b'{"timestamp":1,"value":' + b"[" * 100_000,
    ],
)
def test_a_line_that_cannot_be_used_is_bad(line):
    with pytest.raises(BadLineError):
        from_json_line(line)


@pytest.mark.parametrize(
    "time",
    ["0", "12.5", '"1970-12-31T23:59:59Z"', '"1970-01-01T00:00:05+02:00"', "-1e9", "999999999"],
)
def test_a_time_that_would_be_taken_for_none_is_bad(time):
    # Stored with the time of the import, it would be stored again by each.
    with pytest.raises(BadLineError, match="a clock that counts from its boot"):
        from_json_line(f'{{"timestamp":{time},"value":1}}'.encode())
    if not time.startswith("-"):
        rows = rows_of(f"timestamp,t\n{time},1\n1700000000,1\n", zone=UTC_ZONE)
        assert isinstance(rows[0].said, BadLineError)
    assert from_json_line(b'{"timestamp":1000000000,"value":1}').kind is Kind.MEASUREMENT


def test_a_wrong_precision_is_asked_about():
    with pytest.raises(BadLineError, match="is the precision ns"):
        from_line("w t=1 1465839830", Mapping())
    with pytest.raises(BadLineError, match="is the precision s"):
        from_line("w t=1 1465839830000", Mapping(precision="s"))


@pytest.mark.parametrize(
    ("line", "sensor", "value"),
    [
        ("weather,device_id=a,site=north t=22.5,n=3i 1465839830100400200", "a", None),
        (r"wea\ ther,device_id=a\,b t=1u 1465839830100400200", "a,b", {"t": 1}),
        ("weather t=1e3,on=T,off=false 1465839830100400200", "weather", None),
        (r'w,device_id=a s="a \"b\" = c, d\\" 1465839830100400200', "a", {"s": 'a "b" = c, d\\'}),
    ],
)
def test_line_protocol_is_read(line, sensor, value):
    element = from_line(line, Mapping())
    assert element.sensors == (sensor,)
    body = json.loads(element.text)
    assert body["timestamp"] == 1_465_839_830.1004
    if value is None:
        value = (
            {"site": "north", "t": 22.5, "n": 3}
            if sensor == "a"
            else {"t": 1000.0, "on": True, "off": False}
        )
    assert body["value"] == value


def test_line_protocol_by_the_users_mapping():
    line = "cpu,host=a usage=1 1465839830"
    element = from_line(line, Mapping("host", "s", prefix=True))
    assert element.sensors == ("a",)
    assert json.loads(element.text) == {
        "timestamp": 1_465_839_830,
        "value": {"cpu": {"usage": 1.0}},
    }
    assert from_line(line, Mapping(precision="s"), "b").sensors == ("b",)
    assert from_line("# a comment", Mapping()) is None
    assert from_line("  ", Mapping()) is None


@pytest.mark.parametrize(
    "line",
    [
        "w t=1",
        "w 1465839830",
        "w t= 1465839830",
        "w t=abc 1465839830",
        'w t="open 1465839830',
        "w,a t=1 1465839830",
        "w t=1 x",
        "w t=1 99999999999999999999",
        "w t=1,1465839830",
        ",a=b t=1 1",
        "w t=nan 1465839830",
        "w t=1e400 1465839830100400200",
    ],
)
def test_a_bad_line_of_line_protocol_says_why(line):
    with pytest.raises(BadLineError):
        from_line(line, Mapping())


@given(st.text(), st.sampled_from(["ns", "us", "ms", "s"]))
def test_whatever_the_line_it_is_read_or_bad(text, precision):
    with contextlib.suppress(BadLineError):
        from_line(text, Mapping(precision=precision))


@given(st.binary() | st.text().map(str.encode))
def test_whatever_the_json_it_is_read_or_bad(line):
    with contextlib.suppress(BadLineError):
        from_json_line(line)


@pytest.mark.parametrize("time", ["1977-08-20T14:29:00Z", "1955-11-12T22:04:00-08:00"])
def test_a_time_before_2001_with_a_zone_is_one(time):
    element = from_json_line(f'{{"timestamp":"{time}","value":1}}'.encode())
    assert json.loads(element.text)["timestamp"] == time
    element = row_of("timestamp,t", f"{time},1")
    assert from_rfc3339(json.loads(element.text)["timestamp"]) == from_rfc3339(time)


PRECISIONS = ["s", "ms", "us", "ns"]


@pytest.mark.parametrize(
    ("precision", "time"),
    [("s", 240935340), ("ms", 240935340000), ("us", 240935340000000), ("ns", 240935340000000000)],
)
def test_line_protocol_of_1977_is_read_and_a_wrong_precision_asked_about(precision, time):
    said = from_line(f"w t=1 {time}", Mapping(precision=precision))
    assert json.loads(said.text)["timestamp"] == "1977-08-20T14:29:00.000000Z"
    for other in PRECISIONS[PRECISIONS.index(precision) + 1 :]:
        with pytest.raises(BadLineError, match=f"is the precision {other}"):
            from_line(f"w t=1 {time}", Mapping(precision=other))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"[1]", "something in it is of another type"),
        (b'{"kind": 5}', "something in it is of another type"),
        (b'{"a": }', "invalid character (byte 6)"),
        (b'{"a": 1', "it is truncated"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": ' + b"[" * 100_000, "nested too deep"),
        (
            b'[{"a": 1}]',
            "something in it is of another type: write an object a line, as `jq -c '.[]'` does",
        ),
    ],
)
def test_why_a_line_is_no_json_is_told_in_words_of_the_field(line, why):
    with pytest.raises(BadLineError) as caught:
        from_json_line(line)
    assert str(caught.value) == f"not a JSON object as it is exported: {why}"


def together_and_alone(rows, read):
    """Return what rows say that are read together, and what each of them says by itself."""
    together = read(rows)
    alone = [found for row in rows for found in read([row])]
    return [
        [said(each) if isinstance(each, Element) else repr(each) for each in found]
        for found in (together, alone)
    ]


MOMENTS = st.sampled_from((
    "2026-01-01T00:00:00.000001Z", "2026-01-01T00:00:00.25Z", "1977-01-01T00:00:00.000000Z",
    "2026-01-01 00:00:00.5+00", "2026-13-01T00:00:00.000000Z", "2026-W01-1T00:00:00.000000Z",
    "1970-01-01T00:00:09.000000Z", "2200-01-01T00:00:00.000000Z", " 2026-01-01T00:00:00Z ",
    "1700000000", "", "soon",
))  # fmt: skip


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("a", " a", "", "\udcff")),
            MOMENTS,
            st.sampled_from(("", "3", "3.0", " 4")),
            st.sampled_from(("1", '{"a":1}', "1,2", "[1", "2]", "", '"\udcff"', "NaN", " 1 ")),
            st.sampled_from(("", "x", '"')),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_rows_of_an_export_say_the_same_together_as_alone(rows):
    columns = ("sensor_identifier", "timestamp", "revision", "value", "element_id")
    together, alone = together_and_alone(rows, CsvRows(columns).elements)
    assert together == alone


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("2026-01-01 00:00:00Z", "2026-01-01T00:00:01.5+01:00", "", "-", "9")),
            st.sampled_from(("a", " a ", "")),
            st.sampled_from(("1.5", ".5", "1,2", "", "NA", "inf", "x", "1]", "007", " 3", "-0")),
            st.sampled_from(("on", "off", "", " ", '"', "\udcff")),
            st.sampled_from(("true", "FALSE", "1", "")),
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from((None, "u")),
)
def test_rows_of_a_table_say_the_same_together_as_alone(rows, attribute_column):
    names = b"time,device_id,t,u,on"
    cells = b"2026-01-01T00:00:00Z,a,%b.5,on,true\n"
    file = io.BytesIO(names + b"\n" + b"".join(cells % str(n).encode() for n in range(8)))
    options = TableOptions(attribute_column=attribute_column)
    if attribute_column:
        options = options._replace(value_column="t")
    look = look_at_csv(file, None, options)
    read = TableRows(look.plan, options, "device_id", has_sensor=True).elements
    together, alone = together_and_alone(rows, read)
    assert together == alone


@given(st.lists(st.sampled_from(("1.5", "-2", "1,5", "1.", "", " ", "1]", "[1", "1e9", "1_0"))))
def test_numbers_are_taken_together_only_if_each_is_json(cells):
    numbers = json_numbers(cells, ".")
    if numbers is not None:
        assert all(isinstance(json.loads(cell), int | float) for cell in numbers)
        assert len(numbers) == len(cells)
    by_comma = json_numbers(cells, ",")
    assert by_comma is None or [*by_comma] == [cell.replace(",", ".") for cell in cells]
