from pathlib import Path

import pytest

from heliograph.database_url import parse_database_url
from heliograph.errors import StartError


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("sqlite+aiosqlite:///./dev.db", Path.cwd() / "dev.db"),
        ("sqlite:///./dev.db", Path.cwd() / "dev.db"),
        ("sqlite:///dev.db", Path.cwd() / "dev.db"),
        ("sqlite:////var/lib/dev.db", Path("/var/lib/dev.db")),
        ("sqlite:////var/a%20b.db", Path("/var/a b.db")),
        (" sqlite:////var/dev.db?mode=x ", Path("/var/dev.db")),
    ],
)
def test_sqlite_urls_name_a_file(text, path):
    url = parse_database_url(text)
    assert url.is_sqlite
    assert url.path == path


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+asyncpg", "postgres"])
def test_postgresql_urls_keep_what_they_say(scheme):
    url = parse_database_url(f"{scheme}://us%40er:p%2Fw@db.example:5433/data?sslmode=require")
    assert not url.is_sqlite
    expected = "postgresql://us%40er:p%2Fw@db.example:5433/data?sslmode=require"
    assert url.dsn == url.libpq == expected
    assert url.public == "postgresql://db.example:5433/data"


def test_each_driver_gets_the_parameters_that_it_knows():
    url = parse_database_url(
        "postgresql+asyncpg://h/d?ssl=verify-full&connect_timeout=3&sslrootcert=/a%20b"
    )
    assert url.dsn == "postgresql://h/d?sslmode=verify-full&sslrootcert=%2Fa%20b"
    assert url.libpq.endswith("?sslmode=verify-full&connect_timeout=3&sslrootcert=%2Fa%20b")


def test_several_hosts_are_kept():
    assert parse_database_url("postgresql://a:1,b:2/d").dsn == "postgresql://a:1,b:2/d"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dev.db",
        "./dev.db",
        "/var/lib/dev.db",
        "mysql://secret@host/database",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///folder/",
        "postgresql://secret@host:port/database",
        "postgresql://secret@host/database?novalue",
    ],
)
def test_other_texts_are_refused_in_one_line_without_repeating_them(text):
    with pytest.raises(StartError, match="DATABASE_URL") as raised:
        parse_database_url(text)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)
