"""Wide tables: cells as people expect them, and the same values again for whoever imports them."""

import csv
import io
import json

import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from heliograph.exchange.elements import BadLineError, Element
from heliograph.exchange.formats import Format, Names, encode_rows, heading, wide_table
from heliograph.exchange.parquet import Packing, ParquetTable
from heliograph.exchange.reading import Place, csv_rows, look_at_csv
from heliograph.exchange.tables import TableOptions
from heliograph.exchange.wide import Wide, put_together, type_of
from heliograph.ingest.routes import DECODERS
from heliograph.model.attributes import attributes_of, keys_of, value_at
from heliograph.model.canonical import canonical
from heliograph.model.fingerprints import measurement_fingerprint, telling_text
from heliograph.model.records import Kind
from heliograph.model.time import EARLIEST, SECOND

NOW = 4_000_000_000 * SECOND
NAMES = Names("0b0f6a3c-8f2c-4a3e-9a51-0d5f0a2b7c11", "pump-1")

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
# What is easily taken for something else, as a name or as a text.
awkward = st.sampled_from(
    ["", "value", "timestamp", "json", "a", "a.b", "b", "\\", ".", "1", "-0", "1e5", "true", "null",
     "=1", "+1", "-x", "TRUE", "1,5", " 1", "NaN", '"', "quoted", "element_id", "\r", "a\nb"]
)  # fmt: skip
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.integers(-3, 3)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([1.0, -0.0, 1e22, 2.0**53])
    | texts
    | awkward
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | awkward, inner, max_size=4),
    max_leaves=6,
)


def stored(value, number=0, revision=None, name=None):
    text = canonical(value)
    mark = measurement_fingerprint(revision, telling_text(value, text), name)
    return EARLIEST + number, mark, EARLIEST, revision, None, text.decode(), name


def columns_of(found, *, spreadsheet=False) -> Wide:
    """Return the columns for all attributes of values, the last of each telling its type."""
    types = {}
    for value in found:
        for name in attributes_of(value):
            types[name] = type_of(value_at(value, keys_of(name))) or "number"
    return wide_table(types, spreadsheet=spreadsheet)


def written(form, rows, wide, *, spreadsheet=False) -> bytes:
    kind = Kind.MEASUREMENT
    page = encode_rows(form, kind, NAMES, rows, spreadsheet=spreadsheet, wide=wide)
    if form is Format.PARQUET:
        packing = Packing(kind, wide)
        return packing.add(page) + packing.end()
    return heading(form, kind, spreadsheet=spreadsheet, wide=wide) + page


def read_back(form, data) -> list:
    file = io.BytesIO(data)
    if form is Format.PARQUET:
        return list(ParquetTable(file).rows(0))
    look = look_at_csv(file, None, TableOptions())
    rows = csv_rows(file, Place(0, 0), look, "device_id", has_sensor=False)
    return [record.said for record in rows]


def check_is_the_same(found, rows) -> None:
    """Check that what was read back is stored as the same rows, to the letter."""
    assert all(isinstance(element, Element) for element in found), found
    assert {element.sensors for element in found} <= {tuple(NAMES)}
    body = b"[%b]" % b",".join(element.text for element in found)
    decoded = DECODERS[Kind.MEASUREMENT](body, 7, 1, NOW, NOW)
    assert decoded.faults == []
    again = [(row[2], row[3], row[5], row[7], *row[8:]) for row in decoded.rows]
    assert again == [(row[0], row[1], row[3], row[5], *filter(None, row[6:])) for row in rows]


@pytest.mark.uncovered
@pytest.mark.parametrize("form", [Format.CSV, Format.PARQUET])
@pytest.mark.parametrize("spreadsheet", [False, True])
@given(
    found=st.lists(values, min_size=1, max_size=4),
    revision=st.none() | st.integers(0, 9),
    name=st.none() | st.text("=ab'\"1", min_size=1, max_size=3),
    seen=st.integers(0, 4),
)
@example(found=[{"value": 1}, 1], revision=None, name=None, seen=2)
@example(found=[{}, {"a": {}}, {"a": {"": 1}}], revision=None, name=None, seen=3)
def test_a_wide_export_gives_the_same_values_again(form, spreadsheet, found, revision, name, seen):
    if spreadsheet and form is Format.PARQUET:
        return
    rows = [stored(value, number, revision, name) for number, value in enumerate(found)]
    # What has come since the columns were chosen has none.
    wide = columns_of(found[:seen], spreadsheet=spreadsheet)
    data = written(form, rows, wide, spreadsheet=spreadsheet)
    check_is_the_same(read_back(form, data), rows)


alike = st.fixed_dictionaries({"a": scalars, "b": st.floats(-9, 9)})


@pytest.mark.uncovered
@pytest.mark.parametrize("spreadsheet", [False, True])
@given(found=st.lists(values | alike, min_size=1, max_size=5), seen=st.integers(0, 5))
@example(found=[{"a": 1}, {"a": 2.0}, {"a": 2**60}], seen=3)
@example(found=[{"a": 1.5, "b": 1.0}, {"a": 2.0, "b": -0.5}], seen=2)
@example(found=[{"a.b": 1}, {"a": {"b": 2}}, "{", {"a.b": "{"}], seen=3)
def test_a_wide_page_is_what_its_rows_are_one_by_one(spreadsheet, found, seen):
    """Rows with the same attributes are made together, an attribute at a time."""
    rows = [stored(value, number) for number, value in enumerate(found)]
    wide = columns_of(found[:seen], spreadsheet=spreadsheet)
    pages = [rows, *([row] for row in rows)]
    whole, *single = [
        encode_rows(Format.CSV, Kind.MEASUREMENT, NAMES, page, spreadsheet=spreadsheet, wide=wide)
        for page in pages
    ]
    assert whole == b"".join(single)
    if not spreadsheet:
        whole, *single = [
            pq.read_table(io.BytesIO(written(Format.PARQUET, page, wide))).to_pylist()
            for page in pages
        ]
        assert repr(whole) == repr([row for table in single for row in table])


USUAL = [
    {"temperature": 21.5, "humidity": 40, "state": "on", "place": {"x": 1, "up": True}},
    {"temperature": -3, "place": {"x": 2}},
    {"humidity": 41.25},
    {"state": "off"},
]


def test_cells_of_csv_are_as_people_expect_them():
    rows = [stored(value, number) for number, value in enumerate(USUAL)]
    text = written(Format.CSV, rows, columns_of(USUAL)).decode()
    found = list(csv.DictReader(io.StringIO(text, newline="")))
    assert list(found[0]) == [
        "sensor_identifier",
        "device_id",
        "timestamp",
        "receipt_timestamp",
        "revision",
        "device_timestamp",
        "humidity",
        "place.up",
        "place.x",
        "state",
        "temperature",
        "element_id",
        "json",
    ]
    names = ("temperature", "humidity", "state", "place.x", "place.up", "json")
    assert [[row[name] for name in names] for row in found] == [
        ["21.5", "40", "on", "1", "true", ""],
        ["-3", "", "", "2", "", ""],
        ["", "41.25", "", "", "", ""],
        ["", "", "off", "", "", ""],
    ]


def test_columns_of_parquet_have_types():
    rows = [stored(value, number) for number, value in enumerate(USUAL)]
    table = pq.read_table(io.BytesIO(written(Format.PARQUET, rows, columns_of(USUAL))))
    types = {name: str(table.schema.field(name).type) for name in table.schema.names[6:]}
    assert types == {
        "humidity": "double",
        "place.up": "bool",
        "place.x": "double",
        "state": "string",
        "temperature": "double",
        "element_id": "string",
        "json": "string",
    }
    assert table["temperature"].to_pylist() == [21.5, -3.0, None, None]
    assert table["state"].to_pylist() == ["on", None, None, "off"]
    assert table["json"].null_count == len(USUAL)


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ({"a": "21"}, "21"),
        ({"a": "true"}, "true"),
        ({"a": "TRUE"}, "TRUE"),
        ({"a": "21,5"}, "21,5"),
        ({"a": 21.0}, "21.0"),
        ({"a": ""}, ""),
        ({"a": None}, ""),
        ({"a": [1, 2]}, "[1,2]"),
        ({"a": 1, "other": 2}, "1"),
        ({"a": 1, "b": {}}, "1"),
    ],
)
def test_what_a_cell_does_not_tell_is_in_json(value, cell):
    row = stored(value)
    text = written(Format.CSV, [row], columns_of([{"a": 1}])).decode()
    (found,) = csv.DictReader(io.StringIO(text, newline=""))
    assert (found["a"], found["json"]) == (cell, row[5])


@pytest.mark.parametrize(
    ("value", "cell", "is_told"),
    [(21, 21.0, True), (21.0, 21.0, False), (21.5, 21.5, True), ((1 << 60) + 1, 2.0**60, False)],
)
def test_whole_numbers_of_parquet_are_whole_unless_json_says_otherwise(value, cell, is_told):
    row = stored({"a": value})
    table = pq.read_table(io.BytesIO(written(Format.PARQUET, [row], columns_of([{"a": 1}]))))
    assert table["a"].to_pylist() == [cell]
    assert table["json"].to_pylist() == [None if is_told else row[5]]


def test_no_cell_and_no_heading_is_a_formula_for_a_spreadsheet():
    value = {"=1+1": 1, "text": "=1+1", "number": -5, "@x": {"+y": "-z"}}
    wide = columns_of([value], spreadsheet=True)
    rows = [stored(value, name="=2")]
    text = written(Format.CSV, rows, wide, spreadsheet=True)
    lines = list(csv.reader(io.StringIO(text.decode(), newline="")))
    for cells in lines:
        assert [cell for cell in cells if cell[:1] in "=+-@" and cell[:1]] in ([], ["-5"])
    check_is_the_same(read_back(Format.CSV, text), rows)


def test_what_a_spreadsheet_has_saved_is_read_or_refused():
    """With semicolons and TRUE; a decimal comma would make a text of a number."""
    value = {"a": True, "t": 21}
    text = written(Format.CSV, [stored(value)], columns_of([value])).decode()
    text = text.replace(",", ";").replace("true", "TRUE")
    (element,) = read_back(Format.CSV, text.encode())
    assert json.loads(element.text)["value"] == value
    (bad,) = read_back(Format.CSV, text.replace(";21;", ";21,0;").encode())
    assert "decimal comma" in str(bad)


@pytest.mark.parametrize("zone", ["+00", "+0000", "+00:00", "Z"])
def test_what_a_data_frame_has_written_as_csv_is_the_same(zone):
    """DuckDB, polars and pandas make floats of whole numbers, and write zones in other ways."""
    found = [{"a": True}, {"t": 21}, {"u": 21.0}, {"t": 21.5}]
    rows = [stored(value, number) for number, value in enumerate(found)]
    text = written(Format.CSV, rows, columns_of(found)).decode()
    for before, after in ((",21,", ",21.0,"), (",true,", ",True,"), ("000Z", f"000{zone}")):
        assert before in text
        text = text.replace(before, after)
    check_is_the_same(read_back(Format.CSV, text.encode()), rows)


@pytest.mark.parametrize("zone", ["+00", "+0000", "-02", "+0530"])
def test_times_of_an_export_that_another_program_has_copied_are_times(zone):
    row = stored(1.5, 86_400 * SECOND)
    text = heading(Format.CSV, Kind.MEASUREMENT) + encode_rows(
        Format.CSV, Kind.MEASUREMENT, NAMES, [row]
    )
    copied = text.decode().replace("Z,", f"{zone},").encode()
    (element,) = read_back(Format.CSV, copied)
    hours = {"-02": 2, "+0530": -5.5}.get(zone, 0)
    assert json.loads(element.text)["timestamp"] == row[0] / SECOND + hours * 3_600


def test_an_attribute_called_like_a_column_has_one_of_its_own():
    value = {"timestamp": 5, "json": True, "device_id": "x"}
    rows = [stored(value)]
    for form in (Format.CSV, Format.PARQUET):
        data = written(form, rows, columns_of([value]))
        (element,) = read_back(form, data)
        assert element.sensors == tuple(NAMES)
        assert json.loads(element.text)["value"] == value


@pytest.mark.parametrize("found", [[], [("a", b"1"), ("a.b", b"2")], [("a.b", b"1"), ("a", b"2")]])
def test_cells_that_make_no_value_are_a_bad_row(found):
    with pytest.raises(BadLineError):
        put_together(found)
