"""The benchmarks of files: what is imported, and a bare path that writes the same file."""

import csv

import pytest
from bench import bare_export, file_import
from bench.catalogue import catalogue
from bench.shape import check_shape, run_quickly

from heliograph.exchange.formats import Format, Names, encode_rows, wide_table
from heliograph.model.records import Kind
from heliograph.model.time import EARLIEST

NAMES = Names("0b0f6a3c-8f2c-4a3e-9a51-0d5f0a2b7c11", "pump-1")


@pytest.mark.parametrize("form", ["csv", "jsonl", "wide"])
def test_the_bare_export_writes_as_many_bytes_as_ours(form):
    rows = [
        (EARLIEST + n, n, EARLIEST + 2 * n, n, None, file_import.VALUE, None) for n in range(10)
    ]
    wide = wide_table(dict.fromkeys(bare_export.ATTRIBUTES, "number")) if form == "wide" else None
    kind = Format.JSONL if form == "jsonl" else Format.CSV
    ours = encode_rows(kind, Kind.MEASUREMENT, NAMES, rows, wide=wide)
    text = bare_export.Text(form, tuple(NAMES))
    times, _, *others = zip(*rows, strict=True)
    text.write([times, *others])
    assert text.end() == len(ours)


@pytest.mark.parametrize("in_turn", [True, False])
def test_lines_of_a_file_are_of_another_sensor_each_or_stand_together(tmp_path, in_turn):
    path = tmp_path / "x.csv"
    file_import.write(path, 12, 3, in_turn=in_turn)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [row["device_id"][-1] for row in rows]
    assert names == (list("123123123123") if in_turn else list("111122223333"))
    assert len({row["timestamp"] for row in rows}) == 12


def test_they_run():
    names = [name for name in catalogue() if name.startswith(("import", "export"))]
    assert len(names) == 8
    check_shape(run_quickly("import", "export"), names)
