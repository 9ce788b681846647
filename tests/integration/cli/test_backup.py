"""`heliograph backup` and `heliograph restore`, on both engines."""

import asyncio
import contextlib
import fcntl
import json
import os
import re
import signal
import sqlite3
import stat
import uuid
from pathlib import Path
from unittest import mock

import psycopg
import pytest

from commands import called
from heliograph import backup_secrets
from heliograph.model.time import now
from heliograph.store import open_store, sqlite_backup
from heliograph.store.claim import Claim
from heliograph.store.engine import Batch
from heliograph.store.migrations.running import head
from packing_rows import pack_range
from postgresql import PROGRAMS
from rows import measurement

FIRST_REVISION = Path(__file__).parents[1] / "store" / "revision_0023.sqlite.sql"
PASSPHRASE = "correct horse battery staple"


@pytest.fixture
def place(database_url, tmp_path):
    """Where commands are given, with a folder for backups."""
    (tmp_path / "backups").mkdir()

    def call(*arguments, **environment):
        variables = {
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "DATABASE_URL": database_url,
            "DATA_DIRECTORY": str(tmp_path / "data"),
        }
        return called(*arguments, environment={**variables, **environment}, folder=tmp_path)

    call.folder = tmp_path
    return call


async def fill(database_url, *values):
    """Store readings of a new sensor."""
    store = await open_store(database_url)
    sensor = await store.sensors.create(identifier=str(uuid.uuid4()), created_at=1)
    rows = [measurement(sensor.number, now() + value, value) for value in values]
    await store.write(Batch(measurements=rows))
    await store.close()


async def packed(database_url):
    """Pack what the first sensor has, but for the newest."""
    store = await open_store(database_url)
    [(number,)] = await store.engine.fetch("sensor_numbers", after=0, limit=1)
    assert await pack_range(store.chunks, number, 0, 1 << 62) == 2
    await store.close()


async def values(database_url):
    store = await open_store(database_url)
    [(number,)] = await store.engine.fetch("sensor_numbers", after=0, limit=2)
    page = await store.measurements.page(number, key=0, limit=10)
    await store.close()
    return [bytes(row.value) for row in page]


async def stored(database_url):
    store = await open_store(database_url)
    _, sensors = await store.sensors.list(networks=None, offset=0, limit=1)
    change = await store.sensors.newest_change()
    await store.close()
    return sensors, change


def done(result):
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(result):
    assert result.returncode == 1, result.stdout
    [line] = result.stderr.splitlines()
    return line.removeprefix("heliograph: ")


def made(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_backup_holds_what_was_stored_and_is_put_back(place, database_url, engine):
    asyncio.run(fill(database_url, 1, 2, 3))
    asyncio.run(packed(database_url))
    backups = place.folder / "backups"
    told = json.loads(done(place("backup", "backups", "--json")))
    [name] = made(backups)
    assert name.endswith({"sqlite": ".db", "postgresql": ".dump"}[engine])
    assert stat.S_IMODE((backups / name).stat().st_mode) == 0o600
    assert told["file"] == f"backups/{name}"
    assert told["bytes"] == (backups / name).stat().st_size
    assert told["revision"] == head()
    counts = {name: told["rows"][name] for name in ("sensor", "measurement", "chunk")}
    assert counts == {"sensor": 1, "measurement": 1, "chunk": 1}

    before = asyncio.run(stored(database_url))
    asyncio.run(fill(database_url, 4))
    said = done(place("restore", f"backups/{name}"))
    assert "restored, 1 sensor, 1 measurement" in said
    assert asyncio.run(values(database_url)) == [b"1", b"2", b"3"]
    sensors, change = asyncio.run(stored(database_url))
    assert sensors == 1
    # Another database now: nothing that was known of the other is taken for known of this.
    assert change.version == before[1].version + 1
    assert change.token != before[1].token
    assert not asyncio.run(has_had(database_url, before[1]))

    # What was there is kept: a file of its own, or a schema.
    if engine == "sqlite":
        [folder] = place.folder.glob("replaced-*")
        assert f"what was there before: {folder}" in said
        assert sensors_in(folder / "heliograph.db") == 2
    else:
        with contextlib.closing(psycopg.connect(database_url)) as connection:
            [(schema,)] = connection.execute(
                "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, 'replaced_')"
            )
            [(count,)] = connection.execute(f"SELECT count(*) FROM {schema}.sensor")
            assert count == 2
            assert f"what was there before: schema {schema};" in said
            # It is no part of the next backup.
            told = json.loads(done(place("backup", "next", "--json")))
            assert told["rows"]["sensor"] == 1
            connection.execute(f"DROP SCHEMA {schema} CASCADE")
            connection.commit()
    # A restored database takes data as any.
    asyncio.run(fill(database_url, 5))
    assert asyncio.run(stored(database_url))[0] == 2


async def has_had(database_url, change):
    store = await open_store(database_url)
    try:
        return await store.sensors.has_had(change)
    finally:
        await store.close()


def sensors_in(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM sensor").fetchone()[0]


def test_restoring_refuses_what_it_should(place, database_url, engine):
    asyncio.run(fill(database_url, 1))
    done(place("backup", "mine"))
    (place.folder / "text").write_text("some text")
    (place.folder / "other").write_bytes(
        {"sqlite": b"PGDMP", "postgresql": b"SQLite format 3\0"}[engine]
    )
    assert refused(place("restore", "text")) == "text is no backup of Heliograph"
    assert refused(place("restore", "none")).startswith("can't read none: No such file")
    assert "is a backup of" in refused(place("restore", "other"))
    data = bytearray((place.folder / "mine").read_bytes())
    (place.folder / "half").write_bytes(data[: len(data) // 2])
    assert refused(place("restore", "half"))
    assert asyncio.run(stored(database_url))[0] == 1
    assert not list(place.folder.glob("replaced-*"))
    assert refused(place("backup", "text")).startswith("text is there, and is no backup")
    assert refused(place("backup", "no/where")) == "there is no folder no"
    assert refused(place("backup", "nowhere/")) == "there is no folder nowhere"
    assert refused(place("backup", "nowhere", "--keep", "2")) == "there is no folder nowhere"


def test_restoring_refuses_a_newer_version_by_name(place, database_url, engine):
    statement = "UPDATE alembic_version SET version_num = '9999'"
    if engine == "sqlite":
        done(place("backup", "newer"))
        with contextlib.closing(sqlite3.connect(place.folder / "newer")) as connection:
            connection.execute(statement)
            connection.commit()
    else:
        with psycopg.connect(database_url) as connection:
            connection.execute(statement)
        done(place("backup", "newer"))
        with psycopg.connect(database_url) as connection:
            connection.execute(statement.replace("9999", head()))
    assert "revision 9999, which is newer than this version's" in refused(place("restore", "newer"))


class TestSqlite:
    @pytest.fixture
    def engine(self):
        return "sqlite"

    def test_a_server_is_not_restored_under(self, place, database_url):
        done(place("backup", "mine"))
        claim = Claim(database_url)
        try:
            said = refused(place("restore", "mine"))
        finally:
            claim.release()
        assert said == f"a server uses {database_url.removeprefix('sqlite:///')}: stop it first"
        assert made(place.folder / "backups") == []

    def test_what_belongs_to_a_file_is_moved_with_it(self, place, database_url):
        """Left beside the backup, another's log would be applied to it or refused."""
        path = place.folder / "heliograph.db"
        done(place("backup", "mine"))
        beside = ("heliograph.db-generation", "heliograph.db-wal")
        for name in beside:
            (place.folder / name).write_bytes(b"x" * 100)
        done(place("restore", "mine"))
        [folder] = place.folder.glob("replaced-*")
        assert set(beside) | {path.name} <= set(made(folder))
        assert not set(beside) & set(made(place.folder))
        asyncio.run(fill(database_url, 1))

    def test_nothing_is_left_of_a_backup_that_fails(self, place):
        (place.folder / "damaged.db").write_bytes(b"SQLite format 3\0" + bytes(4096))
        damaged = f"sqlite:///{place.folder}/damaged.db"
        assert refused(place("backup", "backups", DATABASE_URL=damaged))
        assert made(place.folder / "backups") == []
        (place.folder / "backups" / "kept").write_bytes(b"SQLite format 3\0 and more")
        assert refused(place("backup", "backups/kept", DATABASE_URL=damaged))
        assert made(place.folder / "backups") == ["kept"]
        assert (place.folder / "backups" / "kept").stat().st_size == 25

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_one_that_is_told_to_end_leaves_nothing(self, place, number):
        def told(path, part):
            assert made(place.folder / "backups") == [part.name]
            os.kill(os.getpid(), number)

        with mock.patch.object(sqlite_backup, "back_up", told):
            assert place("backup", "backups").returncode == 128 + number
        assert made(place.folder / "backups") == []

    def test_what_killed_ones_left_is_cleared(self, place):
        backups = place.folder / "backups"
        dated = "heliograph-20260101T000000Z.db"
        for name in (f"{dated}.part", f"{dated}.secrets.part", "mine.db.part"):
            (backups / name).write_bytes(b"half")
        another = backups / "heliograph-20260102T000000Z.db.part"
        with another.open("wb") as writing:
            fcntl.flock(writing, fcntl.LOCK_EX)
            done(place("backup", "backups"))
        left = made(backups)
        assert {another.name, "mine.db.part"} < set(left)
        assert len(left) == 3

    def test_a_pipe_is_neither_written_nor_read(self, place):
        os.mkfifo(place.folder / "pipe")
        assert refused(place("backup", "pipe")) == "pipe is no file"
        assert refused(place("restore", "pipe")) == "pipe is no file"

    def test_damage_is_found(self, place):
        done(place("backup", "mine"))
        data = bytearray((place.folder / "mine").read_bytes())
        data[8192:12288] = b"\xff" * 4096
        (place.folder / "mine").write_bytes(data)
        assert refused(place("restore", "mine")).startswith("mine ")

    def test_the_database_is_never_written_over(self, place):
        said = refused(place("backup", "heliograph.db"))
        assert said.startswith("heliograph.db is ")
        (place.folder / "link").symlink_to("heliograph.db")
        assert refused(place("backup", "link"))

    def test_a_number_of_backups_is_kept(self, place):
        backups = place.folder / "backups"
        names = [f"heliograph-2026010{day}T000000Z.db" for day in range(1, 6)]
        for name in [*names, "before-the-upgrade.db", "heliograph-20260101T000000Z.dump"]:
            (backups / name).touch()
        (backups / f"{names[0]}.secrets").touch()
        said = done(place("backup", "backups", "--keep", "3"))
        assert [line.rpartition("/")[2] for line in said.splitlines()[1:]] == names[:3]
        left = set(made(backups))
        assert left > {*names[3:], "before-the-upgrade.db", "heliograph-20260101T000000Z.dump"}
        assert not left & {*names[:3], f"{names[0]}.secrets"}
        assert refused(place("backup", "one", "--keep", "3")) == "there is no folder one"
        (place.folder / "one").touch()
        assert place("backup", "one", "--keep", "3").returncode == 2

    def test_secrets_go_along_under_a_passphrase_alone(self, place, monkeypatch):
        monkeypatch.setattr(backup_secrets, "_COST", 1 << 4)
        secret = "canary-admin-key-9d1f"
        data = place.folder / "data"
        data.mkdir()
        (data / "secrets_key").write_text("A" * 43 + "=\n")
        variables = {"API_SECRET_KEY": secret, "BACKUP_PASSPHRASE": PASSPHRASE}
        assert secret not in done(place("backup", "backups", **variables))
        assert not list((place.folder / "backups").glob("*.secrets"))
        said = done(place("backup", "mine", "--with-secrets", **variables))
        assert "mine.secrets: secrets, encrypted" in said
        assert stat.S_IMODE((place.folder / "mine.secrets").stat().st_mode) == 0o600
        for path in (place.folder / "mine", place.folder / "mine.secrets"):
            assert secret.encode() not in path.read_bytes()
        too_short = {**variables, "BACKUP_PASSPHRASE": "short"}
        assert "12 characters" in refused(place("backup", "x", "--with-secrets", **too_short))
        assert "BACKUP_PASSPHRASE: required" in refused(place("backup", "x", "--with-secrets"))
        assert not (place.folder / "x").exists()

        (data / "secrets_key").write_text("B" * 43 + "=\n")
        wrong = {"BACKUP_PASSPHRASE": PASSPHRASE + "!"}
        said = refused(place("restore", "mine", "--with-secrets", **wrong))
        assert said.startswith("the secrets can't be decrypted")
        done(place("restore", "mine", "--with-secrets", BACKUP_PASSPHRASE=PASSPHRASE))
        assert (data / "secrets_key").read_text() == "B" * 43 + "=\n"
        assert (data / "secrets_key.restored").read_text() == "A" * 43 + "=\n"
        assert f"API_SECRET_KEY='{secret}'\n" in (data / "secrets.env").read_text()
        (place.folder / "mine.secrets").write_text("{}")
        said = refused(place("restore", "mine", "--with-secrets", BACKUP_PASSPHRASE=PASSPHRASE))
        assert said == "this is no file of secrets that heliograph backup has made"

    def test_a_migration_takes_a_backup_first(self, place):
        path = place.folder / "old.db"
        variables = {"DATABASE_URL": f"sqlite:///{path}", "MIGRATION_BACKUPS": "2"}
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(FIRST_REVISION.read_text())
        earlier = [f"old.db-before-0023-2026010{day}T000000Z" for day in (1, 2)]
        for name in (*earlier, f"{earlier[0]}.part"):
            (place.folder / name).touch()
        migrated = place("migrate", **variables)
        assert f"→ {head()}" in done(migrated)
        [told] = re.findall(r"^backup before the migration: (.+)$", migrated.stderr, re.MULTILINE)
        left = {name for name in made(place.folder) if name.startswith("old.db-before-")}
        assert left == {earlier[1], told.rpartition("/")[2]}
        # It is of the revision that it was of, and is restored as any.
        with contextlib.closing(sqlite3.connect(told)) as connection:
            [revision] = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        assert revision == "0023"
        assert "restored" in done(place("restore", told, **variables))
        # Where nothing changes none is taken, nor where none is wanted.
        assert "→" in done(place("migrate", **{**variables, "MIGRATION_BACKUPS": "0"}))
        assert place("migrate", **variables).stdout == f"{head()}: nothing to do\n"
        assert {name for name in made(place.folder) if name.startswith("old.db-before-")} == left


class TestPostgresql:
    @pytest.fixture
    def engine(self):
        return "postgresql"

    def test_an_older_pg_dump_is_named(self, place):
        old = place.folder / "bin"
        old.mkdir()
        (old / "pg_dump").write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n")
        (old / "pg_dump").chmod(0o755)
        said = refused(place("backup", "backups", PATH=f"{old}:{os.environ['PATH']}"))
        assert f"{old}/pg_dump is of version 9, older than the server's" in said
        assert refused(place("backup", "backups", PATH=str(place.folder))).startswith(
            "pg_dump is not installed"
        )
        assert made(place.folder / "backups") == []

    def test_doctor_tells_before_a_backup_fails(self, place):
        old = place.folder / "bin"
        old.mkdir()
        path = f"{old}:{PROGRAMS}:{os.environ['PATH']}"

        def found(path):
            findings = json.loads(place("doctor", "--json", PATH=path).stdout)["findings"]
            [finding] = [each for each in findings if each["check"] == "backup"]
            return finding["state"], finding["found"]

        assert found(path)[0] == "ok"
        (old / "pg_dump").write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n")
        (old / "pg_dump").chmod(0o755)
        state, said = found(path)
        assert (state, "is of version 9, older than the server's" in said) == ("warning", True)
        assert found(str(place.folder))[0] == "skipped"

    def test_no_password_is_in_arguments(self, place, database_url):
        spying = place.folder / "bin"
        spying.mkdir()
        seen = place.folder / "seen"
        (spying / "pg_dump").write_text(
            f'#!/bin/sh\necho "$@" >> {seen}\necho "$PGPASSWORD" >> {seen}.env\n'
            f'exec {PROGRAMS}/pg_dump "$@"\n'
        )
        (spying / "pg_dump").chmod(0o755)
        with_password = database_url.replace("postgres@", "postgres:canary-4711@")
        path = f"{spying}:{PROGRAMS}:{os.environ['PATH']}"
        done(place("backup", "mine", DATABASE_URL=with_password, PATH=path))
        assert "--format=custom" in seen.read_text()
        assert "canary-4711" not in seen.read_text()
        assert "canary-4711" in (place.folder / "seen.env").read_text()

    def test_a_restore_that_fails_changes_nothing(self, place, database_url):
        asyncio.run(fill(database_url, 1))
        done(place("backup", "mine"))
        asyncio.run(fill(database_url, 2))
        failing = place.folder / "bin"
        failing.mkdir()
        (failing / "pg_restore").write_text(
            f'#!/bin/sh\ncase "$*" in *--dbname*) echo "pg_restore: error: no" >&2; exit 1;; esac\n'
            f'exec {PROGRAMS}/pg_restore "$@"\n'
        )
        (failing / "pg_restore").chmod(0o755)
        path = f"{failing}:{os.environ['PATH']}"
        assert refused(place("restore", "mine", PATH=path)) == "pg_restore: error: no"
        assert asyncio.run(stored(database_url))[0] == 2

    def test_a_server_is_not_restored_under(self, place, database_url):
        done(place("backup", "mine"))

        async def living():
            store = await open_store(database_url)
            await store.instances.take("token", 60_000_000)
            said = await asyncio.to_thread(place, "restore", "mine")
            await store.close()
            return said

        assert "a server uses" in refused(asyncio.run(living()))
