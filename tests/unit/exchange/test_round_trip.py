"""What is exported and read back is the same row: for the server a repeat."""

import contextlib
import csv
import io
import math
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliograph.exchange.csv_rows import kind_of_export
from heliograph.exchange.formats import COLUMNS, Format, Names, encode_rows, heading
from heliograph.exchange.json_rows import from_json_line
from heliograph.exchange.parquet import Packing, ParquetTable
from heliograph.exchange.reading import Place, csv_rows, look_at_csv
from heliograph.exchange.tables import TableOptions
from heliograph.ingest.routes import DECODERS
from heliograph.model.canonical import canonical
from heliograph.model.fingerprints import fingerprint, measurement_fingerprint, telling_text
from heliograph.model.records import Kind, Severity
from heliograph.model.time import EARLIEST, SECOND

pytestmark = pytest.mark.uncovered

NOW = 4_000_000_000 * SECOND
NAMES = Names("0b0f6a3c-8f2c-4a3e-9a51-0d5f0a2b7c11", "pump-1")

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=6,
)
frames = st.tuples(
    st.integers(EARLIEST, NOW),
    st.integers(EARLIEST, NOW),
    st.none() | st.integers(0, (1 << 31) - 1),
    st.none() | st.floats(0, 1e9),
)
element_ids = st.none() | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8
)


@st.composite
def measurements(draw):
    timestamp, receipt, revision, device_timestamp = draw(frames)
    value, name = draw(values), draw(element_ids)
    text = canonical(value)
    number = measurement_fingerprint(revision, telling_text(value, text), name)
    return timestamp, number, receipt, revision, device_timestamp, text.decode(), name


@st.composite
def logs(draw):
    timestamp, receipt, revision, device_timestamp = draw(frames)
    content = draw(st.tuples(st.sampled_from(list(Severity)), texts, st.none() | texts))
    severity, subject, details = content[0].value, *content[1:]
    name = draw(element_ids)
    number = fingerprint(Kind.LOG, revision, severity, subject, details, element_id=name)
    own = severity, subject, details, name
    return timestamp, number, receipt, revision, device_timestamp, *own


@st.composite
def heartbeats(draw):
    timestamp, receipt, revision, device_timestamp = draw(frames)
    success = draw(st.none() | st.booleans())
    taken = {"revision", "timestamp", "success", "id"}
    others = draw(st.dictionaries(texts.filter(lambda name: name not in taken), values, max_size=3))
    details = canonical(others).decode() if others else None
    name = draw(element_ids)
    number = fingerprint(Kind.HEARTBEAT, revision, success, details, element_id=name)
    return timestamp, number, receipt, revision, device_timestamp, success, details, name


ROWS = {Kind.MEASUREMENT: measurements(), Kind.LOG: logs(), Kind.HEARTBEAT: heartbeats()}


def packed(kind, pages):
    """Return Parquet of pages."""
    packing = Packing(kind)
    return b"".join([packing.add(page) for page in pages]) + packing.end()


def written(form, kind, rows):
    page = encode_rows(form, kind, NAMES, rows)
    return packed(kind, [page]) if form is Format.PARQUET else heading(form, kind) + page


def read_back(form, kind, data):
    if form is Format.PARQUET:
        return list(ParquetTable(io.BytesIO(data)).rows(0))
    if form is Format.JSONL:
        return [from_json_line(line) for line in data.splitlines(keepends=False) if line]
    look = look_at_csv(io.BytesIO(data), None, TableOptions())
    assert look.plan is None
    rows = csv_rows(io.BytesIO(data), Place(0, 0), look, "device_id", has_sensor=False)
    return [row.said for row in rows]


@pytest.mark.parametrize(
    ("form", "spreadsheet"), [(Format.CSV, False), (Format.CSV, True), (Format.JSONL, False)]
)
@pytest.mark.parametrize("kind", ROWS)
@given(data=st.data())
def test_a_page_is_what_its_rows_are_one_by_one(form, kind, spreadsheet, data):
    """A page is made by columns."""
    rows = data.draw(st.lists(ROWS[kind], min_size=1, max_size=4))
    whole, *single = [
        encode_rows(form, kind, NAMES, some, spreadsheet=spreadsheet)
        for some in (rows, *([row] for row in rows))
    ]
    assert whole == b"".join(single)


@pytest.mark.parametrize("form", Format)
@pytest.mark.parametrize("kind", ROWS)
@given(data=st.data())
def test_a_row_comes_back_as_a_repeat(form, kind, data):
    rows = data.draw(st.lists(ROWS[kind], min_size=1, max_size=4))
    elements = read_back(form, kind, written(form, kind, rows))
    assert [element.kind for element in elements] == [kind] * len(rows)
    assert {element.sensors for element in elements} == {tuple(NAMES)}
    body = b"[%b]" % b",".join(element.text for element in elements)
    decoded = DECODERS[kind](body, 7, 1, NOW, NOW)
    assert decoded.faults == []
    assert not decoded.untimed
    for row, stored in zip(rows, decoded.rows, strict=True):
        assert (stored[2], stored[3], stored[5]) == (row[0], row[1], row[3])
        # A row has no column for an id that its element does not have.
        assert stored[7:] == row[5 : 5 + len(stored[7:])]
        assert row[5 + len(stored[7:]) :] in ((), (None,))


@pytest.mark.parametrize("kind", ROWS)
@given(data=st.data())
def test_csv_has_each_column_and_both_have_all_that_is_stored(kind, data):
    row = data.draw(ROWS[kind])
    text = heading(Format.CSV, kind) + encode_rows(Format.CSV, kind, NAMES, [row])
    (cells,) = csv.DictReader(io.StringIO(text.decode(), newline=""))
    assert tuple(cells) == COLUMNS[kind]
    given_time = cells["device_timestamp"]
    assert (None if given_time == "" else float(given_time)) == row[4]
    line = encode_rows(Format.JSONL, kind, NAMES, [row])
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1


BEGINNINGS = ["=", "+", "-", "@", "\t", "\r", "'", "'=", "-5", "\uff1d"]
formulas = st.builds("".join, st.tuples(st.sampled_from(BEGINNINGS), texts))
some = st.none() | formulas


@pytest.mark.parametrize("separator", [";", "\t"])
def test_an_export_that_a_spreadsheet_saved_is_one(separator):
    row = (EARLIEST, 1, EARLIEST, None, None, '{"a":"x;y","t":1.5}', None)
    data = written(Format.CSV, Kind.MEASUREMENT, [row])
    out = io.StringIO(newline="")
    rows = csv.reader(io.StringIO(data.decode(), newline=""))
    csv.writer(out, delimiter=separator).writerows(rows)
    saved = out.getvalue().encode("utf-8-sig")
    assert read_back(Format.CSV, None, saved) == read_back(Format.CSV, None, data)


@given(subject=formulas | texts, element_id=some, name=st.sampled_from(["-A1", "a"]))
def test_what_is_quoted_for_a_spreadsheet_comes_back_as_it_was(subject, element_id, name):
    names = Names(NAMES.identifier, name)
    row = (EARLIEST, 1, EARLIEST, None, None, "info", subject, "=details", element_id)

    def text(*, spreadsheet):
        beginning = heading(Format.CSV, Kind.LOG, spreadsheet=spreadsheet)
        rows = encode_rows(Format.CSV, Kind.LOG, names, [row], spreadsheet=spreadsheet)
        return beginning + rows

    raw, quoted = text(spreadsheet=False), text(spreadsheet=True)
    assert read_back(Format.CSV, None, quoted) == read_back(Format.CSV, None, raw)
    (cells,) = csv.DictReader(io.StringIO(quoted.decode(), newline=""))
    (bare,) = csv.DictReader(io.StringIO(raw.decode(), newline=""))
    assert bare["subject"] == subject
    beginnings = set("=+-@\t\r\uff1d")
    assert all(is_number(cell) for cell in cells.values() if cell[:1] in beginnings)
    changed = {column for column in bare if bare[column] != cells[column]}
    assert changed == set(cells["quoted"].split())


def is_number(text):
    with contextlib.suppress(ValueError):
        return math.isfinite(float(text))
    return False


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1+1", "'+1+1"),
        ("-1+1", "'-1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("-5", "-5"),
        ("+5", "+5"),
        ("-1.5e-3", "-1.5e-3"),
        ("-5\n", "'-5\n"),
        ("'=1", "'=1"),
        ("a=1", "a=1"),
        ("-", "'-"),
    ],
)
def test_what_begins_like_a_formula_is_quoted_for_a_spreadsheet_alone(text, cell):
    row = (EARLIEST, 1, EARLIEST, None, None, "info", text, None, None)
    for spreadsheet, expected in ((False, text), (True, cell)):
        page = heading(Format.CSV, Kind.LOG, spreadsheet=spreadsheet)
        page += encode_rows(Format.CSV, Kind.LOG, NAMES, [row], spreadsheet=spreadsheet)
        (cells,) = csv.DictReader(io.StringIO(page.decode(), newline=""))
        assert cells["subject"] == expected


def test_a_nameless_sensor_and_what_floats_look_like():
    row = (EARLIEST, 1, EARLIEST + 1, None, 0.5, "1e+22", None)
    names = Names(NAMES.identifier, None)
    line = encode_rows(Format.JSONL, Kind.MEASUREMENT, names, [row])
    assert line == (
        b'{"kind":"measurement","sensor_identifier":"0b0f6a3c-8f2c-4a3e-9a51-0d5f0a2b7c11",'
        b'"device_id":null,"timestamp":"2001-09-09T01:46:40.000000Z",'
        b'"receipt_timestamp":"2001-09-09T01:46:40.000001Z","revision":null,'
        b'"device_timestamp":0.5,"value":1e+22}\n'
    )
    assert from_json_line(line).sensors == (NAMES.identifier,)
    cells = encode_rows(Format.CSV, Kind.MEASUREMENT, names, [row]).decode()
    assert cells.endswith(",0.5,1e+22,\r\n")
    assert math.isclose(float(cells.split(",")[-2]), 1e22)


@pytest.mark.parametrize("kind", ROWS)
def test_an_export_from_before_ids_were_kept_is_told_by_its_columns(kind):
    assert kind_of_export(COLUMNS[kind][:-1]) is kind
    # Without those that may be missing, in another order, with the numbers of rows.
    left = ["", *reversed(COLUMNS[kind][:-1])]
    left.remove("receipt_timestamp")
    assert kind_of_export(left) is kind
    assert kind_of_export([*left, "t"]) is None


@pytest.mark.parametrize("form", [Format.CSV, Format.JSONL])
def test_a_page_that_is_written_is_let_go(form):
    rows = [(NOW + n, n, NOW + n, n, n / 2, f'{{"t":{n}}}', None) for n in range(1_000)]
    first = encode_rows(form, Kind.MEASUREMENT, NAMES, rows)
    tracemalloc.start()
    try:
        for _ in range(10):
            encode_rows(form, Kind.MEASUREMENT, NAMES, rows)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < len(first)
