"""A day of a network, replayed with late and repeated data, and counted anew from its export.

HELIOGRAPH_REPLAY_INTERVAL sets the seconds between two measurements of a sensor: 240 are 36,000
rows, as in the default run, 60 as in the long one 144,000, 1 are 8,640,000. With more than 240
there are too few to tell the shares by.
"""

import io
import json
import math
import os
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
import pytest

import program
from server import ServerProcess, serving

SENSORS = 100
INTERVAL = float(os.environ.get("HELIOGRAPH_REPLAY_INTERVAL", "240"))
BATCH = 10
LATE, REPEATED = 0.05, 0.01
# A day in which the clocks of Europe are changed.
START = "2026-03-28T12:00:00Z"
END = "2026-03-29T12:00:00Z"
SECONDS = 120 + 86_400 / INTERVAL
ATTRIBUTES = ("temperature", "humidity", "pressure", "battery")
VALUE = pa.schema(dict.fromkeys(ATTRIBUTES, pa.float64()))
MOMENT = pa.timestamp("us", "UTC")
FUNCTIONS = {
    "avg": "mean",
    "min": "min",
    "max": "max",
    "sum": "sum",
    "count": "count",
    "last": "last",
}
# The sum and the average depend on the order of what is added.
EXACT = ("min", "max", "count", "last")
# The sensors that are asked for by each bucket and zone: the last one is the one that fails.
EVERY, SOME = range(1, SENSORS + 1), (1, 2, 51, SENSORS)


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)]
)
def engine(request):
    return request.param


@pytest.fixture(scope="module")
def interval() -> float:
    return INTERVAL


@pytest.fixture(scope="module")
def server(engine, request, tmp_path_factory):
    options = {}
    if engine == "postgresql":
        cluster = request.getfixturevalue("postgresql_cluster")
        options["database_url"] = cluster.dsn(cluster.create_database())
    with serving(tmp_path_factory.mktemp("server"), **options) as running:
        yield running


@pytest.fixture(scope="module")
def replayed(server, interval) -> dict:
    """Return what the simulator says that it has sent."""
    return json.loads(
        run(
            server,
            *("simulate", "--json", "--sensors", str(SENSORS)),
            *("--replay", "24h", "--start", START, "--interval", str(interval)),
            *("--late", str(LATE), "--repeated", str(REPEATED), "--batch", str(BATCH)),
            *("--drain", "60"),
        )
    )


@pytest.fixture(scope="module")
def network(server, replayed) -> str:
    return server.http.get("/networks").json()[0]["network_identifier"]


@pytest.fixture(scope="module")
def export(server, network) -> pa.Table:
    """Return all measurements, as Parquet has them."""
    return pa.parquet.read_table(download(server, network, "parquet"))


@pytest.fixture(scope="module")
def measured(export) -> pa.Table:
    """Return device, time, attribute and number, in the order of time."""
    values = decoded(export["value"])
    tables = [
        export.select(["device_id", "timestamp"])
        .append_column("attribute", pa.repeat(attribute, export.num_rows))
        .append_column("value", values[attribute])
        for attribute in ATTRIBUTES
    ]
    return pa.concat_tables(tables).filter(pc.field("value").is_valid()).sort_by("timestamp")


def decoded(values: pa.ChunkedArray) -> pa.Table:
    """Return the attributes of measurements that are written in JSON."""
    return read_json(io.BytesIO("\n".join(values.to_pylist()).encode()), VALUE)


def read_json(lines: io.BytesIO, schema: pa.Schema) -> pa.Table:
    return pa.json.read_json(lines, parse_options=pa.json.ParseOptions(explicit_schema=schema))


def starts(moments: pa.ChunkedArray, bucket: str, zone: str) -> pa.Array:
    """Return when the bucket of each moment begins: all begin at whole ten minutes."""
    slots = pc.divide(moments.combine_chunks().cast(pa.int64()), 600_000_000).dictionary_encode()
    begins = [
        floor(datetime.fromtimestamp(600 * slot, ZoneInfo(zone)), bucket).astimezone(UTC)
        for slot in slots.dictionary.to_pylist()
    ]
    return pa.array(begins, MOMENT).take(slots.indices)


def floor(moment: datetime, bucket: str) -> datetime:
    hour = moment.replace(minute=0)
    day = hour.replace(hour=0)
    return {
        "10m": moment,
        "1h": hour,
        "2h": hour.replace(hour=hour.hour // 2 * 2),
        "1d": day,
        "1w": day - timedelta(days=day.weekday()),
        "1mo": day.replace(day=1),
    }[bucket]


def of(table: pa.Table, column: str, *values: str) -> pa.Table:
    return table.filter(pc.is_in(table[column], pa.array(values)))


def run(server: ServerProcess, *arguments: str) -> str:
    done = program.run(*arguments, env=server.environment, cwd=server.folder, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def download(server: ServerProcess, network: str, form: str, **parameters: str) -> io.BytesIO:
    path = f"/networks/{network}/export"
    answer = server.http.get(path, params={"format": form, **parameters}, timeout=SECONDS)
    assert answer.status_code == 200, answer.text
    return io.BytesIO(answer.content)


def name(number: int) -> str:
    return f"sim-{number:04d}"


def test_everything_that_was_sent_is_there_once(server, interval, network, replayed, export):
    sent = replayed["kinds"]["measurement"]["acknowledged"]
    late, repeated = replayed["late"], replayed["repeated"]
    originals = sent["messages"] - repeated["messages"]
    assert replayed["unacknowledged"] == 0
    # As many as a day has, but for what sensors out of reach did not say.
    assert 0.95 < originals * BATCH / (SENSORS * 86_400 / interval) <= 1
    assert 0.8 * LATE < late["messages"] / originals < 1.2 * LATE
    assert 0.5 * REPEATED < repeated["messages"] / originals < 1.5 * REPEATED
    assert export.num_rows == sent["rows"] - repeated["rows"]
    keys = export.group_by(["device_id", "timestamp"]).aggregate([])
    assert keys.num_rows == export.num_rows
    devices = export["device_id"].unique().to_pylist()
    assert len(devices) == SENSORS
    # Received in another order than measured: what was late.
    received = export.sort_by([("receipt_timestamp", "ascending"), ("timestamp", "ascending")])
    behind = 0
    for device in devices:
        times = of(received, "device_id", device)["timestamp"].cast(pa.int64())
        behind += pc.sum(pc.less(times, pc.cumulative_max(times))).as_py()
    assert behind > 0.5 * late["rows"]
    logs = download(server, network, "jsonl", kind="log")
    assert len(logs.getvalue().splitlines()) == replayed["kinds"]["log"]["acknowledged"]["rows"]


def test_all_forms_of_an_export_say_the_same(server, network, export):
    table = pa.csv.read_csv(
        download(server, network, "csv"),
        convert_options=pa.csv.ConvertOptions(
            column_types=export.schema, strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )
    assert table.cast(export.schema).equals(export)
    lines = read_json(
        download(server, network, "jsonl"),
        pa.schema({"device_timestamp": pa.float64(), "value": pa.struct(VALUE)}),
    )
    assert lines["kind"].unique().to_pylist() == ["measurement"]
    # Lines name an element's id where there is one, and the simulator gives none.
    assert "element_id" not in lines.column_names
    lines = lines.append_column("element_id", pa.nulls(lines.num_rows, pa.string()))
    rest = export.drop_columns("value")
    assert lines.select(rest.column_names).cast(rest.schema).equals(rest)
    assert pa.Table.from_struct_array(lines["value"]).equals(decoded(export["value"]))
    run(server, "export", "day.parquet", "--force")
    assert pa.parquet.read_table(server.folder / "day.parquet").equals(export)


@pytest.mark.parametrize(
    ("bucket", "zone", "sensors"),
    [
        ("1h", "UTC", EVERY),
        ("10m", "UTC", SOME),
        ("1h", "Asia/Kolkata", SOME),
        ("2h", "Europe/Berlin", SOME),
        ("1d", "Europe/Berlin", SOME),
        ("1w", "America/New_York", SOME),
        ("1mo", "Pacific/Auckland", SOME),
    ],
)
def test_aggregates_are_those_of_the_export(server, measured, bucket, zone, sensors):
    chosen = of(measured, "device_id", *map(name, sensors))
    chosen = chosen.append_column("start", starts(chosen["timestamp"], bucket, zone))
    # In one thread the last one is the newest.
    grouped = chosen.group_by(["device_id", "attribute", "start"], use_threads=False)
    expected = {
        (row["device_id"], row["attribute"], row["start"]): row
        for row in grouped.aggregate([("value", name) for name in FUNCTIONS.values()]).to_pylist()
    }
    answered = {}
    for number in sensors:
        answer = server.http.get(
            f"/sensors/{name(number)}/aggregates",
            params={"bucket": bucket, "tz": zone, "start": START, "end": END},
        )
        assert answer.status_code == 200, answer.text
        buckets = answer.json()
        assert set(buckets) == set(ATTRIBUTES)
        for attribute in ATTRIBUTES:
            for found in buckets[attribute]:
                key = (name(number), attribute, datetime.fromisoformat(found["start"]))
                assert key not in answered
                answered[key] = found
    assert answered.keys() == expected.keys()
    for key, found in answered.items():
        row = expected[key]
        for ours, theirs in FUNCTIONS.items():
            tolerance = 0 if ours in EXACT else 1e-9
            assert math.isclose(found[ours], row[f"value_{theirs}"], rel_tol=tolerance), (key, ours)


def test_a_devices_aggregate_is_that_of_the_export(server, measured):
    for number in SOME:
        answer = server.http.get(
            f"/devices/{name(number)}/aggregate", params={"start": START, "end": END}
        ).json()
        mine = of(measured, "device_id", name(number))
        assert answer["count"] == pc.count_distinct(mine["timestamp"]).as_py()
        for attribute, found in answer["metrics"].items():
            numbers = of(mine, "attribute", attribute)["value"]
            assert {"min": found["min"], "max": found["max"]} == pc.min_max(numbers).as_py()
            assert found["count"] == len(numbers)
            assert found["avg"] == pytest.approx(pc.mean(numbers).as_py(), rel=1e-9)


def test_the_newest_values_are_those_of_the_export(server, network, measured):
    # Late data does not replace what is newer.
    newest = measured.group_by(["device_id", "attribute"], use_threads=False).aggregate(
        [("timestamp", "last"), ("value", "last")]
    )
    expected = {
        (row["device_id"], row["attribute"]): (row["timestamp_last"], row["value_last"])
        for row in newest.to_pylist()
    }
    answer = server.http.get(f"/networks/{network}/latest").json()
    answered = {
        (sensor["device_id"], attribute): (
            datetime.fromisoformat(found["timestamp"]),
            found["value"],
        )
        for sensor in answer
        for attribute, found in sensor["attributes"].items()
    }
    assert len(expected) == SENSORS * len(ATTRIBUTES)
    assert answered == expected


def test_a_chart_has_rows_of_the_export(server, measured):
    mine = of(of(measured, "device_id", name(1)), "attribute", "pressure").to_pylist()
    rows = {row["timestamp"].timestamp(): row["value"] for row in mine}
    answer = server.http.get(
        f"/sensors/{name(1)}/measurements",
        params={"attribute": "pressure", "points": 100, "start": START, "end": END},
    ).json()
    picked = {entry["creation_timestamp"]: entry["measurement"]["pressure"] for entry in answer}
    assert len(picked) == min(100, len(rows))
    assert picked.items() <= rows.items()
    assert {min(rows), max(rows)} <= picked.keys()
