"""Exports with a column an attribute, from the command line and back again."""

import csv
import io

import pyarrow.parquet as pq
import pytest

from commands import called
from engines import SQLITE_FIRST
from heliograph.cli.transfer import partial as partial_files
from heliograph.cli.transfer.partial import PartialFile
from heliograph.exchange.formats import Format, heading
from heliograph.exchange.pages import Range, pages, sensors_of, wide_columns
from heliograph.exchange.wide import Wide
from heliograph.model.records import Kind
from heliograph.store.engine import Batch
from rows import NOON, measurement
from server import ServerThread

START = 1_700_000_000
VALUES = [
    {"t": 21.5, "on": True, "note": "=1+1"},
    {"t": 22, "place": {"x": 1}},
    {"t": 22.0},
    {"note": "21"},
    {"t": "broken"},
    21.5,
    [1, None],
    {},
]


@pytest.fixture(params=SQLITE_FIRST)
def engine(request):
    return request.param


def run(server: ServerThread, *arguments: str, status: int = 0):
    done = called(*arguments, environment=server.environment, folder=server.folder)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def fill(server: ServerThread) -> None:
    for name in ("pump-1", "pump-2"):
        server.device(name)
        elements = [{"timestamp": START + n, "value": value} for n, value in enumerate(VALUES)]
        answer = server.http.post(f"/sensors/{name}/measurements", json=elements)
        assert answer.json()["accepted"] == len(VALUES), answer.text


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.parquet"])
def test_a_wide_export_imported_again_changes_nothing(tmp_path, database_url, name):
    with ServerThread(tmp_path, database_url) as server:
        fill(server)
        run(server, "export", name, "--layout", "wide")
        done = run(server, "import", name)
        assert done.stdout == "0 rows stored, 16 there already, 0 bad\n"


def test_a_wide_export_for_a_spreadsheet_imported_again_changes_nothing(tmp_path):
    with ServerThread(tmp_path) as server:
        fill(server)
        run(server, "export", "x.csv", "--layout", "wide", "--spreadsheet")
        assert ",'=1+1," in (tmp_path / "x.csv").read_text()
        assert run(server, "import", "x.csv").stdout.startswith("0 rows stored, 16 there")


def test_chosen_columns_are_gone_on_with(tmp_path, monkeypatch):
    chosen = ("--column", "timestamp", "--column", "t")
    with ServerThread(tmp_path) as server:
        fill(server)
        run(server, "export", "whole.csv", "--layout", "wide", *chosen)
        add, added = PartialFile.add, []

        def adding(part, page):
            if added:
                raise KeyboardInterrupt
            added.append(page)
            add(part, page)

        monkeypatch.setattr(PartialFile, "add", adding)
        done = called(
            *("export", "x.csv", "--layout", "wide", *chosen),
            environment=server.environment,
            folder=server.folder,
        )
        assert "goes on from there" in done.stderr
        monkeypatch.undo()
        run(server, "export", "x.csv", "--layout", "wide", *chosen)
        text = (tmp_path / "x.csv").read_text()
        assert text == (tmp_path / "whole.csv").read_text()
        assert text.startswith("timestamp,t\n2023-11-14T22:13:20.000000Z,21.5\n")
        assert text.count("\n") == 1 + 2 * len(VALUES)
        done = run(server, "export", "y.csv", "--layout", "wide", "--column", "T1", status=2)
        assert "there is no column `T1`" in done.stderr
        done = run(server, "export", "y.csv", "--column", "t", status=2)
        assert "columns are chosen of a wide table" in done.stderr


def test_what_is_wide_moves_to_another_server(tmp_path):
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    with ServerThread(folders[0]) as server, ServerThread(folders[1]) as other:
        fill(server)
        for name in ("pump-1", "pump-2"):
            other.device(name)
        run(server, "export", "x.parquet", "--layout", "wide")
        assert run(other, "import", str(folders[0] / "x.parquet")).stdout.startswith("16 rows")
        pages = [one.http.get("/devices/pump-2/history?start=0").json() for one in (server, other)]
        assert [entry["metrics"] for entry in pages[0]] == [entry["metrics"] for entry in pages[1]]


def test_wide_tables_have_the_columns_that_are_looked_for(tmp_path):
    with ServerThread(tmp_path) as server:
        fill(server)
        text = run(server, "export", "-", "--layout", "wide", "--sensor", "pump-1").stdout
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        assert [row["t"] for row in rows] == ["21.5", "22", "22.0", "", "broken", "", "", ""]
        assert [row["place.x"] for row in rows] == ["", "1", "", "", "", "", "", ""]
        assert [row["value"] for row in rows][5:] == ["21.5", "[1,null]", ""]
        run(server, "export", "x.parquet", "--layout", "wide")
        table = pq.read_table(tmp_path / "x.parquet")
        assert str(table.schema.field("on").type) == "bool"
        assert table["place.x"].to_pylist()[:3] == [None, 1.0, None]


def test_what_has_no_wide_layout_says_so(tmp_path):
    with ServerThread(tmp_path) as server:
        for arguments in (("x.jsonl",), ("x.csv", "--kind", "log")):
            done = run(server, "export", *arguments, "--layout", "wide", status=2)
            assert "--layout" in done.stderr
            assert "wide is of" in done.stderr


ALL = Range((Kind.MEASUREMENT,), 0, 1 << 62)


async def test_a_wide_export_goes_on_with_the_columns_it_began_with(store, tmp_path, monkeypatch):
    """An attribute that came meanwhile would shift all cells behind it."""
    monkeypatch.setattr(partial_files, "SAVE_SECONDS", 0)
    found = await store.sensors.create(identifier="0" * 32, device_id="a", created_at=NOON)
    rows = [measurement(found.number, NOON + n, {"m": n}) for n in range(3_000)]
    await store.write(Batch(measurements=rows, attributes=[(found.number, "m")]))
    path = tmp_path / "x.csv"

    async def write(last):
        with PartialFile(path, "all", compress=False, restart=False) as file:
            begun = file.checkpoint
            kept = begun and begun.columns
            wide = (
                Wide(kept)
                if kept
                else await wide_columns(store, sensors_of(store, None), typed=False)
            )
            file.begin(heading(Format.CSV, Kind.MEASUREMENT, wide=wide), wide.columns)
            position = begun and begun.position
            sensors = sensors_of(store, None, position)
            count = 0
            async for page in pages(store, sensors, ALL, Format.CSV, position, wide=wide):
                file.add(page)
                count += 1
                if count == last:
                    raise KeyboardInterrupt
            file.finish()

    with pytest.raises(KeyboardInterrupt):
        await write(2)
    late = [measurement(found.number, NOON + 5_000, {"a": 1, "m": 2})]
    await store.write(Batch(measurements=late, attributes=[(found.number, "a")]))
    await write(None)
    rows = list(csv.DictReader(io.StringIO(path.read_text(), newline="")))
    assert [row["m"] for row in rows] == [*map(str, range(3_000)), "2"]
    assert (rows[0]["json"], rows[-1]["json"]) == ("", '{"a":1,"m":2}')


async def test_types_of_columns_are_those_of_the_newest_values(store):
    numbers = []
    for name, value in (("a", {"state": "on", "t": 1}), ("b", {"t": True, "up": False})):
        made = await store.sensors.create(
            identifier=f"{name * 8}-0000-0000-0000-000000000000", device_id=name, created_at=NOON
        )
        numbers.append(made.number)
        names = [(made.number, each) for each in (*value, "silent")]
        rows = [measurement(made.number, NOON, value)]
        await store.write(Batch(measurements=rows, attributes=names))
    wide = await wide_columns(store, sensors_of(store, None), typed=True)
    assert [(each.attribute, each.type) for each in wide.columns] == [
        ("silent", "number"),
        ("state", "text"),
        ("t", "number"),
        ("up", "boolean"),
    ]
