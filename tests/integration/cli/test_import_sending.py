"""What `heliograph import` asks of the server: few requests, whatever the order of the lines."""

import gzip
import json
import re

import pytest

from commands import called
from engines import SQLITE_FIRST
from server import ADMIN_KEY, ServerThread

START = 1_700_000_000


@pytest.fixture(params=SQLITE_FIRST)
def engine(request):
    return request.param


@pytest.fixture
def server(tmp_path):
    with ServerThread(tmp_path) as running:
        yield running


def imported(server: ServerThread, name: str, *options: str, status: int = 0):
    arguments = ("import", name, *options)
    done = called(*arguments, environment=server.environment, folder=server.folder)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def write(server: ServerThread, name: str, elements: list[dict]) -> None:
    (server.folder / name).write_text("\n".join(map(json.dumps, elements)))


def requests(server: ServerThread) -> dict[str, int]:
    """Return how many requests each route has answered."""
    text = server.http.get("/metrics").text
    found = re.findall(r'heliograph_http_requests_total\{route="([^"]+)",[^}]*\} ([\d.]+)', text)
    answered: dict[str, int] = {}
    for route, count in found:
        path = route.removeprefix("/api/v1")
        answered[path] = answered.get(path, 0) + int(float(count))
    return answered


def registered(server: ServerThread, count: int) -> list[str]:
    names = [f"pump-{number}" for number in range(count)]
    devices = [{"device_id": name} for name in names]
    answer = server.http.post("/devices/batch", json={"devices": devices})
    assert answer.status_code == 201, answer.text
    return names


def test_lines_that_change_sensors_go_in_few_bodies_and_few_questions(tmp_path, database_url):
    """One sensor a body, and one question a sensor, would be 200 of each."""
    said = (
        {"value": 1},
        {"kind": "log", "severity": "info", "subject": "s"},
        {"kind": "heartbeat", "success": True},
    )
    with ServerThread(tmp_path, database_url) as server:
        names = registered(server, 200)
        elements = [
            {"device_id": names[n % 200], "timestamp": START + n, **said[n % 3]}
            for n in range(2_400)
        ]
        write(server, "x.jsonl", elements)
        before = requests(server)
        done = imported(server, "x.jsonl")
        assert done.stdout == "2,400 rows stored, 0 there already, 0 bad\n"
        counts = requests(server)
        asked = {route: counts[route] - before.get(route, 0) for route in counts}
        assert asked["/ingest/batch"] == 3
        assert asked["/sensors"] == 1
        assert "/sensors/{identifier}" not in asked
        for first, kind in enumerate(("measurements", "logs", "heartbeats")):
            assert f"/sensors/{{identifier}}/{kind}" not in asked
            page = server.http.get(f"/sensors/pump-7/{kind}", params={"limit": 1_000}).json()
            times = [START + n for n in range(first, 2_400, 3) if n % 200 == 7]
            assert [entry["creation_timestamp"] for entry in page] == times
        assert imported(server, "x.jsonl").stdout.startswith("0 rows stored, 2,400 there")


def test_bad_lines_among_many_sensors_are_told_by_their_numbers(server):
    names = registered(server, 150)
    elements = [
        {"device_id": names[n % 150], "timestamp": START + n, "value": n} for n in range(1_500)
    ]
    elements[3]["timestamp"] = 99_999_999_999
    elements[704]["surplus"] = 1
    elements[1_203]["device_id"] = "nobody"
    elements[1_499]["value"] = {"t": "\0"}
    write(server, "x.jsonl", elements)
    done = imported(server, "x.jsonl", status=1)
    assert done.stdout == "1,496 rows stored, 0 there already, 4 bad\n"
    told = [line.split(" ")[:3] for line in done.stderr.splitlines()]
    assert told == [
        ["line", "4:", "TIMESTAMP_IN_FUTURE:"],
        ["line", "705:", "UNKNOWN_MEMBER:"],
        ["line", "1204:", "sensor"],
        ["line", "1500:", "NUL_IN_TEXT:"],
    ]


def test_bad_logs_and_heartbeats_are_told_by_their_lines_and_cost_no_others(server):
    registered(server, 2)
    frames = [{"device_id": f"pump-{n % 2}", "timestamp": START + n} for n in range(6)]
    log = {"kind": "log", "severity": "info", "subject": "s"}
    beat = {"kind": "heartbeat", "success": True}
    # A heartbeat's details may have any name, its sensor's too.
    named = {**beat, "details": {"device_id": "probe", "battery": 80}}
    write(
        server,
        "x.jsonl",
        [
            {**frames[0], **log},
            {**frames[1], **named},
            {**frames[2], **log, "severity": "dire"},
            {**frames[3], **beat, "success": "yes"},
            {**frames[4], "value": 5, "t": 1},
            {**frames[5], **log},
        ],
    )
    done = imported(server, "x.jsonl", status=1)
    assert done.stdout == "3 rows stored, 0 there already, 3 bad\n"
    told = [line.split(" ")[:3] for line in done.stderr.splitlines()]
    assert told == [
        ["line", "3:", "WRONG_TYPE:"],
        ["line", "4:", "WRONG_TYPE:"],
        ["line", "5:", "UNKNOWN_MEMBER:"],
    ]
    (page,) = server.http.get("/sensors/pump-1/heartbeats").json()
    assert page["details"] == {"device_id": "probe", "battery": 80}


def test_a_value_too_large_for_a_message_is_bad_by_itself(server):
    server.device("pump-1")
    elements = [
        {"device_id": "pump-1", "timestamp": START + n, "value": "x" * size}
        for n, size in enumerate((10, 1_100_000, 800_000, 20))
    ]
    write(server, "x.jsonl", elements)
    done = imported(server, "x.jsonl", status=1)
    assert done.stdout == "3 rows stored, 0 there already, 1 bad\n"
    assert done.stderr.startswith("line 2: ")
    assert "TOO_LARGE" in done.stderr


def test_a_device_imports_what_is_its_own(server):
    device = server.device("pump-1")
    server.device("pump-2")
    elements = [
        {"device_id": f"pump-{1 + n % 2}", "timestamp": START + n, "value": n} for n in range(6)
    ]
    write(server, "x.jsonl", elements)
    done = imported(server, "x.jsonl", "--api-key", device.key, status=1)
    assert done.stdout == "3 rows stored, 0 there already, 3 bad\n"
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == [
        "line 2",
        "line 4",
        "line 6",
    ]


def test_a_user_imports_what_they_may_edit_by_a_sessions_token(server):
    """Lines of three networks: one that they edit, one that they read, one that they don't see."""
    names = {}
    for role in ("editor", "viewer", "none"):
        body = {"network_name": role}
        network = server.http.post("/networks", json=body).json()["network_identifier"]
        server.http.post("/devices", json={"device_id": role, "network_identifier": network})
        names[role] = network
    user = {"username": "ada", "password": "correct horse battery"}
    made = server.http.post("/users", json=user)
    assert made.status_code == 201, made.text
    for role in ("editor", "viewer"):
        put = server.http.put(f"/networks/{names[role]}/members/ada", json={"role": role})
        assert put.status_code in (200, 201, 204), put.text
    token = made.json()["access_token"]
    elements = [
        {"device_id": [*names][n % 3], "timestamp": START + n, "value": n} for n in range(9)
    ]
    write(server, "x.jsonl", elements)
    done = imported(server, "x.jsonl", "--token", token, status=1)
    assert done.stdout == "3 rows stored, 0 there already, 6 bad\n"
    told = done.stderr.splitlines()
    assert ["FORBIDDEN" in line for line in told] == [True, False] * 3
    assert ["not found" in line for line in told] == [False, True] * 3
    wrong = imported(server, "x.jsonl", "--token", "nobodys", status=1)
    assert "not accepted" in wrong.stderr


def test_sensors_that_the_caller_only_reads_do_not_keep_out_his_own(tmp_path):
    """A body of mixed sensors is refused whole for one that he may not send as."""
    with ServerThread(tmp_path, anonymous_role="viewer") as server:
        device = server.device("pump-1")
        server.device("pump-2")
        elements = [
            {"device_id": f"pump-{1 + n % 2}", "timestamp": START + n, "value": n} for n in range(6)
        ]
        write(server, "x.jsonl", elements)
        done = imported(server, "x.jsonl", "--api-key", device.key, status=1)
        assert done.stdout == "3 rows stored, 0 there already, 3 bad\n"
        assert all("FORBIDDEN" in line for line in done.stderr.splitlines())


def test_what_was_sent_before_a_file_broke_off_counts(server):
    """The next window is read while one is on its way: a fault there takes nothing back."""
    server.device("pump-1")
    lines = [
        json.dumps({"device_id": "pump-1", "timestamp": START + n, "value": n})
        for n in range(25_000)
    ]
    whole = gzip.compress("\n".join(lines).encode(), 1)
    path = server.folder / "x.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])
    done = imported(server, "x.jsonl.gz", status=1)
    assert "line 1" in done.stderr
    state = json.loads((server.folder / "x.jsonl.gz.import.json").read_text())
    assert state["place"][1] == state["accepted"] == 10_000


def test_names_in_capitals_lead_where_the_server_takes_them_to(server):
    registered(server, 150)
    upper = server.device("PUMP-3")
    elements = [
        {"device_id": name, "timestamp": START, "value": name}
        for name in [f"pump-{n}" for n in range(150)] + ["PUMP-3", upper.identifier.upper()]
    ]
    write(server, "x.jsonl", elements)
    assert imported(server, "x.jsonl").stdout.startswith("152 rows stored")
    for name, values in (("pump-3", ["pump-3"]), ("PUMP-3", ["PUMP-3", upper.identifier.upper()])):
        headers = {"X-API-Key": ADMIN_KEY}
        page = server.http.get(f"/sensors/{name}/measurements", headers=headers).json()
        assert sorted(entry["measurement"] for entry in page) == sorted(values)
