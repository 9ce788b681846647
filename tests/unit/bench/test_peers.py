import contextlib
import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import influxdb, nodered, peers
from bench.catalogue import catalogue
from bench.http_load import answer_size
from bench.peer_script import inserting
from bench.peers import newest
from bench.requests import batch, lines, single
from bench.scale import Profile
from bench.shape import check_shape, run_quickly
from bench.sqlite_databases import SqliteDatabases
from bench.stored_rows import StoredRows
from hypothesis import given
from hypothesis import strategies as st

MILLISECOND = 1_763_684_625_123
LINE = re.compile(r"reading,device_id=(\S+) (\S+) (\d+)")


def parsed(text: str) -> tuple[str, float, dict]:
    """Return device_id, time in seconds and values of a line."""
    device, fields, millisecond = LINE.fullmatch(text).groups()
    values = {
        name: float(number) for name, _, number in (f.partition("=") for f in fields.split(","))
    }
    return device, int(millisecond) / 1_000, values


def body(request: bytes) -> str:
    head, _, content = request.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(content)}".encode() in head
    return content.decode()


def test_influxdb_is_sent_the_readings_that_the_server_is_sent():
    ours = json.loads(body(batch(3, 4, 5, MILLISECOND, "key")))["readings"]
    theirs = [parsed(text) for text in body(lines(3, 4, 5, MILLISECOND)).split("\n")]
    assert theirs == [(r["device_id"], r["timestamp"], r["metrics"]) for r in ours]


def test_influxdb_is_sent_the_single_reading_that_the_server_is_sent():
    ours = json.loads(body(single(2, MILLISECOND + 1)))
    ((device, timestamp, values),) = [parsed(body(lines(3, 1, 1, MILLISECOND)))]
    assert device == "bench-000002"
    assert {"timestamp": timestamp, **values} == ours


def test_influxdb_holds_the_rows_that_the_server_holds(tmp_path):
    rows = StoredRows.until_now(Profile("small", 3, 4))
    with sqlite3.connect(":memory:") as database:
        stored = database.execute(rows.select("sqlite", bare=True)).fetchall()
    database.close()
    expected = [
        (f"bench-{sensor:06d}", received // 1_000 / 1_000, json.loads(value))
        for sensor, received, _, _, _, value in stored
    ]
    assert [parsed(text) for text in influxdb.lines(rows)] == expected


def test_an_answer_without_a_body_ends_with_its_head():
    assert answer_size(b"HTTP/1.1 204 No Content\r\nDate: x\r\n\r\n") == 36


@given(st.integers(1, 50), st.integers(0, 50), st.integers(1, 20))
def test_the_last_message_is_the_newest_of_its_sensor(messages, warm_up, sensors):
    sent = [index % sensors + 1 for count in (warm_up, messages) for index in range(count)]
    assert newest(messages, warm_up, sensors) == (sent[-1], sent.count(sent[-1]))


@pytest.mark.parametrize(
    ("module", "word", "how"),
    [(influxdb, "influxdb", "apt-get install influxdb"), (nodered, "nodered", "npm install")],
)
def test_what_needs_a_program_says_so_where_it_is_missing(monkeypatch, module, word, how):
    for other in (influxdb, nodered):
        monkeypatch.setattr(other, "program", lambda: "/usr/bin/there")
    assert peers.missing() == {}
    monkeypatch.setattr(module, "program", lambda: None)
    missing = peers.missing()
    assert set(missing) == {name for name in catalogue() if word in name}
    assert all(how in reason for reason in missing.values())


def test_node_red_without_its_node_for_sqlite_is_missing(tmp_path, monkeypatch):
    modules, binaries = tmp_path / "node_modules", tmp_path / "bin"
    (modules / "node-red").mkdir(parents=True)
    binaries.mkdir()
    (modules / "node-red" / "red.js").touch(0o755)
    (binaries / "node-red").symlink_to(modules / "node-red" / "red.js")
    monkeypatch.setenv("PATH", str(binaries))
    assert nodered.program() is None
    (modules / "node-red-node-sqlite").mkdir()
    assert nodered.program() == str(binaries / "node-red")


def test_each_row_of_the_script_is_committed_by_itself(tmp_path):
    profile = Profile("small", 2, 1)
    with SqliteDatabases(tmp_path, tmp_path / "cache").copy(profile, bare=True) as database:
        write = inserting(database.address)
        with database.reading() as row:
            assert row("PRAGMA journal_mode") == ("wal",)
            for sent in (1, 2):
                write((1, sent, sent, sent, None, "0"))
                assert row("SELECT count(*) FROM measurement WHERE sensor = 1") == (1 + sent,)
                database.expect(sent)


def commands() -> Iterator[str]:
    """Yield the command line of every process."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def test_a_peer_is_measured_and_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("HELIOGRAPH_BENCH_CACHE", str(tmp_path / "cache"))
    names = [
        name
        for name in ("peer-script-sqlite", "peer-nodered-sqlite", "peer-influxdb-batch")
        if name not in peers.missing()
    ]
    document = run_quickly(*names)
    check_shape(document, names)
    for entry in document.values():
        assert entry["cpu_seconds_per_100k"]["ceiling"] is not None
    assert list(tmp_path.iterdir()) == []
    assert [command for command in commands() if str(tmp_path) in command] == []
