"""`heliograph simulate` against a real server."""

import asyncio
import contextlib
import json
import os
import pty
import select
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator

import pytest
import trustme

from commands import called
from heliograph.model import counting
from heliograph.store import open_store
from program import Program
from server import Device, ServerProcess, free_port, serving

SECONDS = 90
TABLES = {"measurement": "measurement", "log": "log", "heartbeat": "heartbeat"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with serving(tmp_path_factory.mktemp("server")) as server:
        yield server


def simulate(
    server: ServerProcess, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    environment = {**server.environment, **environment}
    return called("simulate", *arguments, environment=environment, folder=server.folder)


def counted(server: ServerProcess, *arguments: str) -> dict:
    """Return the final count of a run that must succeed."""
    result = simulate(server, "--json", *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(result.stdout)


def rows(server: ServerProcess) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(server.folder / "heliograph.db")) as database:
        return {
            kind: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for kind, table in TABLES.items()
        }


def acknowledged_rows(summary: dict) -> dict[str, int]:
    return {kind: summary["kinds"][kind]["acknowledged"]["rows"] for kind in TABLES}


def added(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {kind: after[kind] - before[kind] for kind in TABLES}


@pytest.mark.parametrize(
    "options",
    [
        ["--qos", "1"],
        ["--qos", "2"],
        ["--qos", "1", "--protocol", "3.1.1", "--batch", "7"],
        ["--qos", "2", "--protocol", "3.1.1"],
        ["--qos", "1", "--connections", "0", "--gateways", "2"],
    ],
    ids=" ".join,
)
def test_what_was_acknowledged_is_what_is_stored(server, options):
    before = rows(server)
    summary = counted(server, "--sensors", "5", "--rate", "100", "--duration", "1.5", *options)
    assert summary["messages"] > 50
    assert summary["unacknowledged"] == summary["refused"] == 0
    assert acknowledged_rows(summary) == added(before, rows(server))


def test_as_fast_as_it_can(server):
    before = rows(server)
    summary = counted(server, "--sensors", "20", "--rate", "0", "--duration", "1")
    # At a message a second of each sensor it would be twenty.
    assert summary["messages"] > 60
    assert acknowledged_rows(summary) == added(before, rows(server))


REPLAY = ("--replay", "2h", "--start", "2026-02-01T00:00:00Z", "--interval", "60")
DISORDER = ("--late", "0.1", "--repeated", "0.1")


def test_a_time_in_the_past_is_replayed_and_a_second_time_changes_nothing(server):
    before = rows(server)
    options = ("--sensors", "3", *REPLAY, *DISORDER)
    summary = counted(server, *options)
    stored = added(before, rows(server))
    sent = acknowledged_rows(summary)
    assert summary["late"]["rows"] > 0
    assert summary["repeated"]["rows"] > 0
    assert stored["measurement"] == sent["measurement"] - summary["repeated"]["rows"]
    assert (stored["log"], stored["heartbeat"]) == (sent["log"], 0)
    parameters = {"start": "2026-02-01T00:00:00Z", "end": "2026-02-01T02:00:00Z", "limit": 10_000}
    times = [
        entry["timestamp"][11:]
        for entry in server.http.get("/devices/sim-0001/history", params=parameters).json()
    ]
    # The first sensor is never silent.
    assert times == [
        f"{hour:02}:{minute:02}:00.000000Z" for hour in (1, 0) for minute in range(59, -1, -1)
    ]
    before = rows(server)
    counted(server, *options)
    assert added(before, rows(server)) == dict.fromkeys(TABLES, 0)


def test_a_replay_at_a_pace_and_in_batches(server):
    before = rows(server)
    options = ("--replay", "60s", "--interval", "10", "--batch", "3", "--speed", "50")
    summary = counted(server, "--sensors", "2", *options, "--start", "2026-02-02T00:00:00Z")
    assert summary["seconds"] >= 1.0
    assert acknowledged_rows(summary) == added(before, rows(server))
    assert summary["messages"] == summary["measurements"] / 3 <= 4
    entries = server.http.get(
        "/sensors/sim-0001/measurements",
        params={"attribute": "pressure", "points": 9, "start": 1_769_990_400, "end": 1_769_990_460},
    ).json()
    assert [entry["creation_timestamp"] - 1_769_990_400 for entry in entries] == [*range(0, 60, 10)]


def test_what_is_late_or_repeated_now_is_stored_once(server):
    before = rows(server)
    summary = counted(server, "--sensors", "2", "--rate", "200", "--duration", "1", *DISORDER)
    stored = added(before, rows(server))["measurement"]
    repeated = summary["repeated"]["rows"]
    assert repeated > 0
    assert stored == acknowledged_rows(summary)["measurement"] - repeated
    result = simulate(server, "--replay", "2m", *DISORDER)
    assert "of the messages late: " in result.stdout


@pytest.mark.parametrize(
    "options",
    [
        ("--replay", "yesterday"),
        ("--replay", "0h"),
        ("--start", "2026-02-01T00:00:00Z"),
        ("--replay", "1h", "--start", "yesterday"),
        ("--late", "2"),
        ("--interval", "0"),
    ],
)
def test_options_that_make_no_replay_are_refused(server, options):
    result = simulate(server, *options)
    assert result.returncode == 2
    assert options[-2] in result.stderr


def test_at_qos_0_it_counts_what_it_sent(server):
    summary = counted(server, "--rate", "50", "--duration", "1", "--qos", "0")
    assert summary["counted"] == "sent"
    assert summary["messages"] > 20


def test_devices_are_registered_once_and_seen_online_and_offline(server):
    counted(server, "--sensors", "12", "--rate", "50", "--duration", "0.5")
    counted(server, "--sensors", "12", "--rate", "50", "--duration", "0.5")
    devices = server.http.get("/devices", params={"limit": 10_000}).json()
    names = [device["device_id"] for device in devices]
    assert len(names) == len(set(names))
    assert {f"sim-{number:04d}" for number in range(1, 13)} <= set(names)


def test_a_configuration_is_taken_over_and_acknowledged(tmp_path):
    async def configure(device: Device) -> None:
        store = await open_store(f"sqlite:///{tmp_path}/heliograph.db")
        sensor = await store.sensors.find(device.device_id)
        await store.configurations.add(sensor.number, '{"interval":1}')
        await store.close()

    with serving(tmp_path) as server:
        asyncio.run(configure(server.device("sim-0001")))
        counted(server, "--sensors", "1", "--rate", "50", "--duration", "1")
    with contextlib.closing(sqlite3.connect(tmp_path / "heliograph.db")) as database:
        answers = database.execute(
            "SELECT revision, success FROM heartbeat WHERE revision IS NOT NULL"
        ).fetchall()
        (revision,) = database.execute(
            "SELECT revision FROM measurement ORDER BY timestamp DESC LIMIT 1"
        ).fetchone()
    assert (0, 1) in answers
    assert revision == 0


def test_text_says_the_same(server):
    before = rows(server)
    result = simulate(server, "--rate", "50", "--duration", "1")
    assert result.returncode == 0, result.stderr
    stored = added(before, rows(server))
    assert result.stdout.startswith(
        f"acknowledged: {counting.counted(stored['measurement'], 'message')}"
        f" with {counting.counted(stored['measurement'], 'measurement')} in "
    )
    assert "unacknowledged: 0, refused: 0" in result.stdout


def test_sensors_that_are_not_registered_are_refused(server):
    arguments = ["--sensors", "300", "--no-register", "--rate", "0", "--duration", "0.3", "--json"]
    result = simulate(server, *arguments)
    assert result.returncode == 1
    summary = json.loads(result.stdout)
    assert summary["refused"] > 0
    assert summary["unacknowledged"] == 0


def test_a_wrong_key_is_one_line(server):
    result = simulate(server, "--duration", "1", API_SECRET_KEY="wrong-but-long-enough")
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "the API_SECRET_KEY set here is not that of the server" in result.stderr
    result = simulate(server, "--no-register", "--username", "u", "--password", "wrong")
    assert result.returncode == 1
    assert result.stderr.startswith("heliograph: cannot connect by MQTT: ")
    assert result.stderr.count("\n") == 1


def test_nobody_there_is_one_line(server):
    result = simulate(server, "--no-register", "--port", str(free_port()))
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "Connection refused" in result.stderr


def test_the_local_key_goes_nowhere_else(server):
    result = simulate(server, "--host", "192.0.2.1", "--duration", "1")
    assert result.returncode == 1
    assert result.stderr.startswith("heliograph: HELIOGRAPH_API_KEY: required for another")


def test_a_user_name_needs_a_password(server):
    assert simulate(server, "--username", "u").returncode == 2


@contextlib.contextmanager
def endless_simulation(server: ServerProcess, *arguments: str) -> Iterator[Program]:
    """Run a simulation that has no end of its own, from its first stored rows on."""
    before = rows(server)["measurement"]
    with Program(
        *("simulate", "--rate", "50", "--json", *arguments),
        env=server.environment,
        cwd=server.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_for_rows(server, before + 10)
            yield process
        finally:
            process.kill()


def test_an_interrupt_waits_for_the_last_acknowledgments(server):
    before = rows(server)
    with endless_simulation(server) as process:
        process.send_signal(signal.SIGINT)
        output = process.stdout.read()
        assert process.wait(SECONDS) == 0
    assert acknowledged_rows(json.loads(output)) == added(before, rows(server))


def test_a_second_interrupt_waits_for_nothing(tmp_path):
    with (
        serving(tmp_path) as server,
        endless_simulation(server, "--drain", "600", "--rate", "500") as process,
    ):
        server.process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGINT)
        # More than two do no harm until it has ended its work; one alone would be waited on for
        # ten minutes.
        while not select.select([process.stdout], [], [], 1)[0]:
            process.send_signal(signal.SIGINT)
        summary = json.loads(process.stdout.read())
        process.wait(SECONDS)
        server.process.send_signal(signal.SIGCONT)
    assert process.returncode == 1
    assert summary["unacknowledged"] > 0


def wait_for_rows(server: ServerProcess, wanted: int) -> None:
    deadline = time.monotonic() + SECONDS
    while rows(server)["measurement"] < wanted:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("qos", ["1", "2"])
def test_nothing_acknowledged_is_lost_or_twice_when_the_server_is_killed(tmp_path, qos):
    with (
        serving(tmp_path) as server,
        Program(
            *("simulate", "--rate", "300", "--duration", "4", "--qos", qos, "--json"),
            env=server.environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as simulation,
    ):
        wait_for_rows(server, 200)
        server.restart()
        summary = json.loads(simulation.stdout.read())
        assert simulation.wait(SECONDS) == 0, summary
        assert summary["disconnections"] > 0
        assert acknowledged_rows(summary) == rows(server)


def test_over_tls(tmp_path):
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "certificate.pem").write_bytes(
        b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    )
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = {
        "MQTT_TLS_LISTEN": f"127.0.0.1:{free_port()}",
        "MQTT_TLS_CERTIFICATE": str(tmp_path / "certificate.pem"),
        "MQTT_TLS_KEY": str(tmp_path / "key.pem"),
    }
    with serving(tmp_path, **tls) as server:
        options = ["--host", "localhost", "--tls", "--sensors", "3", "--rate", "0"]
        ca = ["--ca", str(tmp_path / "ca.pem")]
        summary = counted(server, *options, *ca, "--duration", "1")
        assert summary["messages"] > 100
        assert acknowledged_rows(summary) == rows(server)
        result = simulate(server, *options, "--duration", "1")
        assert result.returncode == 1
        assert "certificate verify failed" in result.stderr


def test_a_terminal_shows_a_table(server):
    parent, child = pty.openpty()
    with Program(
        *("simulate", "--rate", "50", "--duration", "1.5"),
        env={**server.environment, "TERM": "xterm", "COLUMNS": "120"},
        cwd=server.folder,
        stdout=subprocess.DEVNULL,
        stderr=child,
    ) as process:
        os.close(child)
        shown = b""
        # Reading fails when the other end is closed.
        with contextlib.suppress(OSError):
            while chunk := os.read(parent, 4_096):
                shown += chunk
        os.close(parent)
        assert process.wait(SECONDS) == 0
    assert "acknowledged/s" in shown.decode()
    assert "10/10" in shown.decode()
