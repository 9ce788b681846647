"""`heliograph export` and `heliograph import`: lossless, resumable, nothing twice."""

import csv
import gzip
import importlib
import io
import json
import os
import resource
import signal
import socket
import subprocess
from contextlib import suppress
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import program
from commands import called
from heliograph.cli.transfer import partial as partial_files
from heliograph.cli.transfer.partial import PartialFile
from heliograph.errors import StartError
from heliograph.exchange import parquet
from heliograph.exchange.formats import Format, Names, encode_rows, heading
from heliograph.exchange.pages import EncodedPage, Position, Range, pages, sensors_of
from heliograph.model.records import Kind
from heliograph.store.engine import Batch
from program import Program
from rows import NOON, measurement
from server import ServerThread

SECONDS = 120
# Everything but when it was received, and what a clock without a time said.
OWN = ("receipt_timestamp", "device_timestamp", "sensor_identifier")


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "first"
    folder.mkdir()
    with ServerThread(folder) as running:
        yield running


@pytest.fixture
def other(tmp_path):
    folder = tmp_path / "second"
    folder.mkdir()
    with ServerThread(folder) as running:
        yield running


def run(server: ServerThread, *arguments: str, status: int = 0):
    done = called(*arguments, environment=server.environment, folder=server.folder)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def run_apart(server: ServerThread, *arguments: str, status: int = 0, **options):
    """Run the command in a process of its own; options as Program."""
    done = program.run_binary(
        *arguments, env=server.environment, cwd=server.folder, timeout=SECONDS, **options
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def fill(server: ServerThread) -> None:
    # More than a page holds of one, and few of the other.
    for name, count in (("pump-1", 1_100), ("pump-2", 20)):
        server.device(name)
        measurements = [
            {"revision": 1, "timestamp": 1_700_000_000 + n / 1_000, "value": {"t": n, "s": "ä,\n"}}
            for n in range(count)
        ]
        measurements += [{"value": 1e300}, {"value": [1, None]}, {"timestamp": 3, "value": True}]
        assert post(server, name, "measurements", measurements) == count + 3
        logs = [
            {"severity": "error", "subject": '"', "details": details, "timestamp": 1_700_000_000}
            for details in ("", None, "x\r\ny")
        ]
        assert post(server, name, "logs", logs) == 3
        assert post(server, name, "heartbeats", [{"success": True, "rssi": -3}, {}]) == 2


def post(server: ServerThread, name: str, route: str, body: object) -> int:
    answer = server.http.post(f"/sensors/{name}/{route}", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["accepted"]


def lines(path: Path) -> list[dict]:
    return [
        {name: member for name, member in json.loads(line).items() if name not in OWN}
        for line in path.read_text().splitlines()
    ]


EVERY_KIND = ("--kind", "measurement", "--kind", "log", "--kind", "heartbeat")


def test_an_export_imported_again_changes_nothing(server):
    fill(server)
    run(server, "export", "all.jsonl.gz", *EVERY_KIND)
    assert gzip.decompress((server.folder / "all.jsonl.gz").read_bytes()).count(b"\n") == 1_136
    done = run(server, "import", "all.jsonl.gz")
    assert done.stdout == "0 rows stored, 1,136 there already, 0 bad\n"
    for kind, count in (("measurement", 23), ("log", 3), ("heartbeat", 2)):
        for suffix in ("csv", "parquet"):
            name = f"{kind}.{suffix}"
            run(server, "export", name, "--kind", kind, "--sensor", "pump-2")
            done = run(server, "import", name)
            assert done.stdout == f"0 rows stored, {count:,} there already, 0 bad\n"
    left = {path.name for path in server.folder.iterdir() if "export" in path.name}
    assert not left
    assert not list(server.folder.glob("*.part*")) + list(server.folder.glob("*.import.json"))


def test_an_export_with_elements_ids_imported_again_changes_nothing(server):
    server.device("gauge")
    told_apart = {"timestamp": 1_700_000_000, "value": 1, "subject": "tip", "severity": "info"}
    for route, members, count in (
        ("measurements", ("timestamp", "value"), 4),
        ("logs", ("timestamp", "subject", "severity"), 4),
        ("heartbeats", ("timestamp",), 4),
    ):
        element = {name: told_apart[name] for name in members}
        body = [element, *({**element, "id": name} for name in ("a", "1", 'b,"'))]
        assert post(server, "gauge", route, body) == count
    for kind in ("measurement", "log", "heartbeat"):
        for suffix in ("csv", "jsonl", "parquet"):
            run(server, "export", f"{kind}.{suffix}", "--kind", kind)
            done = run(server, "import", f"{kind}.{suffix}")
            assert done.stdout == "0 rows stored, 4 there already, 0 bad\n"
    page = server.http.get("/devices/gauge/history", params={"start": 0}).json()
    (server.folder / "page.jsonl").write_text("\n".join(map(json.dumps, page)))
    assert run(server, "import", "page.jsonl").stdout.startswith("0 rows stored, 4 there")


def test_an_archive_from_before_2001_imported_and_exported_again_changes_nothing(server):
    """Whatever the form of the file; only what clocks counted from boot is bad."""
    server.device("voyager")
    times = ["1955-11-12T22:04:00Z", "1977-08-20T10:29:00-04:00", "1999-12-31T23:59:59.999999Z"]
    rows = [f"{time},{n},voyager" for n, time in enumerate(times)]
    rows += ["1970-01-01T00:00:09Z,8,voyager", "240935340,9,voyager"]
    (server.folder / "old.csv").write_text("\n".join(["time,t,device_id", *rows]))
    done = run(server, "import", "old.csv", status=1)
    assert done.stdout == "3 rows stored, 0 there already, 2 bad\n"
    assert done.stderr.count("a clock that counts from its boot") == 2
    (server.folder / "old.lp").write_text("w,device_id=voyager t=1i 240935340000000000\n")
    done = run(server, "import", "old.lp")
    assert done.stdout == "0 rows stored, 1 there already, 0 bad\n"
    for suffix in ("csv", "jsonl", "parquet"):
        run(server, "export", f"again.{suffix}")
        done = run(server, "import", f"again.{suffix}")
        assert done.stdout == "0 rows stored, 3 there already, 0 bad\n"
    page = server.http.get("/devices/voyager/history", params={"start": "1600-01-01T00:00:00Z"})
    assert [entry["timestamp"] for entry in page.json()] == [
        "1999-12-31T23:59:59.999999Z",
        "1977-08-20T14:29:00.000000Z",
        "1955-11-12T22:04:00.000000Z",
    ]


def test_an_export_for_a_spreadsheet_imported_again_changes_nothing(server):
    """Our own import takes the quotes off, and only those that the export has put there."""
    server.device("-A1")
    texts = ("=1+1", "'=1+1", "-5", "\t=1", "'@", "plain")
    logs = [{"severity": "info", "timestamp": 1_700_000_000, "subject": text} for text in texts]
    assert post(server, "-A1", "logs", logs) == len(texts)
    values = [{"timestamp": 1_700_000_000, "value": -1, "id": text} for text in texts]
    assert post(server, "-A1", "measurements", values) == len(texts)
    for kind in ("log", "measurement"):
        for option in ("--spreadsheet", "--force"):
            run(server, "export", "x.csv", "--kind", kind, option, "--force")
            text = (server.folder / "x.csv").read_text()
            assert (",'-A1," in text) is (option == "--spreadsheet")
            done = run(server, "import", "x.csv")
            assert done.stdout == "0 rows stored, 6 there already, 0 bad\n"
    done = run(server, "export", "x.jsonl", "--spreadsheet", status=2)
    assert "csv only" in done.stderr


def test_everything_moves_to_another_server(server, other):
    fill(server)
    run(server, "export", "all.jsonl", *EVERY_KIND)
    path = str(server.folder / "all.jsonl")
    missing = run(other, "import", path, status=1)
    assert missing.stdout == "0 rows stored, 0 there already, 1,136 bad\n"
    assert "'pump-1' not found" in missing.stderr
    for name in ("pump-1", "pump-2"):
        other.device(name)
    assert run(other, "import", path).stdout.startswith("1,136 rows stored, 0 there")
    run(other, "export", "all.jsonl", *EVERY_KIND)
    assert lines(other.folder / "all.jsonl") == lines(server.folder / "all.jsonl")


def test_parquet_moves_to_another_server(server, other):
    fill(server)
    for name in ("pump-1", "pump-2"):
        other.device(name)
    for kind in ("measurement", "log", "heartbeat"):
        name = f"{kind}.parquet"
        # Printed it is the same file.
        run(server, "export", name, "--kind", kind)
        printed = run_apart(server, "export", "-", "--format", "parquet", "--kind", kind).stdout
        path = server.folder / name
        assert pq.read_table(path).equals(pq.read_table(io.BytesIO(printed)))
        assert path.stat().st_mode & 0o777 == 0o600
        assert " 0 bad" in run(other, "import", str(path)).stdout
    for one in (server, other):
        run(one, "export", "all.jsonl", *EVERY_KIND)
    assert lines(other.folder / "all.jsonl") == lines(server.folder / "all.jsonl")
    for options in (("x.parquet.gz",), ("x.parquet", "--kind", "log", "--kind", "heartbeat")):
        assert "parquet" in run(server, "export", *options, status=2).stderr


def test_without_pyarrow_the_extra_is_named(server):
    (server.folder / "without_pyarrow.py").write_text(
        "import sys\nsys.modules['pyarrow'] = None\nfrom heliograph.cli.main import run\nrun()\n"
    )
    (server.folder / "x.parquet").write_bytes(b"")
    for arguments in (("export", "y.parquet"), ("import", "x.parquet")):
        done = run_apart(server, *arguments, module="without_pyarrow", status=1)
        assert b"pip install 'heliograph[parquet]'" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    run_apart(server, "export", "y.csv", module="without_pyarrow")


def test_bad_rows_of_parquet_are_reported_with_their_numbers(server):
    server.device("pump-1")
    table = {
        "time": [1_700_000_000 + n for n in range(5)],
        "device_id": ["pump-1", "nobody", "pump-1", "pump-1", "pump-1"],
        "t": [1.5, 2.5, None, 4.5, 1e300],
    }
    pq.write_table(pa.table(table), server.folder / "x.parquet")
    done = run(server, "import", "x.parquet", status=1)
    assert done.stdout == "3 rows stored, 0 there already, 1 bad, 1 without a value\n"
    told = done.stderr.splitlines()
    assert [line.split(":")[0] for line in told] == ["row 2"]
    (server.folder / "y.parquet").write_bytes(b"PAR1 and no more")
    assert "not a Parquet file" in run(server, "import", "y.parquet", status=1).stderr


def test_what_is_chosen_is_exported(server):
    fill(server)
    shown = run(
        server, "export", "-", "--sensor", "pump-1", "--end", "2023-11-14T22:13:20.002Z"
    ).stdout
    assert [json.loads(row["value"])["t"] for row in csv.DictReader(shown.splitlines(True))] == [
        0,
        1,
    ]
    network = server.http.get("/networks").json()[0]["network_identifier"]
    arguments = ("--network", network.upper(), "--format", "jsonl", "--kind", "log")
    assert len(run(server, "export", "-", *arguments).stdout.splitlines()) == 6
    for bad in (
        ("--sensor", "nobody"),
        ("--network", "x"),
        ("--kind", "status"),
        ("--kind", "log", "--kind", "measurement"),
        ("--start", "2024-05-02T00:00:00Z", "--end", "2024-05-01T00:00:00Z"),
        ("--start", "yesterday"),
        ("--sensor", "pump-1", "--network", network),
    ):
        done = run(server, "export", "x.csv", *bad, status=1 if bad[1] in ("nobody", "x") else 2)
        assert bad[0] in done.stderr or f"{bad[1]!r} not found" in done.stderr
        assert not (server.folder / "x.csv").exists()


def test_a_file_that_is_there_is_kept(server):
    server.device("pump-1")
    (server.folder / "x.csv").write_text("mine")
    assert "--force" in run(server, "export", "x.csv", status=1).stderr
    assert (server.folder / "x.csv").read_text() == "mine"
    run(server, "export", "x.csv", "--force")
    assert (server.folder / "x.csv").read_text().startswith("sensor_identifier,")


def test_bad_lines_are_reported_with_their_numbers_and_left_out(server):
    server.device("pump-1")
    good = {"device_id": "pump-1", "timestamp": 1_700_000_000, "value": {"t": 1}}
    written = [
        json.dumps(good),
        "{",
        json.dumps(good | {"device_id": "nobody"}),
        json.dumps(good | {"timestamp": 99_999_999_999}),
        json.dumps(good | {"value": {"t": 2}}),
        json.dumps({"timestamp": 1_700_000_000, "value": 1}),
        json.dumps(good | {"surplus": 1}),
        json.dumps(good),
    ]
    (server.folder / "x.jsonl").write_text("\n".join(written))
    done = run(server, "import", "x.jsonl", status=1)
    assert done.stdout == "2 rows stored, 1 there already, 5 bad\n"
    told = done.stderr.splitlines()
    assert [line.split(":")[0] for line in told] == [f"line {n}" for n in (2, 3, 4, 6, 7)]
    assert "TIMESTAMP_IN_FUTURE" in told[2]
    assert "--sensor" in told[3]
    assert "UNKNOWN_MEMBER" in told[4]
    (server.folder / "x.csv").write_bytes(
        b'timestamp,t\r\n1700000001,1\r\n1,2,3\r\n1700000002,\xff\r\n,4\r\n1700000003,"a\nb"\r\n'
        b'1700000004,"open\r\n1700000005,5\r\n'
    )
    done = run(server, "import", "x.csv", "--sensor", "pump-1", "--text", "t", status=1)
    assert done.stdout == "2 rows stored, 0 there already, 4 bad\n"
    told = done.stderr.splitlines()
    assert [line.split(":")[0] for line in told] == [f"line {n}" for n in (3, 4, 5, 8)]
    assert told[3].endswith("(up to line 9)")


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_what_was_exported_of_a_sensor_goes_to_it_made_again(server, suffix):
    device = server.device("pump-1")
    values = [{"timestamp": 1_700_000_000 + n, "value": {"t": n}} for n in range(3)]
    post(server, "pump-1", "measurements", values)
    run(server, "export", f"pump.{suffix}", "--sensor", "pump-1")
    assert server.http.delete("/sensors/pump-1?data=keep").status_code == 204
    # As long as nobody has taken its name, there is nowhere else for them to go.
    gone = run(server, "import", f"pump.{suffix}", status=1)
    assert gone.stdout == "0 rows stored, 0 there already, 3 bad\n"
    assert "DEACTIVATED_SENSOR" in gone.stderr
    again = server.device("pump-1")
    assert again.identifier != device.identifier
    done = run(server, "import", f"pump.{suffix}")
    assert done.stdout == "3 rows stored, 0 there already, 0 bad\n"
    assert done.stderr == f"rows of {device.identifier}, which takes none any more, go to pump-1\n"
    done = run(server, "import", f"pump.{suffix}")
    assert done.stdout == "0 rows stored, 3 there already, 0 bad\n"
    for identifier in (again.identifier, device.identifier):
        exported = server.http.get(f"/sensors/{identifier}/export?format=jsonl").text
        assert [json.loads(row)["value"]["t"] for row in exported.splitlines()] == [0, 1, 2]


@pytest.mark.parametrize("data", ["keep", "delete"])
def test_a_network_made_again_takes_what_was_exported_of_it(server, data):
    network = server.http.post("/networks", json={"network_name": "farm"}).json()
    place = f"/networks/{network['network_identifier']}"

    def sensor(place, **members):
        members["network_identifier"] = place.rpartition("/")[2]
        answer = server.http.post("/sensors", json=members)
        assert answer.status_code == 201, answer.text
        return answer.json()["sensor_identifier"]

    old = [sensor(place, sensor_name="a", device_id="pump-1"), sensor(place, sensor_name="b")]
    for number, each in enumerate(old):
        post(server, each, "measurements", {"timestamp": 1_700_000_000, "value": number})
    exported = server.http.get(f"{place}/export?format=jsonl")
    (server.folder / "farm.jsonl").write_bytes(exported.content)
    for each in old:
        assert server.http.delete(f"/sensors/{each}?data={data}").status_code == 204
    # With kept data the network stays, and its sensors are made again in it.
    if data == "delete":
        assert server.http.delete(place).status_code == 204
        network = server.http.post("/networks", json={"network_name": "farm"}).json()
        place = f"/networks/{network['network_identifier']}"
    new = [sensor(place, sensor_name="a", device_id="pump-1"), sensor(place, sensor_name="b")]
    # Nothing in the file says that a sensor without a device_id is the new one: that is told.
    assert "1 row stored" in run(server, "import", "farm.jsonl", status=1).stdout
    done = run(server, "import", "farm.jsonl", "--rename", f"{old[1]}={new[1]}")
    assert done.stdout == "1 row stored, 1 there already, 0 bad\n"
    for number, each in enumerate(new):
        (row,) = server.http.get(f"/sensors/{each}/export?format=jsonl").text.splitlines()
        assert json.loads(row)["value"] == number
    assert run(server, "import", "farm.jsonl", "--rename", "x", status=2).stdout == ""


@pytest.mark.parametrize("source", ["-", "/dev/stdin"])
def test_a_pipe_is_imported(server, source):
    server.device("pump-1")
    piped = program.run(
        *("import", source, "--format", "csv"),
        typed=b"time,device_id,t\n1700000000,pump-1,1\n1700000001,pump-1,2\n",
        env=server.environment,
        cwd=server.folder,
        timeout=SECONDS,
    )
    assert (piped.stdout, piped.stderr) == ("2 rows stored, 0 there already, 0 bad\n", "")
    assert not list(server.folder.glob("*.import.json"))


def test_line_protocol_of_influxdb(server):
    for name in ("pump-1", "weather"):
        server.device(name)
    (server.folder / "x.lp").write_text(
        "# DML\n"
        "cpu,host=pump-1,core=0 usage=1.5,n=3i 1700000000\n"
        'weather t=22.5,note="fine, \\"so far\\"" 1700000001\n'
        "weather t=\n"
    )
    done = run(
        server, "import", "x.lp", "--sensor-tag", "host", "--precision", "s", "--prefix", status=1
    )
    assert done.stdout == "2 rows stored, 0 there already, 1 bad\n"
    assert done.stderr.startswith("line 4: ")
    latest = server.http.get("/sensors/pump-1/latest").json()["attributes"]
    assert {name: entry["value"] for name, entry in latest.items()} == {
        "cpu.core": "0",
        "cpu.usage": 1.5,
        "cpu.n": 3,
    }
    latest = server.http.get("/sensors/weather/latest").json()["attributes"]
    assert latest["weather.note"]["value"] == 'fine, "so far"'


def test_an_import_goes_on_where_it_was(server, monkeypatch):
    module = importlib.import_module("heliograph.cli.import")
    monkeypatch.setattr(module, "WINDOW_LINES", 200)
    device = server.device("pump-1")
    said = (
        {"value": 1},
        {"kind": "log", "severity": "info", "subject": "s"},
        {"kind": "heartbeat", "success": True},
    )
    rows = [
        json.dumps({"device_id": "pump-1", "timestamp": 1_700_000_000 + n, **said[n % 3]})
        for n in range(500)
    ]
    path = server.folder / "x.jsonl"
    path.write_text("\n".join(rows))
    address = f"http://localhost:{server.port}"
    command = ("import", "x.jsonl", "--url", address)
    # As if it had ended behind the first window.
    place = [sum(len(row) + 1 for row in rows[:200]), 200]
    status = path.stat()
    state = {
        "file": [status.st_size, status.st_mtime_ns],
        "options": ["jsonl", None, None, "device_id", "ns", "False", address],
        "place": place,
        "accepted": 200,
    }
    side = server.folder / "x.jsonl.import.json"
    side.write_text(json.dumps(state))
    assert run(server, *command).stdout.startswith("500 rows stored, 0 there")
    assert not side.exists()
    assert len(server.history(device, start=1_700_000_000, end=1_700_000_199)) == 0
    for kind in ("logs", "heartbeats"):
        page = server.http.get(f"/sensors/pump-1/{kind}", params={"direction": "next"}).json()
        assert page[0]["creation_timestamp"] >= 1_700_000_200
    side.write_text(json.dumps(state))
    done = run(server, *command, "--restart")
    assert done.stdout.startswith("200 rows stored, 300 there already")


def test_without_a_server_or_with_a_wrong_key_nothing_is_left_half(server):
    (server.folder / "x.jsonl").write_text('{"device_id":"a","timestamp":1700000000,"value":1}\n')
    wrong = run(server, "import", "x.jsonl", "--api-key", "nobody's", status=1)
    assert "the key is not accepted" in wrong.stderr
    server.stop()
    away = run(server, "import", "x.jsonl", status=1)
    assert "is the server running?" in away.stderr
    assert len(away.stderr.splitlines()) == 1


ALL = Range((Kind.MEASUREMENT,), 0, 1 << 62)


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "parquet"])
async def test_an_export_goes_on_where_it_was(store, tmp_path, monkeypatch, form):
    compress, is_parquet = form.endswith("gz"), form == "parquet"
    wanted_form = Format.PARQUET if is_parquet else Format.JSONL
    kind = Kind.MEASUREMENT
    monkeypatch.setattr(partial_files, "SAVE_SECONDS", 0)
    found = await store.sensors.create(identifier="0" * 32, device_id="a", created_at=NOON)
    await store.write(
        Batch(measurements=[measurement(found.number, NOON + n, n) for n in range(5_000)])
    )
    path = tmp_path / "x.jsonl"

    async def write(last, wanted="all"):
        with PartialFile(path, wanted, compress=compress, restart=False) as file:
            position = file.checkpoint.position if file.checkpoint else None
            file.begin(heading(wanted_form, kind))
            count = 0
            sensors = sensors_of(store, None, position)
            async for page in pages(store, sensors, ALL, wanted_form, position):
                file.add(page)
                count += 1
                if count == last:
                    raise KeyboardInterrupt
            return file.finish(partial(parquet.pack, kind) if is_parquet else None)

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            await write(2)
        assert not path.exists()
        # What was written behind the checkpoint, as a crash leaves it.
        with (tmp_path / "x.jsonl.part").open("ab") as part:
            part.write(b"torn")
    with pytest.raises(StartError, match="other options"):
        await write(1, "something else")
    size = await write(None)
    data = path.read_bytes()
    assert len(data) == size
    if is_parquet:
        data = "\n".join(pq.read_table(path)["value"].to_pylist()).encode()
        values = [json.loads(line) for line in data.splitlines()]
    else:
        data = gzip.decompress(data) if compress else data
        values = [json.loads(line)["value"] for line in data.splitlines()]
    assert values == list(range(5_000))
    assert [entry.name for entry in tmp_path.glob("x.jsonl*")] == ["x.jsonl"]


def test_what_could_not_be_packed_is_packed_by_the_next_run(tmp_path):
    path, kind = tmp_path / "x.parquet", Kind.MEASUREMENT
    row = (NOON, 7, NOON, None, None, "1.5", None)
    data = encode_rows(Format.PARQUET, kind, Names("0" * 32, None), [row])
    position = Position(1, kind, (NOON, 7))

    def fail(_source, target):
        target.write(b"half")
        raise KeyboardInterrupt

    def export(pages, pack):
        with PartialFile(path, "all", compress=False, restart=False) as file:
            found = file.checkpoint and file.checkpoint.position
            file.begin(heading(Format.PARQUET, kind))
            for page in pages:
                file.add(page)
            return found, file.finish(pack)

    with pytest.raises(KeyboardInterrupt):
        export([EncodedPage(data, 1, position)], fail)
    assert {entry.name for entry in tmp_path.iterdir()} == {"x.parquet.part", "x.parquet.part.json"}
    found, size = export([], partial(parquet.pack, kind))
    assert found == position
    assert size == path.stat().st_size
    assert pq.read_table(path)["value"].to_pylist() == ["1.5"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.parquet"]


def test_two_exports_do_not_write_one_file(tmp_path):
    first = PartialFile(tmp_path / "x", "all", compress=False, restart=False)
    with first, pytest.raises(StartError, match="another export"):
        PartialFile(tmp_path / "x", "all", compress=False, restart=False)


def test_what_was_begun_anew_does_not_go_on_with_the_part_before(tmp_path):
    path, kind = tmp_path / "x.csv", Kind.MEASUREMENT

    def begin(*, restart):
        return PartialFile(path, "all", compress=False, restart=restart)

    with suppress(KeyboardInterrupt), begin(restart=False) as file:
        file.add(EncodedPage(b"old", 1, Position(1, kind, (NOON, 7))))
        raise KeyboardInterrupt
    # As one that is killed before its first checkpoint.
    begin(restart=True).begin(b"heading")
    with begin(restart=False) as file:
        assert file.checkpoint is None


def test_an_export_that_never_began_leaves_nothing(server):
    assert "not found" in run(server, "export", "x.csv", "--sensor", "nobody", status=1).stderr
    assert not list(server.folder.glob("x.csv*"))


@pytest.mark.uncovered
def test_a_full_disk_is_told_in_a_line(server):
    server.device("pump-1")
    rows = [{"timestamp": 1_700_000_000 + n, "value": os.urandom(30).hex()} for n in range(4_000)]
    assert post(server, "pump-1", "measurements", rows) == len(rows)

    for command in (("x.csv",), ("x.csv.gz",), ("x.parquet",), ("-",)):
        with (server.folder / "output").open("wb") as output:
            exporting = Program(
                *("export", *command),
                env=server.environment,
                cwd=server.folder,
                stdout=output,
                stderr=subprocess.PIPE,
                largest_file=100_000,
            )
            with exporting:
                (told,) = exporting.communicate(SECONDS)[1].splitlines()
        assert exporting.returncode == 1
        assert told.startswith("heliograph: can't write")
    assert not list(server.folder.glob("x.*"))


@pytest.mark.parametrize("compress", [False, True])
def test_a_page_that_is_half_written_is_written_anew(tmp_path, compress):
    path, kind = tmp_path / "x.csv", Kind.MEASUREMENT
    pages = [os.urandom(20_000).hex().encode() + b"\n" for _ in range(8)]

    def write(checkpoints):
        with PartialFile(path, "all", compress=compress, restart=False) as file:
            begun = file.checkpoint.position.cursor[1] if file.checkpoint else 0
            for number, data in enumerate(pages[begun:], begun + 1):
                if number == checkpoints:
                    file._saved_at = 0
                file.add(EncodedPage(data, 1, Position(1, kind, (NOON, number))))
            file.finish()
        return begun

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StartError, match="can't write"):
            write(2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert write(0) == 2
    data = path.read_bytes()
    assert (gzip.decompress(data) if compress else data) == b"".join(pages)


@pytest.mark.parametrize("command", ["export", "import"])
def test_who_interrupts_is_told_how_it_goes_on(tmp_path, command):
    (tmp_path / "x.csv").write_text("time,device_id,t\n1700000000,a,1\n")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(SECONDS)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        arguments = {
            "export": ("y.csv",),
            "import": ("x.csv", "--url", f"http://{address}", "--api-key", "k"),
        }
        running = Program(
            *(command, *arguments[command]),
            env={**os.environ, "DATABASE_URL": f"postgresql://nobody@{address}/x"},
            cwd=tmp_path,
            stderr=subprocess.PIPE,
        )
        with running, silent.accept()[0]:
            running.send_signal(signal.SIGINT)
            told = running.communicate(timeout=SECONDS)[1]
    assert running.returncode == 130
    assert told == "interrupted behind 0 rows: the same command goes on from there\n"
