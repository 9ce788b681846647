"""Migrations, on both engines: as the program runs them, and by the `alembic` command."""

import asyncio
import os
import re
import sqlite3
import subprocess
import uuid
from pathlib import Path

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from heliograph.errors import StartError
from heliograph.model.aggregation import aggregate
from heliograph.model.time import DAY, now
from heliograph.rollups.packing import pack
from heliograph.rollups.rollup import Rollup, folded
from heliograph.store import migrate, open_store, run_migrations
from heliograph.store.engine import Batch, RollupChange, json_text
from heliograph.store.migrations.running import DATABASE_URL_VARIABLE, head
from postgresql import PROGRAMS
from program import run

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


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


@pytest.fixture
def fresh_url(database_url):
    """The DATABASE_URL of another database, that this version has migrated."""
    return database_url


def schema(url):
    """Return what the database's schema says of itself, without Alembic's own table."""
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
        rows = connection.execute(
            "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name, type"
        ).fetchall()
        # AUTOINCREMENT's own table stays when it is empty.
        found = [
            (kind, name, table(connection, name, sql) if kind == "table" else sql.split())
            for kind, name, sql in rows
            if name not in ("alembic_version", "sqlite_sequence")
        ]
        connection.close()
        return found
    dump = subprocess.run(
        [PROGRAMS / "pg_dump", "--schema-only", "--exclude-table=alembic_version", url],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    return [line for line in dump if line and not line.startswith(("--", "\\", "SET ", "SELECT "))]


def table(connection, name, sql):
    """Return what a table of SQLite is, however it came to be: ALTER TABLE leaves other text."""

    def pragma(pragma, about):
        return connection.execute(f"PRAGMA {pragma}({about})").fetchall()

    # Without its number in the order of creation and its name, which may be made of that.
    indexes = sorted(
        (rest, [row[2] or "expression" for row in pragma("index_info", index)])
        for _, index, *rest in pragma("index_list", name)
    )
    references = sorted(row[2:] for row in pragma("foreign_key_list", name))
    words = sorted(re.findall(r"CHECK \(.*?\)|AUTOINCREMENT|STRICT|WITHOUT ROWID", sql))
    return pragma("table_xinfo", name), indexes, references, words


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


def build_old(url):
    """Make the database that the last of the old revisions left."""
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path)
        connection.executescript((HERE / "revision_0023.sqlite.sql").read_text())
        connection.close()
        return
    with psycopg.connect(url) as connection:
        connection.execute((HERE / "revision_0023.postgresql.sql").read_text())


async def fill(url):
    """Store something of most kinds."""
    store = await open_store(url)
    new = {"identifier": str(uuid.uuid4()), "created_at": 1}
    await store.accounts.create(**new, username="ada", password_hash="x")
    await store.networks.create(**new, name="roof", owner=new["identifier"])
    sensor = await store.sensors.create(**new, network_identifier=new["identifier"])
    moment = now()
    row = (sensor.number, moment, 1, moment, None, None)  # to `device_timestamp`
    await store.write(
        Batch(
            measurements=[(n, *row[:2], n, *row[3:], "7") for n in range(3)],
            logs=[(3, *row, "warning", "Battery", None)],
            heartbeats=[(4, *row, True, None)],
        )
    )
    await store.close()


def fill_old(url):
    """Store something of most kinds in a database of the first revision."""
    network = "(SELECT identifier FROM network)"
    for table, columns, values in (
        ("account", "identifier, username, password_hash, created_at", "'a', 'bob', 'x', 1"),
        ("membership", "network, account, role, created_at", f"{network}, 'a', 3, 1"),
        ("sensor", "identifier, network_identifier, created_at", f"'s', {network}, 1"),
        *(
            ("measurement", "id, sensor, timestamp, fingerprint, receipt_timestamp, value", row)
            for row in ("9, 1, 5, 1, 5, '7'", "8, 1, 5, 2, 5, '7'", "7, 1, 5, 3, 5, '7'")
        ),
    ):
        query(url, f"INSERT INTO {table} ({columns}) VALUES ({values}) RETURNING 1")


def counts(url):
    """Return the number of rows of each table."""
    names = (
        "SELECT name FROM sqlite_schema WHERE type = 'table' OR name = 'measurement'"
        if url.startswith("sqlite")
        else "SELECT relname FROM pg_class"
        " WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
    )
    return {name: query(url, f"SELECT count(*) FROM {name}")[0][0] for (name,) in query(url, names)}


async def test_a_database_at_the_last_old_revision_goes_on_from_the_first(empty_url, fresh_url):
    build_old(empty_url)
    fill_old(empty_url)
    before = counts(empty_url)
    assert before["measurement"] == 3
    await migrate(empty_url)
    run_migrations(empty_url)
    alembic(empty_url, "upgrade", "head")
    assert await state(empty_url) == (head(), head())
    # It was in use before packing came.
    packs = "SELECT by_itself FROM packing_state"
    assert [query(url, packs) for url in (empty_url, fresh_url)] == [[(False,)], [(True,)]]
    after = counts(empty_url)
    assert {name: after[name] for name in before} == before
    for url in (empty_url, fresh_url):
        await fill(url)
    assert schema(empty_url) == schema(fresh_url)
    assert counts(fresh_url).keys() == counts(empty_url).keys()


async def test_a_database_at_an_older_revision_is_told_what_to_do_and_left_alone(empty_url):
    build_old(empty_url)
    query(empty_url, "UPDATE alembic_version SET version_num = '0017' RETURNING 1")
    before = schema(empty_url), counts(empty_url)
    told = r"revision 0017, .* run heliograph migrate from commit \w{7} first"
    with pytest.raises(StartError, match=told):
        await migrate(empty_url)
    for arguments in (("upgrade", "head"), ("current",), ("downgrade", "-1"), ("stamp", "head")):
        done = run_alembic(empty_url, *arguments)
        assert done.returncode != 0
        assert re.search(told, done.stdout + done.stderr)
        assert "Traceback" not in done.stdout + done.stderr
    assert (schema(empty_url), counts(empty_url)) == before
    assert await state(empty_url) == ("0017", head())


async def test_a_database_of_a_newer_version_is_told_what_to_do_and_left_alone(empty_url):
    run_migrations(empty_url)
    query(empty_url, "UPDATE alembic_version SET version_num = '9999' RETURNING 1")
    before = schema(empty_url), counts(empty_url)
    told = "revision 9999, .* use the version that made it"
    with pytest.raises(StartError, match=told):
        await migrate(empty_url)
    done = run_alembic(empty_url, "upgrade", "head")
    assert done.returncode != 0
    assert re.search(told, done.stdout + done.stderr)
    assert (schema(empty_url), counts(empty_url)) == before


async def test_going_back_to_nothing_drops_nothing_that_is_stored(database_url):
    await fill(database_url)
    rollup = Rollup()
    for hour, values in ((3, [20.25, 1]), (5, [7, 1 << 62])):
        rollup.count(hour, 2)
        rollup.append(hour, "t", aggregate(values))
    rollups = {2: rollup, 1: folded(rollup, 4)}
    store = await open_store(database_url)
    stored = [(1, 3600, day * DAY, pack(each, text=True)) for day, each in rollups.items()]
    state_before = (await store.engine.fetch("rollup_state"))[0]
    assert await store.engine.store_rollups(RollupChange(state_before[1], rollups=stored))
    keys = json_text([row[:3] for row in stored])
    await store.close()
    before = counts(database_url)
    with pytest.raises(StartError, match="drop the database itself"):
        run_migrations(database_url, "base", downgrade=True)
    after = counts(database_url)
    assert after["measurement"] == 3
    assert after == {name: before[name] for name in after}
    assert await state(database_url) == ("0023", head())
    await migrate(database_url)
    assert counts(database_url) == before
    store = await open_store(database_url)
    found = {row[0] // DAY: row[1] for row in await store.engine.fetch("rollups_find", keys=keys)}
    await store.close()
    # What views read is JSON again, and as it was.
    assert {day: bytes(packed) for day, packed in found.items()} == {
        day: pack(each, text=True) for day, each in rollups.items()
    }


async def test_a_migration_killed_halfway_starts_again(empty_url):
    await (await open_store(empty_url)).close()
    killed = await asyncio.to_thread(
        run,
        *("20", "upgrade", "head"),
        env={**os.environ, DATABASE_URL_VARIABLE: empty_url},
        cwd=ROOT,
        timeout=60,
        module="killed_migration",
    )
    assert killed.returncode == -9, killed.stderr
    assert schema(empty_url) == []
    await migrate(empty_url)
    assert await state(empty_url) == (head(), head())


async def test_several_instances_may_migrate_at_once(empty_url):
    await asyncio.gather(*(asyncio.to_thread(run_migrations, empty_url) for _ in range(2)))
    assert query(empty_url, "SELECT count(*) FROM network") == [(1,)]


def run_alembic(url, *arguments):
    environment = {**os.environ, "DATABASE_URL": url, "APP_ENV": "test"}
    return run(*arguments, env=environment, cwd=ROOT, timeout=60, module="alembic")


def alembic(url, *arguments):
    done = run_alembic(url, *arguments)
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
    current, newest = await state(url)
    assert (int(current), newest) == (int(head()) - 1, head())


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
