"""What is copied out of the views for SQL imports again, as the measurements that it was."""

import asyncio
import contextlib
import csv
import io
import json
import sqlite3
import uuid

import psycopg
import pytest

from commands import called
from heliograph.store import open_store
from heliograph.store.engine import Batch
from rows import NOON, log, measurement
from server import ServerThread

# All that a value may be, but a null beside an empty text, and objects without members: in CSV
# and in the view they are alike, or nothing.
VALUES = [
    {"temperature": 22.5, "humidity": 65, "voltage": "low"},
    {"a": {"b": {"c": 1, "d.e": "x"}, "on": True, "off": False}, "list": [1, {"k": 2.5}]},
    {"a[0]": 1, "a": [3], "\\": 2, 'quote"': 'a, "b"\nc', "none": None, "dot.": 0.1 + 0.2},
    {"big": (1 << 63) - 1, "float": 1e22, "tiny": 1e-7, "whole": 100.0, "ends": [5e-324, 1e308]},
    {"number": "22.5", "boolean": "true", "array": "[", "null": "null"},
    7,
    "text",
    [1, 2],
    False,
]


@pytest.fixture
def sensor(database_url):
    """Store the values on each engine, and return their sensor's UUID."""
    identifier = str(uuid.uuid4())

    async def write():
        store = await open_store(database_url)
        found = await store.sensors.create(
            identifier=identifier, device_id="pump-1", created_at=NOON
        )
        rows = [measurement(found.number, NOON + at, value) for at, value in enumerate(VALUES)]
        # Of one time, and told apart by what they say.
        rows.append(measurement(found.number, NOON, {"temperature": 23, "humidity": 64}))
        logs = [
            log(found.number, subject="bat, low", details='3.1 "V"'),
            log(found.number, NOON + 1),
        ]
        await store.write(Batch(measurements=sorted(rows, key=lambda row: row[1:4]), logs=logs))
        await store.close()

    asyncio.run(write())
    return identifier


def copied(url, what):
    """Return what `\\copy` and `sqlite3 -header -csv` make of it."""
    if url.startswith("sqlite"):
        path = url.removeprefix("sqlite:///")
        with contextlib.closing(sqlite3.connect(path)) as connection:
            found = connection.execute(f"SELECT * FROM {what}")
            text = io.StringIO()
            table = csv.writer(text, lineterminator="\n")
            table.writerow([column[0] for column in found.description])
            table.writerows(found)
            return text.getvalue().encode()
    copy = f"COPY (SELECT * FROM {what}) TO STDOUT (FORMAT csv, HEADER)"
    with (
        psycopg.connect(url) as connection,
        connection.cursor() as cursor,
        cursor.copy(copy) as found,
    ):
        return b"".join(map(bytes, found))


@pytest.fixture
def server(tmp_path, sensor):
    folder = tmp_path / "server"
    folder.mkdir()
    with ServerThread(folder) as server:
        made = {"id": sensor, "device_id": "pump-1", "sensor_name": "pump"}
        assert server.http.post("/sensors", json=made).status_code == 201
        yield server


def imported(server, data, *options):
    (server.folder / "x.csv").write_bytes(data)
    return called("import", "x.csv", *options, environment=server.environment, folder=server.folder)


def stored(server):
    found = server.http.get("/sensors/pump-1/measurements", params={"limit": 1_000}).json()
    return moments(
        [each["measurement"] for each in found], [each["creation_timestamp"] for each in found]
    )


def moments(values, times=None):
    """Return times and values as text: what is no object is the record of one with `value`."""
    times = times or [(NOON + at) / 1e6 for at in range(len(values))]
    objects = [value if isinstance(value, dict) else {"value": value} for value in values]
    return sorted(
        (at, json.dumps(value, sort_keys=True)) for at, value in zip(times, objects, strict=True)
    )


@pytest.mark.parametrize("view", ["v_attribute", "v_measurement"])
def test_a_copy_of_the_view_imports_again(server, database_url, sensor, view):
    done = imported(server, copied(database_url, view))
    assert done.stdout == f"{len(VALUES) + 1} rows stored, 0 there already, 0 bad\n"
    other = moments([{"temperature": 23, "humidity": 64}])
    assert stored(server) == sorted([*moments(VALUES), *other])
    # Sent as it was, it is what is there already; and so is the copy of what is stored now.
    sent = [{"timestamp": (NOON + at) / 1e6, "value": value} for at, value in enumerate(VALUES)]
    answer = server.http.post("/sensors/pump-1/measurements", json=sent).json()
    assert (answer["accepted"], answer["duplicates"]) == (0, len(VALUES))
    again = imported(server, copied(f"sqlite:///{server.folder}/heliograph.db", view))
    assert again.stdout == f"0 rows stored, {len(VALUES) + 1} there already, 0 bad\n"


def test_a_copy_of_log_messages_imports_again(server, database_url, sensor):
    done = imported(server, copied(database_url, "v_log"))
    assert done.stdout == "2 rows stored, 0 there already, 0 bad\n"
    found = server.http.get("/sensors/pump-1/logs").json()
    assert [(each["subject"], each["details"]) for each in found] == [
        ("bat, low", '3.1 "V"'),
        ("started", None),
    ]
    again = imported(server, copied(f"sqlite:///{server.folder}/heliograph.db", "v_log"))
    assert again.stdout == "0 rows stored, 2 there already, 0 bad\n"


def test_a_copy_of_readings_has_its_three_attributes(server, database_url, sensor):
    done = imported(server, copied(database_url, "readings"))
    assert done.stdout == "2 rows stored, 0 there already, 0 bad, 8 without a value\n"
    numbers = [{"temperature": 22.5, "humidity": 65}, {"temperature": 23, "humidity": 64}]
    found = [json.loads(value) for _, value in stored(server)]
    assert sorted(found, key=lambda value: value["humidity"]) == numbers[::-1]


def test_the_newest_values_and_a_part_of_the_view_import(server, database_url, sensor):
    part = "(SELECT device_id, timestamp_us, attribute, number, text FROM v_attribute) AS part"
    shown = imported(server, copied(database_url, part), "--dry-run")
    assert shown.stdout.startswith("heading     of the view v_attribute\n")
    done = imported(server, copied(database_url, f"{part} WHERE attribute = 'temperature'"))
    assert done.stdout == "2 rows stored, 0 there already, 0 bad\n"
    refused = imported(server, copied(database_url, part), "--time-zone", "UTC")
    assert "of the view v_attribute, in which nothing is open" in refused.stderr


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ("x,t,1,1", "timestamp_us is no whole number: 'x'"),
        (f"{10**30},t,1,1", "timestamp_us is no time"),
        (f"{NOON},t,1", "4 cells under 5 columns"),
        (f"{NOON},t,one,one", "number is not JSON: 'one'"),
        (f"{NOON},t,1e999,", "number is not JSON: '1e999'"),
        (f"{NOON},t,true,", "'true' is no number"),
    ],
)
def test_what_can_not_be_used_is_told_with_its_line(tmp_path, cells, why):
    text = (
        f"device_id,timestamp_us,attribute,number,text\npump-1,{NOON - 1},t,1,1\npump-1,{cells}\n"
    )
    (tmp_path / "x.csv").write_text(text)
    done = called("import", "x.csv", "--dry-run", environment={}, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"line 3: {why}")
