"""A day of a network, replayed with late and repeated data, and counted anew from its export.

HELIOGRAPH_REPLAY_INTERVAL sets the seconds between two measurements of a sensor: 240 are 36,000
rows, as in the default run, 60 as in the long one 144,000, 1 are 8,640,000. With more than 240
there are too few to tell the shares by.
"""

import io
import json
import os

import polars as pl
import pytest
from polars.testing import assert_frame_equal

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
VALUE = pl.Struct(dict.fromkeys(ATTRIBUTES, pl.Float64))
FUNCTIONS = ("avg", "min", "max", "sum", "count", "last")
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
def export(server, network) -> pl.DataFrame:
    """Return all measurements, as Parquet has them."""
    return pl.read_parquet(download(server, network, "parquet"))


@pytest.fixture(scope="module")
def measured(export) -> pl.DataFrame:
    """Return device, time, attribute and number, in the order of time."""
    return (
        export.select("device_id", "timestamp", pl.col("value").str.json_decode(VALUE))
        .unnest("value")
        .unpivot(ATTRIBUTES, index=["device_id", "timestamp"], variable_name="attribute")
        .sort("timestamp")
    )


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
    assert export.height == sent["rows"] - repeated["rows"]
    assert export.select("device_id", "timestamp").n_unique() == export.height
    assert export["device_id"].n_unique() == SENSORS
    # Received in another order than measured: what was late.
    newest = export.sort("receipt_timestamp", "timestamp").with_columns(
        newest=pl.col("timestamp").cum_max().over("device_id")
    )
    behind = newest.filter(pl.col("timestamp") < pl.col("newest")).height
    assert behind > 0.5 * late["rows"]
    logs = download(server, network, "jsonl", kind="log")
    assert len(logs.getvalue().splitlines()) == replayed["kinds"]["log"]["acknowledged"]["rows"]


def test_all_forms_of_an_export_say_the_same(server, network, export):
    moments = [
        pl.col(column).str.to_datetime(time_unit="us", time_zone="UTC")
        for column in ("timestamp", "receipt_timestamp")
    ]
    types = {"revision": pl.Int64, "device_timestamp": pl.Float64}
    table = pl.read_csv(
        download(server, network, "csv"), schema_overrides={**types, "value": pl.String}
    )
    assert_frame_equal(table.with_columns(moments), export)
    lines = pl.read_ndjson(
        download(server, network, "jsonl"), schema_overrides={**types, "value": VALUE}
    )
    assert set(lines["kind"]) == {"measurement"}
    # Lines name an element's id where there is one, and the simulator gives none.
    assert "element_id" not in lines.columns
    assert_frame_equal(
        lines.with_columns(moments, element_id=pl.lit(None, pl.String)).select(export.columns),
        export.with_columns(pl.col("value").str.json_decode(VALUE)),
    )
    run(server, "export", "day.parquet", "--force")
    assert_frame_equal(pl.read_parquet(server.folder / "day.parquet"), export)


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
    expected = (
        measured.filter(pl.col("device_id").is_in([name(number) for number in sensors]))
        .group_by(
            "device_id",
            "attribute",
            start=pl.col("timestamp").dt.convert_time_zone(zone).dt.truncate(bucket),
        )
        .agg(
            avg=pl.col("value").mean(),
            min=pl.col("value").min(),
            max=pl.col("value").max(),
            sum=pl.col("value").sum(),
            count=pl.col("value").count().cast(pl.Int64),
            last=pl.col("value").last(),
        )
    )
    rows = []
    for number in sensors:
        answer = server.http.get(
            f"/sensors/{name(number)}/aggregates",
            params={"bucket": bucket, "tz": zone, "start": START, "end": END},
        )
        assert answer.status_code == 200, answer.text
        rows += [
            {"device_id": name(number), "attribute": attribute, **found}
            for attribute, buckets in answer.json().items()
            for found in buckets
        ]
    answered = pl.DataFrame(rows).with_columns(
        pl.col("start").str.to_datetime(time_unit="us", time_zone=zone)
    )
    order = ["device_id", "attribute", "start"]
    columns = [*order, *FUNCTIONS]
    assert set(answered["attribute"]) == set(ATTRIBUTES)
    exact = [*order, "min", "max", "count", "last"]
    answered, expected = (frame.select(columns).sort(order) for frame in (answered, expected))
    assert_frame_equal(answered.select(exact), expected.select(exact), check_exact=True)
    assert_frame_equal(answered, expected, rel_tol=1e-9, abs_tol=0)


def test_a_devices_aggregate_is_that_of_the_export(server, measured):
    for number in SOME:
        answer = server.http.get(
            f"/devices/{name(number)}/aggregate", params={"start": START, "end": END}
        ).json()
        mine = measured.filter(pl.col("device_id") == name(number))
        assert answer["count"] == mine["timestamp"].n_unique()
        for attribute, found in answer["metrics"].items():
            numbers = mine.filter(pl.col("attribute") == attribute)["value"]
            assert (found["min"], found["max"]) == (numbers.min(), numbers.max())
            assert found["count"] == len(numbers)
            assert found["avg"] == pytest.approx(numbers.mean(), rel=1e-9)


def test_the_newest_values_are_those_of_the_export(server, network, measured):
    # Late data does not replace what is newer.
    newest = measured.group_by("device_id", "attribute", maintain_order=True).last()
    expected = {
        (device, attribute): (moment.timestamp(), value)
        for device, moment, attribute, value in newest.select(
            "device_id", "timestamp", "attribute", "value"
        ).iter_rows()
    }
    answer = server.http.get(f"/networks/{network}/latest").json()
    answered = {
        (sensor["device_id"], attribute): (found["timestamp"], found["value"])
        for sensor in answer
        for attribute, found in sensor["attributes"].items()
    }
    assert len(expected) == SENSORS * len(ATTRIBUTES)
    moments = pl.Series([moment for moment, _ in answered.values()]).str.to_datetime(
        time_unit="us", time_zone="UTC"
    )
    assert {
        key: (moment.timestamp(), value)
        for (key, (_, value)), moment in zip(answered.items(), moments, strict=True)
    } == expected


def test_a_chart_has_rows_of_the_export(server, measured):
    mine = measured.filter(pl.col("device_id") == name(1), pl.col("attribute") == "pressure")
    rows = {moment.timestamp(): value for moment, value in mine.select("timestamp", "value").rows()}
    answer = server.http.get(
        f"/sensors/{name(1)}/measurements",
        params={"attribute": "pressure", "points": 100, "start": START, "end": END},
    ).json()
    picked = {entry["creation_timestamp"]: entry["measurement"]["pressure"] for entry in answer}
    assert len(picked) == min(100, len(rows))
    assert picked.items() <= rows.items()
    assert {min(rows), max(rows)} <= picked.keys()
