"""`heliograph doctor` and GET /doctor: what is wrong is named, with what to do."""

import asyncio
import contextlib
import datetime as dt
import errno
import json
import resource
import sqlite3
import uuid
from unittest import mock

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from commands import called
from heliograph import doctor
from heliograph.doctor import Finding, Grade
from heliograph.model.time import HOUR, now
from heliograph.settings import Settings
from heliograph.store import open_store
from heliograph.store.engine import Batch
from heliograph.store.migrations.running import head
from ports import free_port
from rows import measurement
from server import running


@pytest.fixture
def place(tmp_path, sqlite_url, restored_logging):
    """Where commands are given: a SQLite file, and no server."""

    def call(*arguments, **environment):
        variables = {
            "DATABASE_URL": sqlite_url,
            "DATA_DIRECTORY": str(tmp_path),
            "PORT": str(free_port()),
            "MQTT_MAX_CONNECTIONS": "10",
        }
        return called(*arguments, environment={**variables, **environment}, folder=tmp_path)

    call.folder = tmp_path
    call.url = sqlite_url
    (tmp_path / "heliograph.db").chmod(0o600)
    # What the machine of the test is like is its own affair.
    with (
        mock.patch.object(doctor, "_is_synchronized", return_value=True),
        mock.patch.object(doctor, "NO_FLUSH_SECONDS", 0),
        mock.patch.object(doctor, "SLOW_FLUSH_SECONDS", 1e9),
        mock.patch.object(doctor, "NO_ROOM_BYTES", 0),
        mock.patch.object(doctor, "LEAST_FREE_BYTES", 0),
    ):
        yield call


def examined(result):
    """Return the exit status, and what was found that is not all right, by check."""
    told = json.loads(result.stdout)
    status = {"ok": 0, "warning": 1, "failure": 2}[told["status"]]
    assert result.returncode == status
    bad = {
        each["check"]: each for each in told["findings"] if each["state"] in ("warning", "failure")
    }
    return status, bad


def test_all_is_well(place):
    result = place("doctor")
    assert result.returncode == 0, result.stdout
    lines = result.stdout.splitlines()
    assert f"ok       migrations    revision {head()}" in lines
    assert "ok       integrity     no damage found" in lines
    assert any(line.startswith("skipped  server        none answers at") for line in lines)
    assert examined(place("doctor", "--json")) == (0, {})


def test_what_is_wrong_is_named(place):
    folder = place.folder

    def bad(check, status, said, **environment):
        got, found = examined(place("doctor", "--json", **environment))
        assert (got, said in found[check]["found"]) == (status, True), found
        assert found[check]["advice"]

    bad("settings", 2, "PORT: ", PORT="none")
    bad("settings", 1, "DISK_BUDGETT", DISK_BUDGETT="1 GB")
    bad("budget", 2, "0.0 MiB used", DISK_BUDGET="1000")
    (folder / "heliograph.db").chmod(0o644)
    bad("permissions", 1, "heliograph.db may be read")
    (folder / "heliograph.db").chmod(0o600)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < 1_000_000:
        bad("limits", 1, f"{hard} files may be open", MQTT_MAX_CONNECTIONS="1000000")
    with mock.patch.object(doctor, "NO_ROOM_BYTES", 1 << 62):
        bad("disk", 2, "free")
    with mock.patch.object(doctor, "SLOW_FLUSH_SECONDS", 0):
        bad("flushing", 1, "ms to flush")
    with mock.patch.object(doctor, "_is_synchronized", return_value=False):
        bad("clock", 1, "nothing keeps it synchronized")
    asyncio.run(_store(place.url, now() + HOUR))
    bad("clock", 2, "rows were stored until")
    _execute(folder, "UPDATE alembic_version SET version_num = '9999'")
    bad("migrations", 2, "newer than this version's")
    result = place("doctor", DATABASE_URL=f"sqlite:///{folder}/none.db")
    assert result.returncode == 2
    assert "there is no database of Heliograph" in result.stdout
    assert not (folder / "none.db").exists()
    with contextlib.closing(sqlite3.connect(folder / "another.db")) as connection:
        connection.execute("CREATE TABLE another (a)")
    bad(
        "database",
        2,
        "there is no database of Heliograph",
        DATABASE_URL=f"sqlite:///{folder}/another.db",
    )
    bad("broker", 2, "nothing listens at mqtt://", MQTT_URL=f"mqtt://127.0.0.1:{free_port()}")


def test_a_full_disk_is_not_taken_for_another_users(tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device")
    with mock.patch.object(doctor, "_flushing", side_effect=full):
        findings = list(doctor.examine_machine(Settings(data_directory=tmp_path)))
    [found] = [each for each in findings if "No space left" in each.found]
    assert found.advice.startswith("make room")


def test_a_folder_that_is_not_there_is_missed_where_it_is_needed(tmp_path):
    gone = tmp_path / "gone"
    urls = {f"sqlite:///{gone}/a.db": Grade.FAILURE, "postgresql://db/a": Grade.SKIPPED}
    for url, state in urls.items():
        settings = Settings(database_url=url, data_directory=gone)
        [found] = [each for each in doctor.examine_machine(settings) if each.check == "disk"]
        assert (found.state, found.advice) == (state, "make it, or correct DATA_DIRECTORY")


async def test_a_broker_that_is_there_is_reached():
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as hub:
        port = hub.sockets[0].getsockname()[1]
        found = await doctor.examine_broker(Settings(mqtt_url=f"mqtt://127.0.0.1:{port}"))
    assert found == Finding("broker", Grade.OK, f"mqtt://127.0.0.1:{port} can be reached")
    assert await doctor.examine_broker(Settings()) is None


def test_damage_is_found(place):
    _execute(place.folder, "PRAGMA wal_checkpoint(TRUNCATE)")
    path = place.folder / "heliograph.db"
    data = bytearray(path.read_bytes())
    with contextlib.closing(sqlite3.connect(path)) as connection:
        [(root,)] = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'packet'")
    data[(root - 1) * 4096 : (root - 1) * 4096 + 100] = b"\xff" * 100
    path.write_bytes(data)
    status, found = examined(place("doctor", "--json"))
    assert status == 2
    assert found["integrity"]["advice"].startswith("stop the server, and restore a backup")


async def _store(url, receipt):
    store = await open_store(url)
    sensor = await store.sensors.create(identifier=str(uuid.uuid4()), created_at=1)
    await store.write(Batch(measurements=[measurement(sensor.number, receipt, receipt=receipt)]))
    await store.close()


def _execute(folder, statement):
    with contextlib.closing(sqlite3.connect(folder / "heliograph.db")) as connection:
        connection.execute(statement)
        connection.commit()


async def test_postgresql_that_does_not_flush_is_named(postgresql_url, postgresql_cluster):
    settings = Settings(database_url=postgresql_url)
    store = await open_store(postgresql_url)
    try:
        found = {each.check: each for each in await doctor.examine_database(settings, store)}
    finally:
        await store.close()
    assert found["database"].found.rpartition(", ")[2].startswith("PostgreSQL 1")
    assert found["integrity"] == Finding("integrity", Grade.OK, "no damage found")
    # As the tests' own server runs, for nobody pulls its plug.
    assert postgresql_cluster.execute("SHOW fsync") == "off"
    assert found["durability"].state is Grade.FAILURE
    assert "fsync=off" in found["durability"].found


async def test_the_administrator_asks_the_server(tmp_path):
    async with running(tmp_path) as server:
        answer = await server.http.get("/doctor")
        assert answer.status_code == 200
        told = answer.json()
        assert told["status"] in ("ok", "warning")
        found = {each["check"]: each for each in told["findings"]}
        assert found["server"]["found"] == "takes data"
        assert found["integrity"]["state"] == "ok"
        device = await server.device()
        refused = await server.http.get("/doctor", headers={"X-API-Key": device.key})
        assert refused.status_code == 403


def test_certificates_are_looked_at(tmp_path, certificate):
    for days, state in ((-1, Grade.FAILURE), (3, Grade.WARNING), (90, Grade.OK)):
        path = certificate(days)
        settings = Settings(https_certificate=path, https_key=_key(path), data_directory=tmp_path)
        [found] = doctor._certificates(settings)
        assert found.state is state, found
    for wrong in (_key(certificate(3)), path):
        settings = Settings(https_certificate=path, https_key=wrong, data_directory=tmp_path)
        [found] = doctor._certificates(settings)
        assert found.state is Grade.FAILURE, found
        assert found.found.startswith("HTTPS_")
    gone = Settings(https_certificate=path, data_directory=tmp_path)
    path.unlink()
    [found] = doctor._certificates(gone)
    assert found.state is Grade.FAILURE


@pytest.fixture
def certificate(tmp_path):
    """Make a certificate that expires in so many days."""

    def make(days):
        key = ed25519.Ed25519PrivateKey.generate()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        ends = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
        made = (
            x509.CertificateBuilder()
            .subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(1).not_valid_before(ends - dt.timedelta(days=100)).not_valid_after(ends)
            .sign(key, None)
        )  # fmt: skip
        path = tmp_path / f"certificate{days}.pem"
        path.write_bytes(made.public_bytes(Encoding.PEM))
        _key(path).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return path

    return make


def _key(certificate):
    """Return where the key of a certificate is."""
    return certificate.with_suffix(".key")
