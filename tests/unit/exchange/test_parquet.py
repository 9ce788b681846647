"""Parquet: row groups of bounded size, and tables of other makes."""

import decimal
import io
import json
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from heliograph.exchange import parquet
from heliograph.exchange.elements import BadLineError, Element
from heliograph.exchange.formats import COLUMNS, Format, Names, encode_rows
from heliograph.exchange.parquet import SCHEMAS, Packing, ParquetTable
from heliograph.exchange.table_times import Zone
from heliograph.exchange.tables import TableOptions
from heliograph.model.records import Kind
from heliograph.model.time import EARLIEST

POLARS = Path(__file__).with_name("polars")
NAMES = Names("0b0f6a3c-8f2c-4a3e-9a51-0d5f0a2b7c11", "pump-1")
NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


def table(columns, kind=None, **options):
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, **options)
    return ParquetTable(file, kind)


def said(columns, kind=None):
    """Return what the only row says."""
    (found,) = table({name: [cell] for name, cell in columns.items()}, kind).rows(0)
    return (found.sensors, json.loads(found.text)) if isinstance(found, Element) else str(found)


def page(first, count, value="1"):
    rows = [
        (EARLIEST + n, n, EARLIEST, *(None, None, value, None)) for n in range(first, first + count)
    ]
    return encode_rows(Format.PARQUET, Kind.MEASUREMENT, NAMES, rows)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_columns_are_those_of_csv(kind):
    assert tuple(SCHEMAS[kind].names) == COLUMNS[kind]


@pytest.mark.parametrize(("rows", "size", "groups"), [(100, 1 << 30, 10), (1 << 30, 20_000, 5)])
def test_what_is_complete_is_handed_out(monkeypatch, rows, size, groups):
    monkeypatch.setattr(parquet, "GROUP_ROWS", rows)
    monkeypatch.setattr(parquet, "GROUP_BYTES", size)
    packing = Packing(Kind.MEASUREMENT)
    pieces = [packing.add(page(first, 50, '"xxxxxxxxx"')) for first in range(0, 1_000, 50)]
    assert sum(map(bool, pieces)) in (groups, groups + 1)
    file = pq.ParquetFile(io.BytesIO(b"".join(pieces) + packing.end()))
    assert file.num_row_groups == groups
    assert file.read()["timestamp"].cast(pa.int64()).to_pylist() == [
        EARLIEST + n for n in range(1_000)
    ]


def test_rows_are_read_from_any_on(monkeypatch):
    monkeypatch.setattr(parquet, "READ_ROWS", 7)
    columns = {"time": [NOON] * 100, "n": list(range(100))}
    file = table(columns, row_group_size=10)
    for skip in (0, 1, 7, 9, 10, 11, 55, 99, 100):
        values = [json.loads(row.text)["value"]["n"] for row in file.rows(skip)]
        assert values == list(range(skip, 100))


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        (1, 1),
        (2.5, 2.5),
        (True, True),
        ("warm", "warm"),
        # In a structure every row has every member: null is none, as in a column.
        ({"y": {"z": None, "a": 1}}, {"y": {"a": 1}}),
        ([1, None], [1, None]),
        (NOON, "2026-01-15T12:00:00.000000Z"),
        (NOON.replace(tzinfo=None), "2026-01-15T12:00:00.000000Z"),
        (NOON.date(), "2026-01-15"),
        (NOON.time(), "12:00:00"),
        (decimal.Decimal("1.25"), 1.25),
        ([float("nan")], [None]),
    ],
)
def test_a_column_is_an_attribute(cell, value):
    names, element = said({"timestamp": NOON, "device_id": "pump-1", "x": cell, "none": None})
    assert names == ("pump-1",)
    assert element == {"timestamp": NOON.timestamp(), "value": {"x": value}}


def test_a_value_alone_is_the_measurement():
    assert said({"time": NOON, "value": 1.5})[1]["value"] == 1.5
    assert said({"time": NOON, "value": '{"a":[1]}'})[1]["value"] == {"a": [1]}
    assert said({"time": NOON, "value": "x", "t": 1})[1]["value"] == {"value": "x", "t": 1}


FRAME = {
    "sensor_identifier": NAMES.identifier,
    "device_id": NAMES.device_id,
    "timestamp": NOON,
    "receipt_timestamp": NOON,
    "revision": None,
    "device_timestamp": None,
}
MEMBERS = pa.struct(
    [
        ("h", pa.int64()),
        ("t", pa.float64()),
        ("deep", pa.struct([("a", pa.int64()), ("list", pa.list_(pa.int64()))])),
    ]
)


def copied(values, kind=None, **columns):
    """Return what the rows say of a copy of an export: each value, and what stands beside it."""
    if kind is not None:
        columns["kind"] = kind
    count = len(values)
    table_of = {name: [cell] * count for name, cell in {**FRAME, **columns}.items()}
    file = io.BytesIO()
    pq.write_table(pa.table({"value": values, **table_of}), file)
    return [json.loads(row.text) for row in ParquetTable(file).rows(0)]


@pytest.mark.parametrize("kind", [None, "measurement"])
def test_a_structure_as_value_is_the_value(kind):
    """As DuckDB, polars and pandas write a copy of an export: JSON Lines have `kind` too.

    Their structure has a member for each attribute of any row, and one type for all its numbers.
    """
    values = [
        {"h": 40, "t": 21.5, "deep": None},
        {"h": None, "t": 22.0, "deep": {"a": 1, "list": None}},
        {"h": None, "t": -0.5, "deep": {"a": None, "list": [1, 2]}},
    ]
    rows = copied(pa.array(values, MEMBERS), kind)
    assert rows == [
        {"timestamp": NOON.timestamp(), "value": value}
        for value in (
            {"h": 40, "t": 21.5},
            {"t": 22, "deep": {"a": 1}},
            {"t": -0.5, "deep": {"list": [1, 2]}},
        )
    ]
    assert type(rows[1]["value"]["t"]) is int


def test_a_map_as_value_is_the_value():
    """As DuckDB writes objects that have little in common."""
    values = pa.array([[("t", 1.5), ("u", None)], [("v", 2.0)]], pa.map_(pa.string(), pa.float64()))
    assert [row["value"] for row in copied(values, "measurement")] == [{"t": 1.5}, {"v": 2}]


def test_a_copy_with_other_columns_types_is_the_export():
    values = pa.array([21.0, 21.5, None])
    rows = copied(values, "measurement", revision=3.0, element_id="a")
    assert [row["value"] for row in rows] == [21, 21.5, None]
    assert {(row["revision"], row["id"]) for row in rows} == {(3, "a")}
    texts = [row["value"] for row in copied(["1", '"1"', '{"t": 2}'], "measurement")]
    assert texts == [1, "1", {"t": 2}]


def test_a_copy_of_several_kinds_is_read_row_by_row():
    own = {"value": ['{"t":1}', None, None], "kind": ["measurement", "log", "heartbeat"]}
    own |= {"severity": [None, "info", None], "subject": [None, "x", None]}
    own |= {"details": [None, None, '{"rssi":-60}']}
    columns = {name: [cell] * 3 for name, cell in FRAME.items()} | own
    found = list(table(columns).rows(0))
    assert [row.kind for row in found] == [Kind.MEASUREMENT, Kind.LOG, Kind.HEARTBEAT]
    bodies = [json.loads(row.text) for row in found]
    assert bodies[0]["value"] == {"t": 1}
    assert (bodies[1]["severity"], bodies[1]["subject"]) == ("info", "x")
    assert bodies[2]["rssi"] == -60
    columns["kind"] = ["status"] * 3
    assert {str(row) for row in table(columns).rows(0)} == {
        "kind is none of measurement, log, heartbeat"
    }


def test_names_of_an_export_are_attributes_elsewhere():
    element = said({"time": NOON, "timestamp": NOON, "revision": 2, "value": 1, "kind": "x"})[1]
    noon = "2026-01-15T12:00:00.000000Z"
    assert element["value"] == {"time": noon, "revision": 2, "value": 1, "kind": "x"}
    assert "revision" not in element


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"t": float("inf")}, "t is infinite"),
        ({"t": float("-inf")}, "t is infinite"),
        ({"a": {"b": [1.0, float("inf")]}}, "a.b is infinite"),
        ({"value": float("-inf")}, "value is infinite"),
    ],
)
def test_what_is_infinite_is_rejected_and_not_stored_as_null(columns, told):
    assert told in said({"time": NOON, "good": 1, **columns})


def test_an_index_of_pandas_without_a_name_is_no_attribute():
    """`df[df.t > 1].to_parquet()` keeps the numbers of the rows that are left."""
    element = said({"time": NOON, "t": 1.5, "__index_level_0__": 7})[1]
    assert element["value"] == {"t": 1.5}
    # A DataFrame by time has that as its index.
    element = said({"t": 1.5, "__index_level_0__": NOON})[1]
    assert element == {"timestamp": NOON.timestamp(), "value": {"t": 1.5}}
    with pytest.raises(BadLineError, match="no column timestamp"):
        table({"t": [1.5], "__index_level_0__": [1_700_000_000]})


def test_moments_are_kept_to_the_microsecond():
    nanoseconds = pa.array([1_700_000_000_123_456_789], pa.timestamp("ns"))
    (row,) = table({"time": nanoseconds, "value": [1]}).rows(0)
    assert json.loads(row.text)["timestamp"] == 1_700_000_000.123456
    beyond = pa.array([1 << 62], pa.timestamp("us"))
    (row,) = table({"time": beyond, "value": [1]}).rows(0)
    assert isinstance(row, Element)


def test_other_kinds_are_read_as_they_are_told():
    log = {"timestamp": NOON, "severity": "error", "subject": "", "details": "{", "revision": 2.0}
    element = said(log, Kind.LOG)[1]
    assert element.pop("timestamp") == NOON.timestamp()
    assert element == {"severity": "error", "subject": "", "details": "{", "revision": 2}
    beat = said({"timestamp": NOON, "success": True, "details": '{"rssi":-3}'}, Kind.HEARTBEAT)[1]
    assert (beat["success"], beat["rssi"]) == (True, -3)


def test_other_kinds_of_other_programs_are_read_as_those_of_csv():
    log = {"timestamp": NOON, "Level": "WARN", "message": "low", "host": "a"}
    element = said(log, Kind.LOG)[1]
    assert element == {"timestamp": NOON.timestamp(), "severity": "warning", "subject": "low"}
    rests_on = table({name: [cell] for name, cell in log.items()}, Kind.LOG).rests_on
    assert ("severity", "column Level") in rests_on
    assert ("left out", "host: a log message has nothing for it") in rests_on
    beat = {"timestamp": NOON, "device_id": "a", "battery": 80, "rssi": float("nan"), "id": 7}
    element = said(beat, Kind.HEARTBEAT)[1]
    assert element == {"timestamp": NOON.timestamp(), "battery": 80}
    with pytest.raises(BadLineError, match="no column severity"):
        table({"timestamp": [NOON], "message": ["x"]}, Kind.LOG)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"timestamp": NOON, "x": b"bytes"}, "a type that JSON does not have"),
        ({"timestamp": NOON, "x": None}, "no value"),
        ({"timestamp": NOON, "x": float("nan")}, "no value"),
        ({"timestamp": NOON, "value": "{"}, "not JSON"),
        ({"time": None, "x": 1}, "timestamp is missing"),
    ],
)
def test_a_row_that_says_nothing_is_bad(columns, reason):
    assert reason in said(columns)


def test_what_is_no_table_of_measurements_is_refused():
    with pytest.raises(BadLineError, match="not a Parquet file"):
        ParquetTable(io.BytesIO(b"PAR1"))
    with pytest.raises(BadLineError, match="no column timestamp"):
        table({"t": [1]})
    file = io.BytesIO()
    pq.write_table(pa.table([[1], [2], [3]], names=["time", "t", "t"]), file)
    with pytest.raises(BadLineError, match="same name"):
        ParquetTable(file)
    file = io.BytesIO()
    pq.write_table(pa.table({"time": list(range(9_999)), "t": list(range(9_999))}), file)
    data = bytearray(file.getvalue())
    data[100:30_000] = bytes(29_900)
    with pytest.raises(BadLineError, match="broken"):
        list(ParquetTable(io.BytesIO(bytes(data))).rows(0))


BERLIN = Zone(ZoneInfo("Europe/Berlin"), "Europe/Berlin")


@pytest.mark.parametrize("name", ["Timestamp", "created_at", "ts", "when_it_was"])
def test_the_column_of_moments_is_the_time_whatever_its_name(name):
    bare = datetime(2024, 7, 1, 12)  # noqa: DTZ001 - as data frames have them
    (_, element) = said({name: bare, "t": 1})
    assert element == {"timestamp": 1719835200.0, "value": {"t": 1}}
    _, element = said({"updated": NOON, "timestamp": NOON, "t": 1})
    assert element["value"] == {"updated": "2026-01-15T12:00:00.000000Z", "t": 1}


def test_which_of_several_columns_of_moments_is_the_time_is_asked():
    columns = {"created_at": [NOON], "updated_at": [NOON], "t": [1]}
    with pytest.raises(BadLineError, match="give --time-column 'created_at' or --time-column 'up"):
        table(columns)
    with pytest.raises(BadLineError, match="but a, t: give --time-column"):
        table({"a": [1], "t": [1]})
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    (found,) = ParquetTable(file, None, TableOptions(time_columns=("updated_at",))).rows(0)
    assert "created_at" in json.loads(found.text)["value"]
    with pytest.raises(BadLineError, match="no column updatet_at, did you mean updated_at"):
        ParquetTable(file, None, TableOptions(time_columns=("updatet_at",)))


def test_moments_without_a_zone_are_in_the_one_that_is_given():
    moments = [datetime(2024, 7, 1, 12), datetime(2024, 10, 27, 2, 30), NOON]  # noqa: DTZ001 - as above
    file = io.BytesIO()
    pq.write_table(pa.table({"time": pa.array(moments[:2]), "t": [1, 2]}), file)
    first, second = ParquetTable(file, None, TableOptions(zone=BERLIN)).rows(0)
    assert json.loads(first.text)["timestamp"] == 1719828000.0
    assert "clocks in Europe/Berlin show 2024-10-27 02:30:00 twice" in str(second)
    file = io.BytesIO()
    pq.write_table(pa.table({"time": moments[2:], "t": [1]}), file)
    (found,) = ParquetTable(file, None, TableOptions(zone=BERLIN)).rows(0)
    assert json.loads(found.text)["timestamp"] == NOON.timestamp()


@pytest.mark.parametrize(
    ("cells", "options", "expected"),
    [
        (["2024-03-01 12:00+00", "2024-03-01T12:00:01Z"], {}, [1709294400.0, 1709294401.0]),
        (["2024-03-01 13:00", "2024-03-01 13:01"], {"zone": BERLIN}, [1709294400.0, 1709294460.0]),
        (["13.03.2024 13:00", "31.03.2024 12:00"], {"zone": BERLIN}, [1710331200.0, 1711879200.0]),
        ([1709294400000, 1709294401000], {}, [1709294400.0, 1709294401.0]),
        ([1709294400.25, 1709294401.0], {}, [1709294400.25, 1709294401.0]),
        ([899_999_940, 1], {"precision": "s"}, ["1998-07-09T15:59:00.000000Z", None]),
        ([date(2024, 3, 1), None], {"zone": BERLIN}, [1709247600.0, None]),
        (["1/3/24", "soon"], {"time_format": "%d/%m/%y", "zone": BERLIN}, [1709247600.0, None]),
    ],
)
def test_times_that_are_texts_counts_or_days_are_read_as_those_of_csv(cells, options, expected):
    file = io.BytesIO()
    pq.write_table(pa.table({"time": cells, "t": [1, 2]}), file)
    rows = ParquetTable(file, None, TableOptions(**options)).rows(0)
    texts = [row.text if isinstance(row, Element) else b"{}" for row in rows]
    found = [json.loads(text).get("timestamp") for text in texts]
    assert found == expected


LONG = {"time": [NOON] * 3, "station": ["a"] * 3, "Param": ["t", "h", None], "Value": [2.5, 43, 5]}


@pytest.mark.parametrize(
    "names", [LONG["Param"], pa.array(LONG["Param"]).dictionary_encode()], ids=["texts", "category"]
)
def test_a_value_a_row_is_asked_about(names):
    file = io.BytesIO()
    pq.write_table(pa.table({**LONG, "Param": names}), file)
    with pytest.raises(BadLineError, match="--attribute-column 'Param' --value-column 'Value' if"):
        ParquetTable(file)
    with pytest.raises(BadLineError, match="there is no column value: give --value-column"):
        ParquetTable(file, None, TableOptions(attribute_column="Param"))
    with pytest.raises(BadLineError, match="no column Parm, did you mean Param"):
        ParquetTable(file, None, TableOptions(attribute_column="Parm"))
    options = TableOptions(attribute_column="Param", value_column="Value", sensor_column="station")
    warm, humid, nameless = ParquetTable(file, None, options).rows(0)
    assert [each.sensors for each in (warm, humid)] == [("a",), ("a",)]
    assert [json.loads(each.text)["value"] for each in (warm, humid)] == [{"t": 2.5}, {"h": 43}]
    assert str(nameless) == "the attribute has no name"
    kept = list(ParquetTable(file, None, TableOptions(texts=frozenset(("Param",)))).rows(0))
    value = json.loads(kept[0].text)["value"]
    assert value == {"station": "a", "Param": "t", "Value": 2.5}


def test_a_value_a_row_stands_beside_other_attributes_and_never_over_one():
    columns = {"time": [NOON] * 3, "key": ["t", "floor", "t"], "value": [1, 2, None]}
    file = io.BytesIO()
    pq.write_table(pa.table({**columns, "floor": [7, 7, 7]}), file)
    rows = list(ParquetTable(file, None, TableOptions(attribute_column="key")).rows(0))
    assert json.loads(rows[0].text)["value"] == {"t": 1, "floor": 7}
    assert [str(row) for row in rows[1:]] == [
        "the attribute has the name of column floor",
        "there is no value",
    ]


@pytest.mark.parametrize(
    ("cells", "question"),
    [
        (["2024-03-01 12:00"], "says no zone .*: give --time-zone UTC"),
        (["01/02/2024 12:00Z"], "the day or the month first .*: give --time-format day-first"),
        ([1709294400, 1709294400000], "counts seconds .* milliseconds .*: give --precision s"),
        ([45413.5], "looks like a spreadsheet's count of days"),
        (["soon"], "holds no times that are understood"),
    ],
)
def test_what_times_of_parquet_leave_open_stops_it_and_names_the_option(cells, question):
    file = io.BytesIO()
    pq.write_table(pa.table({"time": cells, "t": [1] * len(cells)}), file)
    with pytest.raises(BadLineError, match=question):
        ParquetTable(file)


COPIED = [
    {"timestamp": 1768478400.25, "revision": 3, "value": {"t": 21.5}},
    {"timestamp": 1768478402, "id": "a1", "value": {"n": [1, None]}},
]


@pytest.mark.parametrize(
    ("file", "sensors", "expected"),
    [
        # Of `read_csv` and `read_ndjson`, whose values are texts and structures.
        ("copy_of_csv", (NAMES.identifier, "pump-1"), COPIED),
        ("copy_of_json_lines", (NAMES.identifier, "pump-1"), COPIED),
        # Categories, an enum, float32, lists, structures, days, nulls and NaN.
        (
            "frame",
            ("pump-1",),
            [
                {
                    "timestamp": 1768478400.25,
                    "value": {
                        "temperature": 21.5,
                        "count": 1,
                        "door": True,
                        "note": "fine",
                        "state": "on",
                        "axes": [1, 2],
                        "place": {"room": "a", "floor": 1},
                        "since": "2026-01-01",
                    },
                },
                "timestamp is missing",
            ],
        ),
    ],
)
def test_what_polars_wrote_is_read(file, sensors, expected):
    """The files are those of its `write_parquet`: large texts, and types with names of its own."""
    with (POLARS / f"{file}.parquet").open("rb") as data:
        found = [*ParquetTable(data).rows(0)][:2]
    assert found[0].sensors == sensors
    read = [json.loads(row.text) if isinstance(row, Element) else str(row) for row in found]
    assert read == expected


QUERIED = {
    "result": ["_result"] * 3,
    "table": [0, 0, 1],
    "_start": [NOON] * 3,
    "_stop": [NOON] * 3,
    "_time": [NOON] * 3,
    "_measurement": ["weather"] * 3,
    "site": ["north"] * 3,
}
FOUND = {"_value": [21.5, None, 43.0], "_field": ["t", "t", "h"]}
PIVOTED = {"t": [21.5, None, None], "h": [None, None, 43.0]}


@pytest.mark.parametrize("has_sensor", [True, False])
@pytest.mark.parametrize(
    ("columns", "empty"),
    [
        (QUERIED | FOUND, "there is no value"),
        # Of data frames, from which some take what is the same in all rows.
        ({"_time": [NOON] * 3, "_measurement": ["weather"] * 3, "site": ["north"] * 3} | FOUND, ""),
        (QUERIED | PIVOTED, {"site": "north"}),
        ({n: cells for n, cells in QUERIED.items() if n not in ("result", "table")} | PIVOTED, ""),
    ],
)
def test_what_a_query_to_influxdb_found_is_read_as_its_csv_is(columns, empty, has_sensor):
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    rows = [*ParquetTable(file, has_sensor=has_sensor).rows(0)]
    assert rows[0].sensors == (() if has_sensor else ("weather",))
    read = [json.loads(r.text)["value"] if isinstance(r, Element) else str(r) for r in rows]
    assert read[::2] == [{"site": "north", "t": 21.5}, {"site": "north", "h": 43}]
    assert read[1] == empty or not empty
