"""Tables of other makes: numbers, times and what is missing, and what is asked and not guessed."""

import csv
import gzip
import io
import itertools
import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from heliograph.errors import StartError
from heliograph.exchange import reading
from heliograph.exchange.elements import BadLineError, NoValueError
from heliograph.exchange.reading import Place, csv_rows, look_at_csv
from heliograph.exchange.table_layouts import UTC_ZONE, fixed_zone
from heliograph.exchange.table_numbers import (
    _COMMAS,
    _POINTS,
    ColumnSurvey,
    Missing,
    json_number,
    sort_of,
)
from heliograph.exchange.table_times import Example, TimeSurvey, Zone
from heliograph.exchange.tables import TableOptions
from heliograph.model.records import Kind
from heliograph.model.time import to_rfc3339

NOON = 1_709_294_400
BEGINNING = Place(0, 0)
BERLIN = Zone(ZoneInfo("Europe/Berlin"), "Europe/Berlin")


def look(text: str, kind=None, **options):
    return look_at_csv(io.BytesIO(text.encode()), kind, TableOptions(**options))


def read(text: str, kind=None, start=BEGINNING, has_sensor=True, **options):
    """Return records of a table about which nothing is open."""
    found = look(text, kind, **options)
    assert found.plan is None or found.plan.questions == ()
    file = io.BytesIO(text.encode())
    return list(csv_rows(file, start, found, "device_id", has_sensor=has_sensor))


def asked(text: str, **options) -> str:
    return "; ".join(map(str, look(text, **options).plan.questions))


def values(text: str, **options):
    return [
        None if isinstance(row.said, BadLineError) else json.loads(row.said.text)["value"]
        for row in read(text, **options)
    ]


def column(cells, **options):
    """Return what a column of these cells holds, None where nothing."""
    separator = options.get("separator", ",")
    rows = "\n".join(f"{NOON + n}{separator}{cell}{separator}x" for n, cell in enumerate(cells))
    found = values(f"time{separator}t{separator}x\n{rows}\n", **options)
    return [value.get("t") for value in found]


def times(cells, name="time", **options):
    rows = "\n".join(f'"{cell}",1' for cell in cells)
    found = read(f"{name},t\n{rows}\n", **options)
    return [
        str(row.said)
        if isinstance(row.said, BadLineError)
        else to_rfc3339(round(json.loads(row.said.text)["timestamp"] * 1e6))
        for row in found
    ]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([".5", "-.5", "+5", "1.", "1.5"], [0.5, -0.5, 5, 1.0, 1.5]),
        (["1e3", "-2.5E-2", "+1.e2", "05.25"], [1e3, -0.025, 1e2, 5.25]),
        (["0", "-0", "12345678901234567890"], [0, 0, 12345678901234567890]),
    ],
)
def test_numbers_without_a_digit_before_or_behind_the_point_are_numbers(cells, expected):
    assert column(cells) == expected


def test_a_comma_stands_before_decimals_where_semicolons_separate_cells():
    cells = ["21,5", "-,5", "7", "1.234,5", "1.234.567"]
    assert column(cells, separator=";") == [21.5, -0.5, 7, 1234.5, 1234567]
    assert column(["1 234,5", "1\u202f234,25"], separator=";") == [1234.5, 1234.25]
    assert column(["1'234.5", "2"], separator=";") == [1234.5, 2]
    assert values('time,t\n1709294400,"21,5"\n') == [{"t": 21.5}]
    assert column(["\u22121.5", "2"]) == [-1.5, 2]
    assert values('time,t\n1709294400,"1,234.5"\n1709294401,"1,234"\n') == [
        {"t": 1234.5},
        {"t": 1234},
    ]


@pytest.mark.parametrize(
    "word",
    ["NaN", " NaN", "nan", "NAN", "NA", "null", "None", "#N/A", "", "  ", "N/A", "#NV", "-", "\\N"],
)
def test_words_for_nothing_are_missing_in_columns_of_numbers(word):
    assert column(["1.5", word, "2"]) == [1.5, None, 2]
    # Of texts they are what they are, but blank ones are none.
    expected = ["a", word, "b"] if word.strip() else ["a", None, "b"]
    assert column(["a", word, "b"]) == expected


def test_a_columns_kind_is_decided_over_the_whole_file():
    codes = [str(number) for number in range(10, 3_000)]
    assert column([*codes[:1000], "007"], texts=frozenset("t")) == [*codes[:1000], "007"]
    labels = ["fine", "bad", "7"]
    assert column(labels) == labels
    assert column(["007", "012"]) == ["007", "012"]
    assert column(["true", "False", ""]) == [True, False, None]
    assert column(["true", "maybe"]) == ["true", "maybe"]


def test_a_column_of_numbers_and_texts_is_a_question():
    rows = "".join(f"{NOON + n},{n}\n" for n in range(2_000))
    said = asked(f"time,t\n{rows}{NOON},ERR\n")
    assert "column t holds 2,000 numbers beside 1 other cell ('ERR' in line 2002)" in said
    assert "--missing 'ERR'" in said
    assert "--text 't'" in said
    text = f"time,t\n{NOON},1\n{NOON},ERR\n"
    assert values(text, missing=("ERR",)) == [{"t": 1}, None]
    assert values(text, texts=frozenset(("t",))) == [{"t": "1"}, {"t": "ERR"}]


def test_rows_that_are_no_utf8_are_bad_and_tell_nothing_of_their_columns():
    data = b"time;t\n1709294400;\xb0\n1709294401;2\nM\xe4rz;3\n"
    found = look_at_csv(io.BytesIO(data), None, TableOptions())
    assert found.plan.questions == ()
    rows = csv_rows(io.BytesIO(data), BEGINNING, found, "device_id", has_sensor=True)
    assert [str(row.said) for row in rows if isinstance(row.said, BadLineError)] == [
        "not UTF-8"
    ] * 2


def test_a_row_with_a_line_break_and_nothing_else_is_without_a_value():
    rows = read(f'time,t\n{NOON},"\n"\n{NOON},1\n')
    assert isinstance(rows[0].said, NoValueError)


@pytest.mark.parametrize("heading", ["time,", "time,device_id", "time,element_id"])
def test_rows_of_which_nothing_but_the_time_is_a_column_are_without_a_value(heading):
    cells = "," * heading.count(",")
    text = f"{heading}\n2024-03-01T10:00:00Z{cells}\n2024-03-01T10:00:01Z{cells}\n"
    assert [type(row.said) for row in read(text)] == [NoValueError] * 2


def test_what_is_said_to_be_missing_is_in_whatever_form_it_is_written():
    assert column([" -999", "-999.0", "-99", "x"][:3], missing=("-999",)) == [None, None, -99]
    assert column(["?", "a", "b"], missing=("?",)) == [None, "a", "b"]


@pytest.mark.parametrize("separator", [",", ";"])
def test_a_number_that_often_stands_for_none_is_pointed_out(separator):
    text = f"time,t,u\n{NOON},1.5,7\n{NOON},-999,8\n".replace(",", separator)
    told = dict(look(text).plan.rests_on)
    assert told["perhaps"] == "-999 in t stands for none: then give --missing -999"
    assert "perhaps" not in dict(look(text, missing=("-999",)).plan.rests_on)
    assert values(text)[1] == {"t": -999, "u": 8}


def test_an_infinite_number_makes_its_row_bad():
    rows = read(f"time,t,u\n{NOON},1,2\n{NOON},-Inf,2\n")
    assert str(rows[1].said) == "t is infinite, which no number in JSON is"


def test_thousands_or_decimals_is_a_question():
    for text in (
        "time;t\n1709294400;1,234\n",
        "time;t\n1709294400;1.234\n1709294401;2\n",
        'time,t\n1709294400,"1,234"\n',
    ):
        assert "thousands or decimals" in asked(text)
        assert "--decimal" in asked(text)
    assert values("time;t\n1709294400;1,234\n", decimal=",") == [{"t": 1.234}]
    assert values("time;t\n1709294400;1,234\n", decimal=".") == [{"t": 1234}]
    # Anywhere in the file one cell decides.
    assert values("time;t;u\n1709294400;1.234;\n1709294401;;0.5\n")[0] == {"t": 1.234}
    assert values("time,t\n1709294400,22.125\n") == [{"t": 22.125}]
    both = asked("time;t;u\n1709294400;21,5;21.5\n")
    assert "behind a point ('21.5' in line 2, column u) and behind a comma" in both


@pytest.mark.parametrize(
    "cell",
    [
        "2024-03-01T12:00:00Z",
        "2024-03-01 12:00:00+00",
        "2024-03-01 14:00:00+02",
        "2024-03-01T12:00:00+0000",
        "2024-03-01T12:00Z",
        "2024-03-01 12:00 +0000",
        "2024-03-01 12:00:00 UTC",
        "2024-03-01 12:00:00 +0000 UTC",
        "2024/03/01 12:00:00Z",
        "1.3.2024 12:00Z",
        "1709294400",
        "1709294400.000",
        "1709294400000",
        "1709294400000000",
        "1709294400000000000",
    ],
)
def test_times_with_a_short_zone_without_seconds_or_as_counts_are_times(cell):
    assert times([cell]) == ["2024-03-01T12:00:00.000000Z"]


@pytest.mark.parametrize("name", ["Timestamp", "TIMESTAMP", "created_at", "Zeit", "_time", "ts"])
def test_a_column_called_like_a_time_is_one(name):
    assert times(["2024-03-01T12:00:00Z"], name) == ["2024-03-01T12:00:00.000000Z"]


def test_names_are_reserved_only_under_the_heading_of_an_export():
    heading = "timestamp,time,revision,device_timestamp,receipt_timestamp,value,kind"
    text = f"{heading}\n{NOON},13:05,1.2.3,7,late,9,x\n"
    assert values(text) == [
        {
            "time": "13:05",
            "revision": "1.2.3",
            "device_timestamp": 7,
            "receipt_timestamp": "late",
            "value": 9,
            "kind": "x",
        }
    ]
    (row,) = read(text)
    assert json.loads(row.said.text)["timestamp"] == NOON


@pytest.mark.parametrize("mark", ["/", "-"])
def test_day_or_month_first_is_a_question_unless_a_cell_tells(mark):
    def write(*cells):
        return "time,t\n" + "".join(f"{cell.replace('/', mark)} 10:00,1\n" for cell in cells)

    said = asked(write("01/02/2024", "03/04/2024"), zone=UTC_ZONE)
    assert "the day or the month first" in said
    assert "--time-format day-first or --time-format month-first" in said
    later = ["01/02/2024"] * 1_500
    rows = read(write(*later, "25/02/2024"), zone=UTC_ZONE)
    assert b'"timestamp":1706781600.0' in rows[0].said.text
    rows = read(write(*later, "02/25/2024"), zone=UTC_ZONE)
    assert b'"timestamp":1704189600.0' in rows[0].said.text
    assert "but '02" in asked(write("25/02/2024", "02/25/2024"), zone=UTC_ZONE)
    rows = read(write("01/02/2024"), zone=UTC_ZONE, time_format="month-first")
    assert b'"timestamp":1704189600.0' in rows[0].said.text


def test_a_time_without_a_zone_is_a_question():
    said = asked("time,t\n2024-03-01 12:00,1\n")
    assert "column time says no zone ('2024-03-01 12:00' in line 2)" in said
    assert "--time-zone UTC" in said
    cells = ["2024-07-01 12:00"]
    assert times(cells, zone=BERLIN) == ["2024-07-01T10:00:00.000000Z"]
    assert times(cells, zone=fixed_zone("-5")) == ["2024-07-01T17:00:00.000000Z"]
    assert times(cells, "Time (UTC)") == ["2024-07-01T12:00:00.000000Z"]
    assert times([*cells, "2024-07-01 12:00Z"], zone=BERLIN)[1] == "2024-07-01T12:00:00.000000Z"


@pytest.mark.parametrize(
    ("cell", "wrong"),
    [
        ("2024-02-28 24:00", "2024-02-28 24:01"),
        ("28.02.2024 24:00:00", "28.02.2024 24:00:01"),
        ("2024022824", "2024022825"),
        ("20240228 24:00", "2024228 24:00"),
        ("202402282400", "202402282401"),
    ],
)
def test_24_o_clock_is_the_end_of_a_day(cell, wrong):
    before = cell.replace("24:00", "23:00").replace("022824", "022823")
    assert times([before, cell], zone=UTC_ZONE) == [
        "2024-02-28T23:00:00.000000Z",
        "2024-02-29T00:00:00.000000Z",
    ]
    rows = read(f"time,t\n{before},1\n{wrong},2\n", zone=UTC_ZONE)
    assert isinstance(rows[1].said, BadLineError)


def test_the_end_of_the_last_day_is_no_time():
    (_, row) = read("time,t\n2024-02-28 10:00,1\n9999-12-31 24:00,1\n", zone=UTC_ZONE)
    assert isinstance(row.said, BadLineError)


def test_days_without_marks_and_a_clock_in_two_columns_are_one_time():
    text = "YYYYMMDD,HH,T\n20240101,23,51\n20240101,24,52\n"
    rows = read(text, zone=UTC_ZONE, time_columns=("YYYYMMDD", "HH"))
    assert [json.loads(row.said.text)["timestamp"] for row in rows] == [1704150000, 1704153600]


def test_a_column_that_names_an_offset_of_no_zone_leaves_the_zone_open():
    assert "--time-zone" in asked('"Date Time, GMT+99:00",x\n2024-03-01 10:00:00,1\n')


def test_what_a_clock_shows_twice_or_never_is_refused():
    told = times(["2024-10-27 02:30", "2024-03-31 02:30", "2024-10-27 03:00"], zone=BERLIN)
    assert told[0].endswith("show 2024-10-27 02:30:00 twice: write its offset to it")
    assert told[1].endswith("show 2024-03-31 02:30:00 never: write its offset to it")
    assert told[2] == "2024-10-27T02:00:00.000000Z"


def test_seconds_or_milliseconds_is_a_question():
    mixed = "time,t\n1709294400,1\n1709294400000,1\n"
    assert "counts seconds ('1709294400' in line 2), milliseconds" in asked(mixed)
    assert "--precision" in asked(mixed)
    assert "no times since 2001" in asked("time,t\n250000000000,1\n")
    assert "a spreadsheet's count of days" in asked("time,t\n45352.5,1\n")
    # Days without marks are never in the ranges of counts.
    assert times(["2024030112"], zone=UTC_ZONE) == ["2024-03-01T12:00:00.000000Z"]
    assert times(["20240301"], zone=UTC_ZONE) == ["2024-03-01T00:00:00.000000Z"]


def test_several_columns_of_times_are_a_question():
    text = "created_at,updated_at,t\n2024-03-01T12:00Z,2024-03-01T13:00Z,1\n"
    assert "give --time-column 'created_at' or --time-column 'updated_at'" in asked(text)
    (row,) = read(text, time_columns=("updated_at",))
    assert b'"timestamp":1709298000.0,"value":{"created_at":' in row.said.text
    with pytest.raises(StartError, match="no column updated, did you mean updated_at"):
        look(text, time_columns=("updated",))


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [("Sampled", "01:30", "12:00"), ("Time", "0130", "1200"), ("HH", "1", "12")],
)
def test_days_beside_what_may_be_times_of_a_day_are_a_question(name, first, second):
    text = f"Date,{name},t\n2024-03-01,{first},1\n2024-03-01,{second},2\n"
    expected = f"--time-column 'Date' --time-column '{name}' for both, --time-column 'Date' if"
    assert expected in asked(text, zone=UTC_ZONE)
    both = read(text, zone=UTC_ZONE, time_columns=("Date", name))
    assert b'"timestamp":1709294400.0,"value":{"t":2}' in both[1].said.text
    (day, _) = read(text, zone=UTC_ZONE, time_columns=("Date",), texts=frozenset((name,)))
    assert b'"timestamp":1709251200.0' in day.said.text


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"PK\x03\x04\x14\x00\x06\x00", "a ZIP archive or a spreadsheet: unpack it, or save"),
        (b"PAR1\x15\x04\x15", "Parquet: give --format parquet"),
        (gzip.compress(b"time,t\n", mtime=0), "packed by gzip: its name has to end in .gz"),
    ],
    ids=["ZIP", "Parquet", "gzip"],
)
def test_what_is_no_text_is_told_as_what_it_is(data, why):
    with pytest.raises(StartError, match=f"no table of text but {why}"):
        look_at_csv(io.BytesIO(data), None, TableOptions())


def test_cells_that_many_spaces_separate_are_told_with_what_makes_one_of_them():
    text = "time   t\n2024-03-01T12:00Z   1\n"
    with pytest.raises(StartError, match="where several stand together: tr -s ' ' < FILE"):
        look(text)
    assert values(" ".join(text.split(" " * 3)), separator=" ") == [{"t": 1}]


def test_what_is_wrong_with_a_heading_is_told_with_its_line():
    with pytest.raises(StartError, match="line 2: two columns have the same name: t: rename one"):
        look("Out,,In\ntime,t,t\n2024-03-01T12:00Z,1,2\n")


def test_a_day_and_a_clock_in_the_words_of_a_country_are_one_time():
    (row,) = read("Datum;Tid (UTC);t\n2024-03-01;12:00:00;1,5\n")
    assert b'"timestamp":1709294400.0,"value":{"t":1.5}' in row.said.text


def test_a_row_without_a_usable_time_is_refused_and_never_dated():
    rows = read(f"time,t\n{NOON},1\n,2\nsoon,3\n0,4\n{NOON + 1},5\n")
    assert [row.line for row in rows if isinstance(row.said, BadLineError)] == [3, 4, 5]
    assert str(rows[1].said) == "timestamp is missing"
    assert str(rows[2].said) == "timestamp 'soon' is no time"
    assert "a clock that counts from its boot" in str(rows[3].said)
    # What is said in such a row does not make a column one of texts.
    assert values(f"time,t\nunit,°C\n{NOON},1\n") == [None, {"t": 1}]


def test_times_before_2001_are_times_unless_they_are_bare_counts():
    text = f"time,t\n1893-03-01 12:00,1\n1970-01-01 00:05,2\n{NOON},3\n900000000,4\n"
    rows = read(text, zone=UTC_ZONE)
    assert b'"1893-03-01T12:00:00.000000Z"' in rows[0].said.text
    assert "a clock that counts from its boot" in str(rows[1].said)
    assert "timestamp 900000000 is that of a clock that counts" in str(rows[3].said)
    rows = read(f"time,t\n{NOON},3\n900000000,4\n5,5\n", precision="s")
    assert b'"1998-07-09T16:00:00.000000Z"' in rows[1].said.text
    assert isinstance(rows[2].said, BadLineError)


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("10:05", "holds times of a day, and not which day"),
        ("1.7092872E+12", "holds counts that a spreadsheet has shortened"),
        ("45352", "a spreadsheet's count of days"),
        ("45352,5", "a spreadsheet's count of days"),
        ("12", "no times since 2001"),
        ("3/1/24 10:00", "--time-format, as"),
    ],
)
def test_what_is_no_time_is_said_in_the_words_of_who_wrote_it(cell, why):
    assert why in asked(f'time,t\n"{cell}",1\n', zone=UTC_ZONE)


def test_a_zone_that_a_given_format_names_is_that_of_the_time():
    cells = ["Fri, 01 Mar 2024 12:00:00 GMT"]
    form = "%a, %d %b %Y %H:%M:%S %Z"
    assert times(cells, time_format=form) == ["2024-03-01T12:00:00.000000Z"]
    assert "no zone" in asked("time,t\n2024-03-01 12:00,1\n", time_format="%Y-%m-%d %H:%M")


def test_a_given_format_is_that_of_all_times():
    cells = ["1. Mar 24 12h30"]
    assert times(cells, zone=UTC_ZONE, time_format="%d. %b %y %Hh%M") == [
        "2024-03-01T12:30:00.000000Z"
    ]
    assert "--time-format" in asked("time,t\n1. Mar 24 12h30,1\n", zone=UTC_ZONE)


def test_what_separates_cells_is_seen_from_the_heading():
    for separator in ",;\t|":
        lines = ["time", "t", "note"], [str(NOON), "1", "x"]
        text = "\n".join(separator.join(cells) for cells in lines)
        assert values(text) == [{"t": 1, "note": "x"}]
    assert values(f"sep=;\ntime;t\n{NOON};1\n") == [{"t": 1}]
    assert values(f"# made by hand\n# time,t\n{NOON},1\n") == [{"t": 1}]
    assert values(f"time:t\n{NOON}:1\n", separator=":") == [{"t": 1}]
    # Nor is what says so the heading where no column is called a time.
    assert values("SEP=;\nam;t\n2024-03-01T12:00Z;1\n") == [{"t": 1}]


def test_the_last_remark_before_the_rows_is_the_heading_if_it_names_all_cells():
    rows = "260,2024-03-01T12:00Z,1\n260,2024-03-01T13:00Z,2\n"
    for remarks in ("# by hand\n# n,am,t\n", "# n,am,t\n#\n", "# a,b,c\n# n,am,t\n# two, cells\n"):
        assert values(remarks + rows) == [{"n": 260, "t": 1}, {"n": 260, "t": 2}]
    with pytest.raises(StartError, match="names no columns, it is a row already: 260"):
        values(f"# two,cells\n{rows}")


def test_a_value_a_row_goes_to_the_attribute_that_the_row_names():
    text = f"time,what,reading\n{NOON},t,1\n{NOON},note,x\n{NOON},t,NaN\n"
    found = values(text, attribute_column="what", value_column="reading")
    assert found == [{"t": 1}, {"note": "x"}, None]
    rows = read(f"time,station,t\n{NOON},a,1\n", sensor_column="station")
    assert rows[0].said.sensors == ("a",)


def test_logs_and_heartbeats_are_read_of_tables_too():
    text = "Zeit;severity;subject\n1.3.2024 12:00;info;door\n"
    (row,) = read(text, Kind.LOG, zone=UTC_ZONE)
    assert row.said.kind is Kind.LOG
    assert json.loads(row.said.text) == {
        "timestamp": NOON,
        "severity": "info",
        "subject": "door",
    }
    (row,) = read(f"time,success\n{NOON},1\n", Kind.HEARTBEAT)
    assert json.loads(row.said.text) == {"timestamp": NOON, "success": True}


def test_logs_of_other_programs_are_read_by_their_own_words():
    text = f"time,Level,host,message,note\n{NOON},WARN,a,low,x\n{NOON},crit,b,,y\n{NOON},odd,b,z,\n"
    rows = read(text, Kind.LOG, sensor_column="host")
    assert [row.said.sensors for row in rows] == [("a",), ("b",), ("b",)]
    assert [json.loads(row.said.text) for row in rows] == [
        {"timestamp": NOON, "severity": "warning", "subject": "low"},
        {"timestamp": NOON, "severity": "error", "subject": ""},
        # Which the server refuses.
        {"timestamp": NOON, "severity": "odd", "subject": "z"},
    ]
    told = look(text, Kind.LOG, sensor_column="host").plan.rests_on
    assert ("severity", "column Level") in told
    assert ("left out", "note: a log message has nothing for it") in told
    for heading in ("time,message", "time,level"):
        with pytest.raises(StartError, match=r"no column (severity|subject) \(nor"):
            look(f"{heading}\n{NOON},x\n", Kind.LOG)


def test_what_else_a_table_has_of_heartbeats_are_their_details():
    text = f"seen,id,online,battery,note,revision\n{NOON},7,true,80,007,2\n{NOON},8,false,NaN,,\n"
    rows = read(text, Kind.HEARTBEAT, time_columns=("seen",))
    assert [json.loads(row.said.text) for row in rows] == [
        {"timestamp": NOON, "online": True, "battery": 80, "note": "007", "revision": 2},
        {"timestamp": NOON, "online": False},
    ]


def test_reading_goes_on_from_any_place():
    text = f"time,t\n{NOON},1\n\n{NOON},2\n{NOON},3\n"
    all_rows = read(text)
    for number, row in enumerate(all_rows, 1):
        assert read(text, start=row.end) == all_rows[number:]


def test_a_heading_amid_influxdbs_tables_holds_for_what_follows_it_wherever_reading_begins():
    text = f"name,tags,time,t\na,,{NOON},1\n\nname,tags,time,h,t\nb,,{NOON},2,3\n"
    rows = read(text, has_sensor=False)
    assert [json.loads(row.said.text)["value"] for row in rows] == [{"t": 1}, {"h": 2, "t": 3}]
    assert [row.said.sensors for row in rows] == [("a",), ("b",)]
    assert read(text, start=rows[0].end, has_sensor=False) == rows[1:]


def test_a_row_that_holds_the_name_of_a_column_is_no_heading():
    text = f"time,note\n{NOON},time\n{NOON},1\nsoon,time\n{NOON},x\ntime,note\n{NOON},y\n"
    rows = read(text)
    assert str(rows[2].said) == "timestamp 'soon' is no time"
    del rows[2]
    notes = [json.loads(row.said.text)["value"]["note"] for row in rows]
    assert notes == ["time", "1", "x", "y"]
    # Nor is one that begins like a remark.
    assert values(f"id,time,t\n#1,{NOON},1\n#2,{NOON},x\n", texts=frozenset(("t",))) == [
        {"id": "#1", "t": "1"},
        {"id": "#2", "t": "x"},
    ]


def test_what_influxdb_says_of_a_value_is_not_asked():
    def table(kind, *cells):
        rows = "".join(f",,0,2024-03-01T12:00:0{n}Z,{c},f,m\n" for n, c in enumerate(cells))
        head = f"#datatype,string,long,dateTime:RFC3339,{kind},string,string\n"
        return f"{head},result,table,_time,_value,_field,_measurement\n{rows}"

    assert values(table("string", "1", "2", "x")) == [{"f": "1"}, {"f": "2"}, {"f": "x"}]
    assert values(table("double", "1", "NaN")) == [{"f": 1}, None]
    assert values(table("boolean", "true")) == [{"f": True}]
    # Tags are texts, and a table may have a column a field.
    pivoted = (
        "#datatype,string,long,dateTime:RFC3339,double,string\n,result,table,_time,t,room\n"
        ",,0,2024-03-01T12:00:00Z,1,101\n"
    )
    assert values(pivoted) == [{"t": 1, "room": "101"}]


def test_a_look_holds_no_more_than_a_block(monkeypatch):
    """However many rows there are, and whether or not each is a line."""
    held = []
    taken = reading.TableSurvey.add

    def add(self, rows, lines):
        held.append(len(rows))
        taken(self, rows, lines)

    monkeypatch.setattr(reading.TableSurvey, "add", add)
    monkeypatch.setattr(reading, "BLOCK_BYTES", 4_096)
    for note in ("x", '"x\ny"'):
        held.clear()
        text = "time,t,note\n" + "".join(f"{NOON + n},{n % 40}.5,{note}\n" for n in range(5_000))
        assert look(text).plan.questions == ()
        assert sum(held) == 5_000
        assert max(held) <= 4_096 // 16


cells = st.text(max_size=8) | st.sampled_from(
    ["1", "1.5", "1,5", "1.234", "NaN", "", "true", "2024-03-01", "01/02/2024 10:00", "1709294400"]
)


@given(st.lists(st.lists(cells, min_size=1, max_size=4), max_size=6), st.sampled_from(",;\t|"))
@example([["time", "t"], ["1709294400", "1"]], ",")
def test_whatever_the_table_it_is_read_or_told(rows, separator):
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=separator).writerows(rows)
    data = out.getvalue().encode("utf-8", "surrogateescape")
    try:
        found = look_at_csv(io.BytesIO(data), None, TableOptions(zone=UTC_ZONE))
    except StartError:
        return
    for record in csv_rows(io.BytesIO(data), BEGINNING, found, "device_id", has_sensor=True):
        if not isinstance(record.said, BadLineError):
            json.loads(record.said.text)


moments = st.integers(-2_000_000_000, 4_000_000_000).map(
    lambda seconds: datetime.fromtimestamp(seconds, UTC)
)
time_cells = st.builds(
    datetime.strftime,
    moments,
    st.sampled_from(["%d.%m.%Y %H:%M", "%d/%m/%Y", "%m/%d/%Y %H:%M:%S", "%Y-%m-%d %H:%M", "%s"]),
) | st.sampled_from(["", "soon", "31.13.2024 10:00", "1.2.2024 10:00", "01.02.2024 25:00"])


@given(st.lists(time_cells, min_size=1, max_size=6), st.sampled_from([None, "day-first"]))
def test_many_times_at_once_tell_what_each_tells(cells, form):
    many, each = TimeSurvey(NOON * 1_000_000, form), TimeSurvey(NOON * 1_000_000, form)
    at_once = many.add(cells, range(len(cells))) or [True] * len(cells)
    assert at_once == [each._is_time(Example(*cell)) for cell in zip(cells, itertools.count())]
    each.usable = many.usable
    asked_of = [], []
    forms = [
        s.decide("t", UTC_ZONE, lambda *asked, to=to: to.append(asked))[0]
        for s, to in zip((many, each), asked_of, strict=True)
    ]
    assert len(asked_of[0]) == len(asked_of[1])
    assert [form._replace(zone=None) for form in forms] == [forms[0]._replace(zone=None)] * 2
    if not asked_of[0]:
        read_one = forms[0].reader()
        for cell, is_time in zip(cells, at_once, strict=True):
            if is_time:
                assert read_one(cell) == forms[0]._slow(cell)


number_cells = st.sampled_from(
    ["1", "-2.5", "1,5", "1.234", "1,234", "007", "NaN", "", " 3 ", "1_0", "٣", "inf", "1e5", "x"]
)


@given(st.lists(number_cells, min_size=1, max_size=6))
def test_many_numbers_at_once_tell_what_each_tells(cells):
    many, each = ColumnSurvey(), ColumnSurvey()
    many.add(cells, range(len(cells)), Missing())
    for cell in cells:
        each.counts[sort_of(cell)] += 1
    assert many.total == each.total
    for sorts in (_POINTS, _COMMAS):
        assert many.of(sorts) == each.of(sorts)


@given(
    st.lists(
        st.tuples(
            st.integers(1_000_000_001, 1_700_000_000),
            st.none() | st.floats(-1e9, 1e9).map(lambda value: round(value, 4)),
            st.none() | st.booleans(),
            st.none() | st.sampled_from(["fine", "a;b", 'say "x"', "two\nlines"]),
        ),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from([(",", "."), (";", ","), (";", "."), ("\t", ",")]),
)
def test_what_is_written_with_either_mark_is_read_as_it_was(rows, dialect):
    separator, decimal = dialect
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=separator)
    writer.writerow(["time", "t", "on", "note"])
    for time, t, on, note in rows:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=time)
        number = "" if t is None else f"{t:.4f}".replace(".", decimal)
        flag = "" if on is None else str(on)
        writer.writerow([moment.isoformat(), number, flag, note or ""])
    found = read(out.getvalue())
    for record, (time, t, on, note) in zip(found, rows, strict=True):
        members = {"t": t, "on": on, "note": note}
        expected = {name: value for name, value in members.items() if value is not None}
        if not expected:
            assert isinstance(record.said, NoValueError)
        else:
            element = json.loads(record.said.text)
            assert element == {"timestamp": time, "value": expected}


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_as_python_writes_it_is_read_exactly(number):
    assert json.loads(json_number(str(number), ".")) == number


@pytest.mark.parametrize(
    ("names", "option"),
    [
        ("sensor,parameter,value", "--attribute-column 'parameter' if"),
        ("sensor,Param,Value", "--attribute-column 'Param' --value-column 'Value' if"),
        ("entity,key,value", "--attribute-column 'key' if"),
        ("station,variable,Wert", "--attribute-column 'variable' --value-column 'Wert' if"),
    ],
)  # fmt: skip
def test_a_value_a_row_is_asked_about(names, option):
    _, attribute, value = names.split(",")
    text = f"time,{names}\n{NOON},a,temperature,21.5\n{NOON},a,humidity,43\n"
    assert option in asked(text)
    assert f"--text '{attribute}'" in asked(text)
    long = values(text, attribute_column=attribute, value_column=value)
    assert [row.get("temperature") or row.get("humidity") for row in long] == [21.5, 43]
    assert not any(attribute in row or value in row for row in long)
    kept = values(text, texts=frozenset((attribute,)))
    assert [row[attribute] for row in kept] == ["temperature", "humidity"]


def test_numbers_beside_a_value_are_no_names():
    assert asked(f"time,channel,value\n{NOON},1,21.5\n{NOON},2,43\n") == ""
    assert asked(f"time,note,value\n{NOON},dry,21.5\n{NOON},wet,43\n") == ""
