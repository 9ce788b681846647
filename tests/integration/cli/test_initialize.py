"""`heliograph initialize`, on both engines; it can be repeated."""

import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bare_environment import work_in
from heliograph.cli import initialize
from heliograph.cli.main import app
from heliograph.errors import DatabaseAwayError, StartError
from ports import free_port


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_in(tmp_path, monkeypatch)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["initialize", *arguments])


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_it_does_once_what_is_to_be_done_once(request, monkeypatch, engine):
    url = "" if engine == "sqlite" else str(request.getfixturevalue("postgresql_url"))
    monkeypatch.setenv("DATABASE_URL", url)
    first = run()
    assert first.exit_code == 0, first.output
    assert ("→" in first.stdout) == (engine == "sqlite")
    assert "no administrator: set ADMIN_USERNAME" in first.stderr
    monkeypatch.setenv("ADMIN_USERNAME", "root")
    monkeypatch.setenv("ADMIN_PASSWORD", "correct horse battery")
    for _ in range(2):
        again = run()
        assert again.exit_code == 0, again.output
        assert "nothing to do" in again.stdout
        assert again.stdout.endswith("administrator: root\n")


def test_in_a_terminal_it_asks_for_the_first_administrator(monkeypatch):
    monkeypatch.setattr(initialize.typer, "prompt", lambda *_, **__: "root-of-all")
    monkeypatch.setattr("heliograph.cli.user.typer.prompt", lambda *_, **__: "root-of-all")
    monkeypatch.setattr(initialize, "create", lambda name, **options: made.append((name, options)))
    made: list[Any] = []

    class Terminal:
        @staticmethod
        def isatty() -> bool:
            return True

    monkeypatch.setattr(initialize.sys, "stdin", Terminal)
    initialize.initialize(wait=0)
    ((name, options),) = made
    assert (name, options["admin"]) == ("root-of-all", True)


def test_it_waits_for_a_database_that_comes(monkeypatch):
    calls: list[Any] = []

    def migrate(**_: Any) -> None:
        calls.append(_)
        if len(calls) < 3:
            raise DatabaseAwayError("DATABASE_URL: can't connect")

    monkeypatch.setattr(initialize, "migrate", migrate)
    monkeypatch.setattr(initialize, "LOOK_SECONDS", 0)
    initialize._migrate_once_there(time.monotonic() + 60)
    assert len(calls) == 3


def test_it_waits_no_longer_than_it_is_told_and_for_nothing_else(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", f"postgresql://u:p@127.0.0.1:{free_port()}/d")
    away = run("--wait", "0")
    assert isinstance(away.exception, DatabaseAwayError), away.output
    monkeypatch.setenv("DATABASE_URL", "sqlite:///./no-database.db")
    Path("no-database.db").write_text("this is no database, " * 100)
    wrong = run()
    assert isinstance(wrong.exception, StartError)
    assert not isinstance(wrong.exception, DatabaseAwayError)
