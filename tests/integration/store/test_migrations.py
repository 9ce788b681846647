"""Migrations, on both engines: as the program runs them, and by the `alembic` command."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from aggregating import aggregates_of
from heliograph.errors import StartError
from heliograph.model.time import DAY, HOUR, MINUTE, now
from heliograph.store import migrate, open_store, run_migrations
from heliograph.store.migrations.running import DATABASE_URL_VARIABLE, head
from postgresql import PROGRAMS

ROOT = Path(__file__).parents[3]


@pytest.fixture
def empty_url(engine, tmp_path, request):
    """The DATABASE_URL of a database without any table."""
    if engine == "sqlite":
        yield f"sqlite:///{tmp_path}/new/folder/heliograph.db"
        return
    cluster = request.getfixturevalue("postgresql_cluster")
    name = cluster.create_database()
    yield cluster.dsn(name)
    cluster.drop_database(name)


def schema(url):
    """Return what the database's schema says of itself, without Alembic's own table."""
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema")
            # AUTOINCREMENT's own table stays when it is empty.
            found = sorted(
                row for row in rows if row[2] not in ("alembic_version", "sqlite_sequence")
            )
        connection.close()
        return found
    dump = subprocess.run(
        [PROGRAMS / "pg_dump", "--schema-only", "--exclude-table=alembic_version", url],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    return [line for line in dump if line and not line.startswith(("--", "\\", "SET ", "SELECT "))]


def query(url, statement):
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
        found = connection.execute(statement).fetchall()
        connection.commit()
        connection.close()
        return found
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchall()


async def state(url):
    store = await open_store(url)
    try:
        return await store.migration_state()
    finally:
        await store.close()


def test_the_head_is_what_alembic_takes_it_for():
    script = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))
    assert script.get_heads() == [head()]


async def test_opening_does_not_migrate(empty_url):
    assert await state(empty_url) == (None, head())


async def test_up_down_and_up_again_ends_in_the_same_schema(empty_url):
    await migrate(empty_url)
    assert await state(empty_url) == (head(), head())
    first = schema(empty_url)
    assert any("measurement_key" in str(line) for line in first)
    run_migrations(empty_url, "base", downgrade=True)
    assert schema(empty_url) == []
    assert await state(empty_url) == (None, head())
    await migrate(empty_url)
    assert schema(empty_url) == first
    assert query(empty_url, "SELECT name FROM network") == [("default",)]


async def test_migrating_what_is_current_changes_nothing(empty_url):
    await migrate(empty_url)
    before = schema(empty_url), query(empty_url, "SELECT * FROM network")
    await migrate(empty_url)
    run_migrations(empty_url)
    assert (schema(empty_url), query(empty_url, "SELECT * FROM network")) == before


async def test_what_is_stored_already_is_to_be_rolled_up(empty_url):
    await asyncio.to_thread(run_migrations, empty_url, "0010")
    store = await open_store(empty_url)
    sensors = [
        (await store.sensors.create(identifier=str(uuid.uuid4()), created_at=1)).number
        for _ in range(3)
    ]
    moment = now()
    await store.close()
    if empty_url.startswith("postgresql"):
        with psycopg.connect(empty_url) as connection:
            connection.execute(
                "CREATE TABLE measurement_since PARTITION OF measurement"
                " FOR VALUES FROM (1577836800000000) TO (MAXVALUE)"
            )
    times = [(0, moment - 3 * DAY), (0, moment - 5), (1, moment - MINUTE)]
    for number, (which, timestamp) in enumerate(times):
        query(
            empty_url,
            "INSERT INTO measurement (id, sensor, timestamp, fingerprint, receipt_timestamp, value)"
            f" VALUES ({number}, {sensors[which]}, {timestamp}, 1, 1, '7') RETURNING id",
        )
    await migrate(empty_url)
    store = await open_store(empty_url)
    standing = [await aggregates_of(store).standing(sensor) for sensor in sensors]
    frontier = standing[0].frontier
    assert moment - 2 * HOUR - MINUTE < frontier <= moment - HOUR + MINUTE
    assert frontier % HOUR == 0
    first = moment - 3 * DAY
    assert [each.dirty for each in standing] == [[(first - first % HOUR, frontier)], [], []]
    await store.close()


# Ends the process as kill -9 would, before the statement with the number given.
KILLED = textwrap.dedent(
    """
    import os, runpy, signal, sys
    from heliograph.store.migrations import statements
    split, last = statements.split, int(sys.argv.pop(1))
    def dying(script, **options):
        for number, statement in enumerate(split(script, **options)):
            if number == last:
                os.kill(os.getpid(), signal.SIGKILL)
            yield statement
    statements.split = dying
    runpy.run_module("heliograph.store.migrations", run_name="__main__")
    """
)


@pytest.mark.parametrize("statements", [1, 20])
async def test_a_migration_killed_halfway_starts_again(empty_url, statements, engine):
    await (await open_store(empty_url)).close()
    killed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", KILLED, str(statements), "upgrade", "head"],
        env={**os.environ, DATABASE_URL_VARIABLE: empty_url},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -9, killed.stderr
    assert schema(empty_url) == []
    await migrate(empty_url)
    assert await state(empty_url) == (head(), head())


async def test_several_instances_may_migrate_at_once(empty_url):
    await asyncio.gather(*(asyncio.to_thread(run_migrations, empty_url) for _ in range(2)))
    assert query(empty_url, "SELECT count(*) FROM network") == [(1,)]


def alembic(url, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url, "APP_ENV": "test"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.uncovered
async def test_the_alembic_command_works_with_the_same_settings(empty_url):
    url = empty_url.replace("sqlite:", "sqlite+aiosqlite:").replace(
        "postgresql:", "postgresql+asyncpg:"
    )
    alembic(url, "upgrade", "head")
    assert f"{head()} (head)" in alembic(url, "current")
    assert await state(url) == (head(), head())
    names = "sqlite_master" if url.startswith("sqlite") else "pg_class"
    column = "name" if url.startswith("sqlite") else "relname"
    found = {name for (name,) in query(empty_url, f"SELECT {column} FROM {names}")}
    assert found >= {"alembic_version", "devices", "readings"}
    alembic(url, "downgrade", "-1")
    newest = ScriptDirectory.from_config(Config(ROOT / "alembic.ini")).get_revision(head())
    assert await state(url) == (newest.down_revision, head())


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("./dev.db", "DATABASE_URL"),
        ("mysql://x/y", "DATABASE_URL"),
        ("sqlite:////proc/no/such/folder/x.db", "/proc/no/such/folder/x.db"),
        ("postgresql://user:secret@127.0.0.1:1/x", "127.0.0.1:1/x"),
        ("postgresql://user:secret@127.0.0.1:1/x?sslmode=wrong", "127.0.0.1:1/x"),
    ],
)
async def test_what_cannot_be_opened_is_told_in_one_line(url, expected):
    for opening in (open_store(url), migrate(url)):
        with pytest.raises(StartError) as raised:
            await opening
        message = str(raised.value)
        assert expected in message
        assert "\n" not in message
        assert "secret" not in message


def test_a_failed_migration_is_told_in_one_line(tmp_path):
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE sensor (x)")
    connection.close()
    with pytest.raises(StartError, match="table sensor already exists") as raised:
        run_migrations(f"sqlite:///{path}")
    assert "\n" not in str(raised.value)


def test_a_file_that_is_no_database_is_told(tmp_path):
    path = tmp_path / "text.db"
    path.write_text("not a database, but long enough to be taken for one" * 100)
    with pytest.raises(StartError, match="not a database"):
        asyncio.run(open_store(f"sqlite:///{path}"))
