"""A SQLite file and the write-ahead log beside it: another's is refused, one's own never is."""

import os
import random
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing

import pytest

# Short logs, so that checkpoints and new logs come often.
WRITER = textwrap.dedent("""
    import sqlite3, sys
    from pathlib import Path
    from heliograph.store import sqlite_generation
    from heliograph.store.claim import Claim
    from heliograph.store.sqlite import open_writer

    sqlite_generation.CHECKPOINT_FRAMES, sqlite_generation.RETRY_FRAMES = 40, 10
    path = Path(sys.argv[1])
    claim = Claim(f"sqlite:///{path}")
    identity = claim.take(path)
    connection = open_writer(path, create=False)
    generation = sqlite_generation.Generation(path)
    generation.begin(connection, claim.generation(identity))
    reader = sqlite3.connect(path, isolation_level=None)
    count = connection.execute("SELECT count(*) FROM row").fetchone()[0]
    print(count, flush=True)
    while True:
        connection.execute("BEGIN IMMEDIATE")
        for _ in range(5):
            connection.execute("INSERT INTO row VALUES (?, randomblob(2000))", (count,))
            count += 1
        connection.execute("COMMIT")
        generation.committed(connection)
        print(count, flush=True)
        # A reader is in the way of some checkpoints.
        if count % 7 == 0:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM row").fetchone()
        elif reader.in_transaction and count % 4 == 0:
            reader.execute("COMMIT")
""")

KILLS = int(os.environ.get("HELIOGRAPH_KILLS", "6"))


def make(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE row (number INTEGER UNIQUE, filling BLOB)")


class Writing:
    """A process that commits all the time; `committed` is what it has said last."""

    def __init__(self, path):
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def read(self, lines):
        """Return the count that it has said last, after so many lines."""
        count = None
        for _ in range(lines):
            line = self.process.stdout.readline()
            assert line, self.process.stderr.read()
            count = int(line)
        return count

    def kill(self):
        """Kill it and return the last count that it has said."""
        self.process.kill()
        said = self.process.communicate()[0].split()
        return int(said[-1]) if said else None


def kill_again_and_again(path, kills):
    committed = 0
    for _ in range(kills):
        with Writing(path) as writing:
            assert writing.read(1) >= committed
            committed = writing.read(random.randint(1, 60))
            committed = writing.kill() or committed
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM row").fetchone()[0] >= committed


def test_a_killed_server_is_never_refused_its_own_file(tmp_path):
    path = tmp_path / "h.db"
    make(path)
    kill_again_and_again(path, KILLS)


@pytest.mark.long
def test_a_server_killed_fifty_times_is_never_refused_its_own_file(tmp_path):
    path = tmp_path / "h.db"
    make(path)
    kill_again_and_again(path, 50)
