"""The generation of a SQLite file: at no moment is its own log refused, and no other's taken."""

import errno
import itertools
import os
import random
import shutil
import sqlite3
import stat
import threading
import uuid
from contextlib import closing, suppress
from unittest import mock

import pytest
import structlog

from heliograph.database_url import parse_database_url
from heliograph.errors import StartError, UnusableStoreError
from heliograph.model.time import now
from heliograph.store import open_store, run_migrations, sqlite, sqlite_generation
from heliograph.store.claim import Claim
from heliograph.store.sqlite_generation import (
    Generation,
    Sidecar,
    admit,
    identity_of,
    look,
    sidecar_of,
)

SUFFIXES = ("", "-wal", "-shm", "-generation")


def copy_of(path, folder):
    """Return a copy of the file with all that lies beside it, as a killed process leaves it."""
    folder.mkdir()
    for suffix in SUFFIXES:
        with suppress(FileNotFoundError):
            shutil.copy(f"{path}{suffix}", folder / f"h.db{suffix}")
    return folder / "h.db"


def content_of(path):
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return connection.execute("SELECT number FROM row ORDER BY number").fetchall()


class Recorded:
    """A connection that tells before and after each statement."""

    def __init__(self, path, moment):
        self.moment = moment
        self.raw = sqlite3.connect(path, isolation_level=None, timeout=0)
        self.raw.execute("PRAGMA journal_mode = WAL")
        self.raw.execute("PRAGMA wal_autocheckpoint = 0")

    def execute(self, *arguments):
        self.moment()
        result = self.raw.execute(*arguments)
        self.moment()
        return result

    @property
    def in_transaction(self):
        return self.raw.in_transaction


class Life:
    """A database in use, with everything that may happen to it."""

    def __init__(self, folder, chance):
        self.folder = folder
        self.path = folder / "h.db"
        self.chance = chance
        self.moments = 0
        self.count = 0
        self.backups = []
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("CREATE TABLE row (number INTEGER UNIQUE, filling BLOB)")
        self.connection = Recorded(self.path, self.moment)
        self.generation = Generation(self.path)
        self.generation.begin(self.connection, 0)
        self.reader = sqlite3.connect(self.path, isolation_level=None, timeout=0)

    def moment(self):
        """The process may be killed now: the file is accepted, a half-made checkpoint too."""
        self.moments += 1
        killed = copy_of(self.path, self.folder / f"moment-{self.moments}")
        admit(killed)
        shutil.rmtree(killed.parent)

    def commit(self, rows=None):
        with self.connection.raw as connection:
            for _ in range(rows or self.chance.randint(1, 8)):
                size = self.chance.choice((10, 3_000, 9_000))
                connection.execute("INSERT INTO row VALUES (?, zeroblob(?))", (self.count, size))
                self.count += 1
        self.moment()
        self.generation.committed(self.connection)

    def delete(self):
        self.connection.raw.execute("DELETE FROM row WHERE number % 7 = ?", (self.count % 7,))
        self.moment()
        self.generation.committed(self.connection)

    def read(self):
        if self.reader.in_transaction:
            self.reader.execute("COMMIT")
        else:
            self.reader.execute("BEGIN")
            self.reader.execute("SELECT count(*) FROM row").fetchone()

    def write_back_elsewhere(self):
        """As the shell of SQLite does after a large commit of its own."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.execute("PRAGMA wal_checkpoint")
            self.moment()

    def let_go_of_the_log(self):
        """Have a reader until the server can't begin the log anew, so that others may."""
        self.read()
        while self.generation.keeps_its_log:
            self.commit(8)
        self.read()

    def empty_log(self):
        self.generation.empty_log(self.connection)

    def open_anew(self):
        """As after an error of the database; those who read go on."""
        self.generation.end(identity_of(self.path))
        self.moment()
        self.connection.raw.close()
        self.moment()
        self.connection = Recorded(self.path, self.moment)
        self.generation.begin(self.connection, None)

    def start_anew(self):
        """As a server that is started after another one was killed."""
        killed = copy_of(self.path, self.folder / "killed")
        self.end()
        for suffix in SUFFIXES:
            with suppress(FileNotFoundError):
                killed.with_name(f"h.db{suffix}").replace(f"{self.path}{suffix}")
        killed.parent.rmdir()
        admitted = admit(self.path, for_server=True)
        self.connection = Recorded(self.path, self.moment)
        self.generation = Generation(self.path)
        self.generation.begin(self.connection, admitted)
        self.reader = sqlite3.connect(self.path, isolation_level=None, timeout=0)

    def back_up(self, way=None):
        target = self.folder / f"backup-{len(self.backups)}.db"
        way = way or self.chance.choice(("backup", "vacuum", "copy"))
        if way == "copy":
            shutil.copy(self.path, target)
        else:
            with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
                if way == "vacuum":
                    connection.execute(f"VACUUM INTO '{target}'")
                else:
                    with closing(sqlite3.connect(target)) as copy:
                        connection.backup(copy)
        self.backups.append((way, target))

    def restore_each(self):
        """Put each backup beside the log as it is now; return how many were refused."""
        refused = 0
        kept = copy_of(self.path, self.folder / "kept")
        newest = content_of(copy_of(kept, self.folder / "newest"))
        for way, backup in self.backups:
            restored = copy_of(kept, self.folder / "restored")
            shutil.copy(backup, restored)
            log = sqlite_generation.log_of(restored)
            if log.exists() and log.stat().st_size:
                try:
                    admit(restored)
                except StartError:
                    refused += 1
                else:
                    # Not told from the file itself: then it makes no difference.
                    assert content_of(restored) == newest, way
            shutil.rmtree(restored.parent)
        for name in ("kept", "newest"):
            shutil.rmtree(self.folder / name)
        return refused

    def end(self):
        self.generation.close_log()
        self.connection.raw.close()
        self.reader.close()


@pytest.fixture(autouse=True)
def short_logs(monkeypatch):
    monkeypatch.setattr(sqlite_generation, "CHECKPOINT_FRAMES", 30)
    monkeypatch.setattr(sqlite_generation, "RETRY_FRAMES", 8)
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.mark.parametrize("seed", range(3))
def test_a_file_fits_its_log_at_any_moment_and_a_backup_never_spoils_it(tmp_path, seed):
    life = Life(tmp_path, random.Random(seed))
    acts = [life.commit] * 8 + [
        life.delete,
        life.read,
        life.read,
        life.back_up,
        life.back_up,
        life.write_back_elsewhere,
        life.empty_log,
        life.open_anew,
        life.start_anew,
    ]
    for step in range(60):
        life.chance.choice(acts)()
        if step % 10 == 0:
            life.restore_each()
    life.end()
    assert life.moments > 100


def test_a_backup_is_told_after_others_have_written_all_of_the_log_back(tmp_path):
    life = Life(tmp_path, random.Random(0))
    life.back_up("copy")
    life.commit(1)
    life.back_up("backup")
    life.commit(1)
    life.write_back_elsewhere()
    # Who reads keeps from writing back what comes now.
    life.read()
    life.commit(1)

    life.restore_each()

    life.end()


def test_what_the_file_said_before_does_not_belong_to_the_log_after_this_one():
    sidecar = Sidecar(frozenset({1}), frozenset({2}), (5, 6))

    assert sidecar.fits(1, (5, 6), False)
    assert not sidecar.fits(2, (5, 6), False)
    assert sidecar.fits(2, (5, 6), True)
    assert sidecar.fits(2, (6, 0), False)
    # All of the log was written back before another was begun.
    assert not sidecar.fits(1, (6, 0), False)
    assert not sidecar.fits(2, (7, 0), True)


@pytest.mark.parametrize("goes_on", [Life.commit, Life.empty_log])
def test_only_the_newest_state_belongs_to_a_log_that_was_begun_anew(tmp_path, goes_on):
    life = Life(tmp_path, random.Random(0))
    life.let_go_of_the_log()
    life.back_up("copy")
    life.write_back_elsewhere()
    life.read()
    goes_on(life)

    assert life.restore_each() == 1

    life.end()


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    path = tmp_path_factory.mktemp("migrated") / "h.db"
    run_migrations(f"sqlite:///{path}")
    return path


@pytest.fixture
def path(tmp_path, migrated):
    """A database with a backup beside it that was killed after more was written."""
    path = tmp_path / "h.db"
    shutil.copy(migrated, path)
    return path


async def leave_in_use(path, folder, prefix=""):
    """Return a copy of the file as `kill -9` leaves it, and a backup that was made before."""
    claim = Claim(f"sqlite:///{path}")
    store = await open_store(f"sqlite:///{path}", claim)
    try:
        await add_sensor(store, f"{prefix}before")
        backup = folder / "backup.db"
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(backup)) as target:
            source.backup(target)
        await add_sensor(store, f"{prefix}after")
        return copy_of(path, folder / "killed"), backup
    finally:
        await store.close()
        claim.release()


async def add_sensor(store, device_id):
    await store.sensors.create(
        identifier=str(uuid.uuid4()),
        network_identifier=None,
        device_id=device_id,
        key_hash=None,
        created_at=now(),
    )


async def sensors_of(path):
    claim = Claim(f"sqlite:///{path}")
    try:
        store = await open_store(f"sqlite:///{path}", claim)
        try:
            return {sensor.device_id for sensor in (await store.sensors.load(0, 10))}
        finally:
            await store.close()
    finally:
        claim.release()


async def test_a_backup_in_place_of_a_killed_servers_file_is_refused(path, tmp_path):
    killed, backup = await leave_in_use(path, tmp_path)
    shutil.copy(backup, killed)

    for opened in (Claim, look_at):
        with pytest.raises(
            StartError, match=r"do not belong together.*move .*-wal away"
        ) as refusal:
            opened(f"sqlite:///{killed}")
        assert "\n" not in str(refusal.value)

    log = sqlite_generation.log_of(killed)
    log.rename(tmp_path / "log")
    assert await sensors_of(killed) == {"before"}


def look_at(database_url):
    look(parse_database_url(database_url).path)


async def test_the_file_of_a_killed_server_goes_on(path, tmp_path):
    killed, _ = await leave_in_use(path, tmp_path)
    look_at(f"sqlite:///{killed}")

    assert await sensors_of(killed) == {"before", "after"}


async def test_a_backup_in_place_of_a_stopped_servers_file_is_taken(path, tmp_path):
    _, backup = await leave_in_use(path, tmp_path)
    assert await sensors_of(path) == {"before", "after"}
    shutil.copy(backup, path)

    with mock.patch.object(sqlite_generation, "log") as log:
        assert await sensors_of(path) == {"before"}
    log.warning.assert_called_once_with("database file replaced", file=str(path))


async def test_an_earlier_copy_of_the_file_alone_is_refused_beside_a_later_log(path, tmp_path):
    earlier, _ = await leave_in_use(path, tmp_path)
    (tmp_path / "later").mkdir()
    killed, _ = await leave_in_use(path, tmp_path / "later", "later-")
    shutil.copy(earlier, killed)

    with pytest.raises(StartError, match="do not belong together"):
        Claim(f"sqlite:///{killed}")


@pytest.mark.parametrize("content", [b"\x1f\x8b" + b"packed" * 1_000, b"no database"])
async def test_what_is_no_database_is_refused_beside_a_log(path, tmp_path, content):
    killed, _ = await leave_in_use(path, tmp_path)
    killed.write_bytes(content)

    for opened in (Claim, look_at):
        with pytest.raises(StartError, match="do not belong together"):
            opened(f"sqlite:///{killed}")

    # Else SQLite would find in the log what makes it one.
    assert killed.read_bytes() == content


async def test_a_file_copied_with_its_log_is_taken_once_the_sidecar_is_away(path, tmp_path):
    killed, _ = await leave_in_use(path, tmp_path)
    (tmp_path / "here").mkdir()
    here, _ = await leave_in_use(path, tmp_path / "here", "here-")
    for suffix in ("", "-wal"):
        shutil.copy(f"{killed}{suffix}", f"{here}{suffix}")

    with pytest.raises(StartError, match="do not belong together"):
        Claim(f"sqlite:///{here}")
    sidecar_of(here).rename(tmp_path / "sidecar")

    assert await sensors_of(here) == {"before", "after"}


async def test_a_log_without_its_file_is_moved_aside_and_never_deleted(path, tmp_path):
    killed, _ = await leave_in_use(path, tmp_path)
    log = sqlite_generation.log_of(killed)
    content = log.read_bytes()
    killed.unlink()

    run_migrations(f"sqlite:///{killed}")

    assert await sensors_of(killed) == set()
    (orphan,) = killed.parent.glob("*.orphan-*")
    assert orphan.read_bytes() == content


async def test_a_file_that_became_empty_is_refused_unless_told(path, tmp_path):
    killed, _ = await leave_in_use(path, tmp_path)
    killed.write_bytes(b"")
    url = f"sqlite:///{killed}"

    for opened in (Claim, look_at):
        with pytest.raises(StartError, match=r"is empty, and was not.*ACCEPT_EMPTY_DATABASE=true"):
            opened(url)
    assert sqlite_generation.log_of(killed).stat().st_size

    Claim(url, accept_empty=True).release()
    run_migrations(url)
    assert await sensors_of(killed) == set()


async def test_a_file_restored_while_running_is_the_servers_own_after_a_kill(path, tmp_path):
    claim = Claim(f"sqlite:///{path}")
    store = await open_store(f"sqlite:///{path}", claim)
    try:
        backup = tmp_path / "backup.db"
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(backup)) as target:
            source.backup(target)
        await store.engine.empty_log()
        with closing(sqlite3.connect(backup)) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)
        assert await store.written_elsewhere()
        with closing(sqlite3.connect(path)) as shell:
            shell.execute("PRAGMA wal_checkpoint")
        killed = copy_of(path, tmp_path / "killed")
    finally:
        await store.close()
        claim.release()
    assert await sensors_of(killed) == set()


async def test_no_other_program_begins_the_log_of_a_running_server_anew(path, tmp_path):
    claim = Claim(f"sqlite:///{path}")
    store = await open_store(f"sqlite:///{path}", claim)
    try:
        for _ in range(3):
            with closing(sqlite3.connect(path, timeout=0)) as shell, shell:
                busy, _, _ = shell.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                assert busy
                shell.execute("CREATE TABLE IF NOT EXISTS other (number INTEGER)")
                shell.execute("INSERT INTO other VALUES (1)")
            assert await store.written_elsewhere()
        killed = copy_of(path, tmp_path / "killed")
    finally:
        await store.close()
        claim.release()
    assert await sensors_of(killed) == set()


def test_logs_begun_anew_by_others_leave_a_killed_server_its_file(tmp_path):
    life = Life(tmp_path, random.Random(0))
    for _ in range(3):
        life.let_go_of_the_log()
        with closing(sqlite3.connect(life.path, timeout=0)) as shell, shell:
            busy, _, _ = shell.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            assert not busy
            shell.execute("CREATE TABLE IF NOT EXISTS other (number INTEGER)")
            life.moment()
            shell.execute("INSERT INTO other VALUES (1)")
        life.moment()
        life.generation.written_elsewhere(life.connection)
        assert life.generation.keeps_its_log
        life.moment()
    life.end()


def in_use(path, longest=0):
    """Return a connection to a new database whose generation is looked after."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("CREATE TABLE row (filling BLOB)")
    generation = Generation(path, longest)
    generation.begin(connection, 0)
    return connection, generation


def lengths_of_the_log(connection, generation, path, commits, *, are_large=False):
    """Return how long the log was in pages, after each commit of some twenty."""
    lengths = []
    for _ in range(commits):
        connection.execute("INSERT INTO row VALUES (zeroblob(80000))")
        # With a limit of 0 a log that is begun anew is as long as what is in it.
        lengths.append(sqlite_generation.log_of(path).stat().st_size // 4_096)
        generation.committed(connection, is_large=are_large)
    return lengths


@pytest.mark.parametrize(("longest", "highest"), [(10_000, 200), (100, 130), (0, 60)])
def test_large_batches_are_written_back_together_up_to_a_bound(tmp_path, longest, highest):
    connection, generation = in_use(tmp_path / "h.db", longest)
    connection.execute("PRAGMA journal_size_limit = 0")
    lengths = lengths_of_the_log(connection, generation, tmp_path / "h.db", 40, are_large=True)
    small = lengths_of_the_log(connection, generation, tmp_path / "h.db", 40)
    generation.close_log()
    connection.close()
    assert highest / 2 < max(lengths) <= highest
    # Once the last of the large ones are written back, as soon as it is long.
    assert max(small[-10:]) <= 60


def test_readers_who_are_never_all_gone_do_not_keep_the_log_for_ever(tmp_path):
    path = tmp_path / "h.db"
    connection, generation = in_use(path)
    connection.execute("PRAGMA journal_size_limit = 0")
    ended = threading.Event()

    def read_in_turn():
        # One is always in a transaction, which began before the newest commits.
        readers = [sqlite3.connect(path, isolation_level=None) for _ in range(2)]
        for turn in itertools.cycle((0, 1)):
            readers[turn].execute("BEGIN")
            readers[turn].execute("SELECT count(*) FROM row").fetchone()
            if readers[1 - turn].in_transaction:
                readers[1 - turn].execute("COMMIT")
            if ended.wait(0.005):
                break
        for reader in readers:
            reader.close()

    thread = threading.Thread(target=read_in_turn)
    thread.start()
    try:
        lengths = lengths_of_the_log(connection, generation, path, 100)
    finally:
        ended.set()
        thread.join()
        generation.close_log()
        connection.close()
    # Of 2,000 pages: the bound of 4 times 30, and what comes until the next try.
    assert max(lengths) < 250


def test_a_reader_that_stays_is_told_and_waited_for_seldom(tmp_path):
    path = tmp_path / "h.db"
    connection, generation = in_use(path)
    connection.execute("PRAGMA busy_timeout = 1")
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM row").fetchone()
    checkpoints = []
    connection.set_trace_callback(checkpoints.append)
    with structlog.testing.capture_logs() as logged:
        lengths = lengths_of_the_log(connection, generation, path, 20)
        assert lengths[-1] > 400
        reader.execute("COMMIT")
        connection.execute("PRAGMA journal_size_limit = 0")
        assert min(lengths_of_the_log(connection, generation, path, 10)) < 70
    waits = [each for each in checkpoints if "RESTART" in each]
    told = [each for each in logged if each["event"] == "write-ahead log kept by a reader"]
    assert 1 < len(told) < len(waits) + 1 < 16
    reader.close()
    generation.close_log()
    connection.close()


def test_a_log_that_was_cut_off_has_no_frames(tmp_path):
    with closing(sqlite3.connect(tmp_path / "h.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        generation = Generation(tmp_path / "h.db")
        connection.execute("CREATE TABLE row (number INTEGER UNIQUE, filling BLOB)")
        generation.begin(connection, 0)
        generation.close_log()
        with closing(sqlite3.connect(tmp_path / "h.db")) as shell:
            shell.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert not sqlite_generation.log_of(tmp_path / "h.db").stat().st_size

        generation.begin(connection, None)

        admit(copy_of(tmp_path / "h.db", tmp_path / "killed"))


def test_a_file_system_without_owners_and_synchronized_folders_is_enough(path, monkeypatch):
    def refuse_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", refuse_folders)
    monkeypatch.setattr(os, "chown", mock.Mock(side_effect=OSError(errno.EINVAL, "Invalid")))
    sidecar = Sidecar(frozenset({1}), frozenset(), None)

    sidecar.write(path)

    assert Sidecar.read(path) == sidecar


def test_a_sidecar_that_finds_no_room_leaves_the_one_before(path, monkeypatch):
    sidecar = Sidecar(frozenset({1}), frozenset(), None)
    sidecar.write(path)
    names = set(path.parent.iterdir())

    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, "fsync", mock.Mock(side_effect=full))
    with pytest.raises(OSError, match="No space left"):
        Sidecar(frozenset({2}), frozenset(), None).write(path)
    assert set(path.parent.iterdir()) == names
    assert Sidecar.read(path) == sidecar


async def test_an_empty_file_beside_a_log_was_a_database(path, tmp_path):
    killed, _ = await leave_in_use(path, tmp_path)
    killed.write_bytes(b"")
    # As of an earlier version, which knows none.
    sidecar_of(killed).unlink()

    with pytest.raises(StartError, match="is empty, and was not"):
        Claim(f"sqlite:///{killed}")

    assert sqlite_generation.log_of(killed).stat().st_size


def test_a_file_that_was_always_empty_is_a_new_database(tmp_path):
    path = tmp_path / "h.db"
    path.touch()

    Claim(f"sqlite:///{path}").release()


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_second_server_by_another_name_is_refused(path, tmp_path, link):
    (tmp_path / "elsewhere").mkdir()
    other = tmp_path / "elsewhere" / "link.db"
    link(path, other)
    claim = Claim(f"sqlite:///{path}")

    for name in (path, other):
        with pytest.raises(StartError, match="another server uses"):
            Claim(f"sqlite:///{name}")

    claim.release()
    Claim(f"sqlite:///{other}").release()


async def test_a_file_put_beside_the_log_of_a_running_server_is_not_used(path, tmp_path):
    claim = Claim(f"sqlite:///{path}")
    store = await open_store(f"sqlite:///{path}", claim)
    other = tmp_path / "other.db"
    try:
        await add_sensor(store, "before")
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(other)) as target:
            source.backup(target)
        await add_sensor(store, "after")

        other.replace(path)

        for _ in range(2):
            with pytest.raises(UnusableStoreError, match="do not belong together"):
                await add_sensor(store, "lost")
            with pytest.raises(UnusableStoreError):
                await store.ping()
        sqlite_generation.log_of(path).rename(tmp_path / "log")
        await add_sensor(store, "again")
        await store.ping()
        found = {sensor.device_id for sensor in (await store.sensors.load(0, 10))}
        assert found == {"before", "again"}
    finally:
        await store.close()
        claim.release()


async def test_a_damaged_page_is_found_told_once_and_stays_told(path, tmp_path, monkeypatch):
    log = mock.Mock()
    monkeypatch.setattr(sqlite, "log", log)
    claim = Claim(f"sqlite:///{path}")
    store = await open_store(f"sqlite:///{path}", claim)
    try:
        await add_sensor(store, "before")
        await store.engine.empty_log()
        # Never closed before SQLite has ended: that would drop its locks.
        with path.open("r+b", buffering=0) as file:
            pages = path.stat().st_size // 4096
            for page in range(1, pages):
                os.pwrite(file.fileno(), b"\xa5" * 4096, page * 4096)
            for _ in range(2):
                with pytest.raises(UnusableStoreError, match=r"damaged.*restore a backup"):
                    await store.engine.fetch("sensors_load", after=0, limit=10)
            with pytest.raises(UnusableStoreError) as told:
                await store.ping()
            # What was read of it before may be right, and is not to be made worse.
            with pytest.raises(UnusableStoreError):
                await add_sensor(store, "after")
            await store.close()
    finally:
        claim.release()
    assert told.value.public.startswith("the database file is damaged (")
    log.critical.assert_called_once()
