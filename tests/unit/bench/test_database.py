import contextlib
import sqlite3

import pytest
from bench.database import Database
from bench.scale import Profile
from bench.starting_line import LoadError


@pytest.fixture
def database(tmp_path):
    path = str(tmp_path / "rows.db")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE measurement (timestamp)")
        connection.execute("CREATE TABLE rejected_message (id)")
        connection.executemany("INSERT INTO measurement VALUES (?)", [(n,) for n in range(1, 8)])
        yield Database("sqlite", path, path, Profile("small", 2, 2), bare=False), connection


def test_the_rows_sent_are_those_beyond_the_stored_ones(database):
    found, _ = database
    found.expect(3)
    assert found.times() == (1, 7)


@pytest.mark.parametrize("sent", [2, 4])
def test_a_row_too_many_or_too_few_is_an_error(database, sent):
    found, _ = database
    with pytest.raises(LoadError, match=f"{sent} rows were acknowledged, 3 are stored"):
        found.expect(sent)


def test_a_rejected_message_is_an_error(database):
    found, connection = database
    connection.execute("INSERT INTO rejected_message VALUES (1)")
    with pytest.raises(LoadError, match="1 rejected"):
        found.expect(3)
