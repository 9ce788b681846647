"""Files as other programs write them: what `heliograph import` stores of each, to the row."""

import gzip
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commands import called
from heliograph.exchange.tables import TableOptions
from server import ServerThread

FOLDER = Path(__file__).with_name("layouts")
UTC = ("--time-zone", "UTC")
BERLIN = ("--time-zone", "Europe/Berlin")
TAGS = {"site": "roof"}
ANNOTATED = {"site": "north"}
GSOD = {
    "STATION": 10384099999,
    "LATITUDE": 52.47,
    "LONGITUDE": 13.4,
    "ELEVATION": 50.0,
    "NAME": "BERLIN TEMPELHOF, GM",
}
DUST = {
    "sensor_id": 12345,
    "sensor_type": "SDS011",
    "location": 5680,
    "lat": 49.857,
    "lon": 8.646,
}
BOX = {"lat": 51.96, "lon": 7.59}

# By file: options beside --sensor, and the rows that are stored.
LAYOUTS = {
    "dwd_hourly.txt": (
        UTC,
        [
            ("1893-01-01T01:00:00", {"STATIONS_ID": 433, "QN_9": 5, "TT_TU": -12.3, "RF_TU": 84.0}),
            ("2024-03-01T00:00:00", {"STATIONS_ID": 433, "QN_9": 3, "TT_TU": 4.2, "RF_TU": 91.0}),
            ("2024-03-01T01:00:00", {"STATIONS_ID": 433, "QN_9": 3, "TT_TU": -0.3}),
            ("2024-03-01T02:00:00", {"STATIONS_ID": 433, "QN_9": 3, "RF_TU": 95.0}),
        ],
    ),
    "noaa_gsod.csv": (
        UTC,
        [
            (
                "2024-03-01T00:00:00",
                GSOD
                | {"TEMP": 41.5, "TEMP_ATTRIBUTES": 24, "SLP": 999.9, "SLP_ATTRIBUTES": 8}
                | {"PRCP": 0.04, "PRCP_ATTRIBUTES": "G", "FRSHTT": "010000"},
            ),
            (
                "2024-03-02T00:00:00",
                GSOD
                | {"TEMP": 44.0, "TEMP_ATTRIBUTES": 24, "SLP_ATTRIBUTES": 0, "GUST": 31.1}
                | {"FRSHTT": "000000"},
            ),
        ],
    ),
    "noaa_tides.csv": (
        UTC,
        [
            (
                "2024-03-01T00:00:00",
                {"Water Level": 1.234, "Sigma": 0.003, "O or I (for verified)": 0}
                | {"F": 0, "R": 0, "L": 0, "Quality": "p"},
            ),
            (
                "2024-03-01T00:06:00",
                {"Water Level": 1.301, "Sigma": 0.004, "O or I (for verified)": 0}
                | {"F": 0, "R": 0, "L": 0, "Quality": "p"},
            ),
            ("2024-03-01T00:12:00", {"Quality": "p"}),
        ],
    ),
    "meteostat_bulk.csv": (
        UTC,
        [
            (
                "2024-03-01T00:00:00",
                {"temp": 4.2, "temp_source": "dwd_hourly", "rhum": 91, "rhum_source": "dwd_hourly"},
            ),
            (
                "2024-03-01T13:00:00",
                {"temp": 8.0, "temp_source": "dwd_hourly", "rhum": 67, "rhum_source": "dwd_hourly"}
                | {"prcp": 0.4, "prcp_source": "dwd_hourly"},
            ),
        ],
    ),
    "open_meteo.csv": (
        (),
        [
            (
                "2024-02-29T23:00:00",
                {"temperature_2m (°C)": 4.1, "relative_humidity_2m (%)": 93},
            ),
            ("2024-03-01T00:00:00", {"temperature_2m (°C)": 3.9}),
        ],
    ),
    "campbell_toa5.dat": (
        ("--time-zone", "-07:00"),
        [
            (
                "2024-03-01T07:00:00",
                {"RECORD": 0, "BattV_Min": 12.61, "AirT_Avg": -0.53, "Rain_mm_Tot": 0},
            ),
            ("2024-03-01T08:00:00", {"RECORD": 1, "BattV_Min": 12.6, "Rain_mm_Tot": 0.2}),
            ("2024-03-01T09:00:00.500", {"RECORD": 2, "AirT_Avg": 1.0, "Rain_mm_Tot": 0}),
        ],
    ),
    "hobo_logger.csv": (
        (),
        [
            ("2024-03-25T08:00:00", {"#": 1, "Temp, °C": 21.509, "RH, %": 44.1}),
            ("2024-03-25T10:30:00", {"#": 2, "Temp, °C": 22.1, "RH, %": 43.7}),
        ],
    ),
    "home_assistant.csv": (
        (),
        [
            ("2024-03-01T10:00:00.123", {"sensor.greenhouse_temperature": 21.5}),
            ("2024-03-01T10:06:00", {"binary_sensor.door": "on"}),
            ("2024-03-01T10:10:00", {"sensor.greenhouse_temperature": 22}),
            ("2024-03-01T10:11:00", {"binary_sensor.door": "off"}),
        ],
    ),
    "thingsboard.csv": (
        UTC,
        [
            ("2024-03-01T10:00:00", {"temperature": 21.5, "humidity": 40, "active": True}),
            ("2024-03-01T10:01:00", {"temperature": 21.625, "active": False}),
        ],
    ),
    "opensensemap.csv": (
        (),
        [
            (
                "2024-03-01T10:00:00",
                {"sensorId": "5c72ffb8e1d7b2001a000001", "Temperatur": 21.53} | BOX,
            ),
            (
                "2024-03-01T10:00:00",
                {"sensorId": "5c72ffb8e1d7b2001a000002", "rel. Luftfeuchte": 55.1} | BOX,
            ),
        ],
    ),
    "sensor_community.csv": (
        UTC,
        [
            ("2024-03-01T00:00:18", DUST | {"P1": 5.43, "P2": 5.33}),
            ("2024-03-01T00:02:45", DUST | {"P1": 6.0, "P2": 5.5}),
        ],
    ),
    "postgresql_copy.csv": (
        (),
        [
            ("2024-03-01T10:00:00", {"station": "north", "temperature": 21.5, "humidity": 40}),
            ("2024-03-01T10:00:30.250", {"station": "north", "humidity": 41}),
            ("2024-03-01T10:01:00", {"station": "north", "temperature": -3, "humidity": 42}),
        ],
    ),
    "duckdb_copy.csv": (
        (),
        [
            ("2024-03-01T10:00:00", {"temperature": 21.5, "ok": True}),
            ("2024-03-01T10:00:01.500", {"ok": False}),
        ],
    ),
    "spreadsheet_german.csv": (
        BERLIN,
        [
            ("2024-03-31T00:59:00", {"Temperatur (°C)": 21.5, "Luftdruck": 1013.25}),
            (
                "2024-03-31T01:00:00",
                {"Temperatur (°C)": -0.75, "Luftdruck": 998.1, "Bemerkung": "trüb, Regen"},
            ),
            ("2024-10-27T11:00:00", {"Temperatur (°C)": 4.0, "Bemerkung": "klar"}),
        ],
    ),
    "spreadsheet_french.csv": (
        ("--time-zone", "Europe/Paris"),
        [
            ("2024-03-01T12:05:00", {"Température": 21.5, "Débit": 1234.5}),
            ("2024-03-25T12:10:00", {"Débit": 987}),
        ],
    ),
    "spreadsheet_american.csv": (
        ("--time-zone", "America/New_York"),
        [
            ("2024-03-01T18:05:00", {"Temp": 71.6, "Flow": 1234.5}),
            ("2024-03-25T04:10:00", {"Flow": 987}),
        ],
    ),
    "spreadsheet_ambiguous.csv": (
        (*UTC, "--time-format", "day-first", "--decimal", ","),
        [
            ("2024-02-01T10:00:00", {"flow": 1.234}),
            ("2024-04-03T10:00:00", {"flow": 5.678}),
        ],
    ),
    "pandas_to_csv.csv": (
        (),
        [
            ("2024-03-01T10:00:00", {"temperature": 21.5, "door": True, "note": "fine"}),
            ("2024-03-01T10:00:00.250", {"door": False}),
        ],
    ),
    "polars_write_csv.csv": (
        UTC,
        [
            ("2024-03-01T10:00:00", {"temperature": 21.5, "count": 1}),
            ("2024-03-01T10:00:00.250", {"count": 2}),
        ],
    ),
    "influx_annotated.csv": (
        (),
        [
            ("2024-03-01T10:00:00", {"code": "007"} | ANNOTATED),
            ("2024-03-01T10:00:00", {"temperature": 21.5} | ANNOTATED),
            ("2024-03-01T10:00:01.123456", {"temperature": 22} | ANNOTATED),
        ],
    ),
    "influx_1.csv": (
        (),
        [
            ("2024-03-01T10:00:00", {"humidity": 40, "temperature": 21.5} | TAGS),
            ("2024-03-01T10:00:01", {"temperature": 22} | TAGS),
        ],
    ),
    "influx_1_select.csv": (
        (),
        [
            ("2024-03-01T10:00:00", {"name": "weather", "humidity": 40, "temperature": 21.5}),
            ("2024-03-01T10:00:01", {"name": "weather", "temperature": 22}),
        ],
    ),
    "grafana.csv": (
        (),
        [
            ("2024-03-01T10:00:00", {"north": 21.5}),
            ("2024-03-01T10:01:00", {"north": 21.75, "south": 19}),
        ],
    ),
}
# What is refused of a file that is imported otherwise: its line, and why.
REFUSED = {"spreadsheet_german.csv": "line 4: timestamp: clocks in Europe/Berlin show 2024-10-27"}
# What stops a file, and what it says to do.
STOPPED = {
    "postgresql_copy_text.csv": ((), ["names no columns", "put a line of names before it"]),
    "grafana_formatted.csv": (UTC, ["a unit ('21.5 °C' in line 2)", "--text 'Temperature'"]),
    "excel_utf16.csv": ((), ["UTF-16", "iconv -f UTF-16 -t UTF-8"]),
    "spreadsheet_ambiguous.csv": (
        (),
        ["--time-format day-first", "--time-zone UTC", "--decimal . or --decimal ,"],
    ),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerThread(tmp_path_factory.mktemp("layouts")) as running:
        yield running


def run(server: ServerThread, *arguments: str):
    return called(*arguments, environment=server.environment, folder=server.folder)


def stored(server: ServerThread, name: str) -> list[tuple[str, object]]:
    lines = server.http.get(f"/sensors/{name}/export?format=jsonl").text.splitlines()
    rows = [(row["timestamp"], row["value"]) for row in map(json.loads, lines)]
    return sorted(rows, key=lambda row: (row[0], json.dumps(row[1])))


def moments(rows):
    """Return rows with their times as they are exported."""
    return [(f"{time.ljust(26, '0') if '.' in time else time + '.000000'}Z", v) for time, v in rows]


@pytest.mark.parametrize("file", LAYOUTS)
def test_a_file_of_another_program_is_stored_to_the_row(server, file):
    options, rows = LAYOUTS[file]
    name = "north" if file == "influx_1.csv" else file.partition(".")[0]
    server.device(name)
    path = str(shutil.copy(FOLDER / file, server.folder))
    shown = run(server, "import", path, "--sensor", name, *options, "--dry-run")
    for time, value in moments(rows):
        row = next(line for line in shown.stdout.splitlines() if line.startswith(f"  {time}  "))
        assert row.split("  ")[2] == name
        assert value in [
            json.loads(line.split("  ", 3)[3])
            for line in shown.stdout.splitlines()
            if line.startswith(f"  {time}  ")
        ]
    assert f"{len(rows)} rows would be sent" in shown.stdout
    assert stored(server, name) == []
    done = run(server, "import", path, "--sensor", name, *options)
    assert stored(server, name) == moments(rows), done.stdout + done.stderr
    refused = REFUSED.get(file)
    assert done.returncode == shown.returncode == (0 if refused is None else 1)
    assert done.stderr.startswith(refused or "")
    assert done.stdout.startswith(f"{len(rows)} rows stored")
    again = run(server, "import", path, "--sensor", name, *options)
    assert again.stdout.startswith(f"0 rows stored, {len(rows)} there already")


def test_most_files_of_other_programs_need_no_more_than_two_options():
    named = [file for file, (options, _) in LAYOUTS.items() if len(options) <= 2]
    assert len(named) >= 18
    assert {path.name for path in FOLDER.iterdir()} == {*LAYOUTS, *STOPPED}


def test_the_guide_has_the_command_for_each_file():
    guide = (FOLDER.parents[3] / "docs/guide/export-and-import.md").read_text()
    for file, (options, _) in LAYOUTS.items():
        command = " ".join(("heliograph import", file, "--sensor NAME", *options))
        assert f"| `{command}` |" in guide


@pytest.mark.parametrize("file", STOPPED)
def test_a_file_that_can_be_read_in_two_ways_stops_and_says_what_to_do(server, file):
    options, said = STOPPED[file]
    path = str(FOLDER / file)
    for more in ((), ("--dry-run",)):
        done = run(server, "import", path, "--sensor", "x", *options, *more)
        assert done.returncode == 1
        told = done.stdout + done.stderr
        assert [text for text in said if text not in told] == []


def test_what_a_dry_run_shows_rests_on_cells_that_it_names(server):
    path = str(FOLDER / "spreadsheet_german.csv")
    shown = run(server, "import", path, "--sensor", "x", *BERLIN, "--dry-run").stdout.splitlines()
    found = {line[:11].strip(): line[12:] for line in shown if not line.startswith(" ")}
    assert found["cells"] == "separated by semicolons"
    assert found["time"] == (
        "Zeit: the day stands first: '31.03.2024 01:59' in line 2; zone Europe/Berlin"
    )
    assert found["numbers"] == "Temperatur (°C), Luftdruck"
    assert found["decimals"] == "comma: '21,5' in line 2, column Temperatur (°C)"
    assert found["texts"] == "Bemerkung"


def test_a_dry_run_needs_neither_server_nor_key(tmp_path):
    shutil.copy(FOLDER / "grafana.csv", tmp_path)
    done = called("import", "grafana.csv", "--dry-run", environment={}, folder=tmp_path)
    assert "2 rows would be sent" in done.stdout
    assert "no sensor: give --sensor" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["grafana.csv"]


def test_a_dry_run_refuses_what_the_server_would_refuse(server):
    server.device("refused")
    moment = 1_714_557_600
    lines = [
        {"timestamp": "yesterday", "value": 1},
        {"timestamp": "2024-05-01T12:00", "value": 1},
        {"timestamp": moment * 1_000, "value": 1},
        {"timestamp": moment, "value": 1, "revision": "x"},
        {"timestamp": moment, "value": 1},
        {"kind": "log", "timestamp": moment, "severity": "loud", "subject": "x"},
        {"kind": "heartbeat", "timestamp": moment, "success": "yes"},
    ]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (server.folder / "refused.jsonl").write_text(text)
    command = ("import", "refused.jsonl", "--sensor", "refused")
    shown, done = run(server, *command, "--dry-run"), run(server, *command)
    assert sorted(shown.stderr.splitlines()) == sorted(done.stderr.splitlines())
    assert shown.stderr.count("line ") == 6
    assert "1 row would be sent, 6 bad" in shown.stdout
    assert shown.returncode == done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (("x.jsonl", "--decimal", ","), 2, "has no meaning for jsonl"),
        (("x.parquet", "--decimal", ","), 2, "has no meaning for parquet"),
        (("x.lp", "--missing", "-999"), 2, "has no meaning for line-protocol"),
        (("x.parquet", "--time-column", "a", "--time-column", "b"), 2, "one column, of parquet"),
        (("x.csv", "--delimiter", ";;"), 2, "one character, or tab"),
        (("x.csv", "--time-format", "%H:%M"), 2, "tells no day of a year"),
        (("x.csv", "--time-zone", "Berlin"), 2, "name of a time zone"),
        (("x.csv", "--text", "temprature"), 1, "no column temprature, did you mean temperature?"),
        (("x.csv", "--time-column", "Timestmp"), 1, "did you mean Timestamp?"),
        (("own.csv", "--time-zone", "UTC"), 1, "this is an export, in which nothing is open"),
    ],
)
def test_an_option_that_says_nothing_of_the_file_is_refused(tmp_path, arguments, status, why):
    shutil.copy(FOLDER / "thingsboard.csv", tmp_path / "x.csv")
    (tmp_path / "own.csv").write_text("sensor_identifier,device_id,timestamp,value\n")
    for name in ("x.jsonl", "x.parquet", "x.lp"):
        (tmp_path / name).write_bytes(b"")
    done = called("import", *arguments, "--dry-run", environment={}, folder=tmp_path)
    assert done.returncode == status
    assert why in " ".join(done.stderr.replace("│", " ").split())


def test_an_archive_is_read_like_its_file(server):
    server.device("archive")
    packed = gzip.compress((FOLDER / "thingsboard.csv").read_bytes())
    (server.folder / "x.csv.gz").write_bytes(packed)
    done = run(server, "import", "x.csv.gz", "--sensor", "archive", *UTC)
    assert done.stdout == "2 rows stored, 0 there already, 0 bad\n"
    assert stored(server, "archive") == moments(LAYOUTS["thingsboard.csv"][1])


def test_logs_of_another_program_are_stored_and_what_has_no_room_is_named(server):
    server.device("logger")
    text = "time,host,level,message,thread\n2024-05-01T12:00:00Z,logger,WARN,low,7\n"
    (server.folder / "syslog.csv").write_text(text)
    done = run(server, "import", "syslog.csv", "--kind", "log", "--sensor-column", "host")
    assert done.stdout == "1 row stored, 0 there already, 0 bad\n"
    assert done.stderr == "left out: thread: a log message has nothing for it\n"
    (page,) = server.http.get("/sensors/logger/logs").json()
    assert (page["severity"], page["subject"]) == ("warning", "low")
    text = '{"time":"2024-05-01T12:00:00Z","level":"WARN","message":"low","thread":7}\n'
    (server.folder / "syslog.jsonl").write_text(text)
    done = run(server, "import", "syslog.jsonl", "--kind", "log", "--sensor", "logger")
    assert done.stdout == "0 rows stored, 1 there already, 0 bad\n"
    assert done.stderr == "left out: thread: a log message has nothing for it\n"


def test_a_table_is_gone_on_with_where_it_was_unless_it_is_meant_otherwise(server):
    server.device("resumed")
    rows = "".join(f"2024-03-01 10:{n // 60:02}:{n % 60:02};{n},5\n" for n in range(3_000))
    path = server.folder / "r.csv"
    path.write_text(f"Zeit;t\n{rows}")
    address = f"http://localhost:{server.port}"
    command = ("import", "r.csv", "--sensor", "resumed", "--url", address)
    # As if it had ended behind the first thousand rows, said to be in UTC.
    status, place = path.stat(), [len("Zeit;t\n") + rows.index("2024-03-01 10:16:40"), 1_001]
    options = ["csv", None, "resumed", "device_id", "ns", "False", address]
    said = repr(TableOptions())
    state = {
        "file": [status.st_size, status.st_mtime_ns],
        "options": [*options, said, "UTC"],
        "place": place,
        "accepted": 1_000,
    }
    side = server.folder / "r.csv.import.json"
    side.write_text(json.dumps(state))
    done = run(server, *command, "--time-zone", "+01:00")
    assert done.stdout.startswith("3,000 rows stored, 0 there")
    side.write_text(json.dumps(state))
    done = run(server, *command, *UTC)
    assert done.stdout.startswith("3,000 rows stored, 0 there")
    assert len(stored(server, "resumed")) == 5_000


@pytest.mark.parametrize("unit", ["ns", "us", "ms"])
def test_parquet_of_data_frames_is_stored_to_the_row(server, unit):
    """As pandas (a default index, nanoseconds) and polars (microseconds) write it."""
    name = f"frame-{unit}"
    server.device(name)
    times = pa.array([1_709_287_200, 1_709_287_201], pa.int64()).cast(pa.timestamp("s", "UTC"))
    columns = {"time": times.cast(pa.timestamp(unit, "UTC")), "t": [21.5, None], "n": [1, 2]}
    pq.write_table(pa.table(columns), server.folder / f"{name}.parquet")
    shown = run(server, "import", f"{name}.parquet", "--sensor", name, "--dry-run")
    assert f"2024-03-01T10:00:00.000000Z  {name}" in shown.stdout
    assert shown.stdout.startswith(
        "heading     a table\ntime        column time\nsensor      --sensor"
    )
    run(server, "import", f"{name}.parquet", "--sensor", name)
    assert stored(server, name) == moments(
        [("2024-03-01T10:00:00", {"t": 21.5, "n": 1}), ("2024-03-01T10:00:01", {"n": 2})]
    )
