"""`heliograph user`, on both engines."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bare_environment import work_in
from engines import SQLITE_FIRST
from heliograph.access.passwords import Passwords
from heliograph.cli.main import app
from heliograph.errors import StartError
from heliograph.model.account import Account
from heliograph.store import open_store
from heliograph.store.accounts import SESSION

PASSWORD = "12345678"


@pytest.fixture(autouse=True, params=SQLITE_FIRST)
def database(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Work in an empty folder, on a migrated database without accounts; return its URL."""
    work_in(tmp_path, monkeypatch)
    url = str(request.getfixturevalue(f"{request.param}_url"))
    monkeypatch.setenv("DATABASE_URL", url)
    return url


def run(*arguments: str, typed: str = f"{PASSWORD}\n") -> Any:
    return CliRunner().invoke(app, ["user", *arguments], input=typed)


def succeed(*arguments: str, typed: str = f"{PASSWORD}\n") -> str:
    result = run(*arguments, typed=typed)
    assert result.exit_code == 0, result.output
    return result.stdout


def refusal(*arguments: str, typed: str = f"{PASSWORD}\n") -> str:
    result = run(*arguments, typed=typed)
    assert isinstance(result.exception, StartError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def stored(url: str, username: str) -> Account | None:
    async def read() -> Account | None:
        store = await open_store(url)
        try:
            return await store.accounts.find_username(username)
        finally:
            await store.close()

    return asyncio.run(read())


def is_password(account: Account | None, password: str) -> bool:
    async def check() -> bool:
        passwords = Passwords()
        try:
            return await passwords.verify(account and account.password_hash, password)
        finally:
            passwords.close()

    return asyncio.run(check())


def test_an_account_is_made_with_a_piped_password(database: str) -> None:
    output = succeed("create", "ada", "--password-stdin")
    ada = stored(database, "ada")
    assert ada is not None
    assert output == f"user  ada\nid    {ada.identifier}\n"
    assert (ada.is_admin, is_password(ada, PASSWORD)) == (False, True)
    assert refusal("create", "ada", "--password-stdin") == (
        "the username 'ada' is already registered"
    )
    made = json.loads(succeed("create", "root", "--admin", "--password-stdin", "--json"))
    assert made == json.loads(succeed("list", "--json"))[-1]
    root = stored(database, "root")
    assert root is not None
    assert root.is_admin


def test_a_name_that_looks_like_anothers_is_made_only_if_it_is_said(database: str) -> None:
    succeed("create", "ada", "--password-stdin")
    assert succeed("alike", "--json") == "[]\n"
    message = refusal("create", "Ada", "--password-stdin")
    assert message.startswith("the username 'Ada' looks like one that is registered; ")
    succeed("create", "Ada", "--look-alike", "--password-stdin")
    (found,) = json.loads(succeed("alike", "--json"))
    assert (found["username"], found["looks_like"]) == ("Ada", "ada")
    assert "Ada" in succeed("alike")
    assert is_password(stored(database, "Ada"), PASSWORD)


def test_in_production_the_commonest_passwords_are_refused(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("create", "ada", "--password-stdin")
    assert "is one of the commonest passwords" in result.stderr
    monkeypatch.setenv("APP_ENV", "production")
    monkeypatch.setenv("API_SECRET_KEY", "vRt5Zq81LmWc0Yb7Kd3N")
    common = "the password is one of the commonest passwords: refused with APP_ENV=production"
    assert refusal("create", "bob", "--password-stdin") == common
    assert refusal("passwd", "ada", "--password-stdin") == common
    assert stored(database, "bob") is None
    succeed("create", "bob", "--password-stdin", typed="correct horse\n")
    own = refusal("passwd", "bob-of-the-roof", "--password-stdin", typed="Bob-of-the-roof\n")
    assert own == "the password is the user name: refused with APP_ENV=production"


def test_the_password_is_asked_for_twice_and_not_shown(database: str) -> None:
    result = run("create", "ada", typed=f"{PASSWORD}\nanother one\n{PASSWORD}\n{PASSWORD}\n")
    assert result.exit_code == 0, result.output
    assert PASSWORD not in result.output
    assert is_password(stored(database, "ada"), PASSWORD)


@pytest.mark.parametrize("name", ["", " ada", "a/b", "x" * 65, "a\tb", ".."])
def test_what_is_no_name(database: str, name: str) -> None:
    result = run("create", "--password-stdin", "--", name)
    assert result.exit_code == 2
    assert stored(database, name) is None


@pytest.mark.parametrize("password", ["", "1234567", "x" * 257])
def test_what_is_no_password(database: str, password: str) -> None:
    message = refusal("create", "ada", "--password-stdin", typed=f"{password}\n")
    assert message == "a password has 8 to 256 characters"
    assert stored(database, "ada") is None


def test_a_new_password_ends_all_sessions(database: str) -> None:
    succeed("create", "ada", "--password-stdin")

    async def sessions(*, opened: bool) -> bool:
        store = await open_store(database)
        try:
            ada = await store.accounts.find_username("ada")
            assert ada is not None
            if opened:
                await store.accounts.open_session(
                    b"t" * 32, ada, purpose=SESSION, created_at=1, expires_at=1 << 60
                )
            return await store.accounts.find_session(b"t" * 32, SESSION, 1) is not None
        finally:
            await store.close()

    assert asyncio.run(sessions(opened=True))
    assert succeed("passwd", "ada", "--password-stdin", typed="another one\n") == ""
    assert not asyncio.run(sessions(opened=False))
    assert is_password(stored(database, "ada"), "another one")
    assert refusal("passwd", "bob", "--password-stdin") == "user 'bob' not found"


def test_accounts_are_listed_without_their_hashes(database: str) -> None:
    assert json.loads(succeed("list", "--json")) == []
    succeed("create", "ada", "--password-stdin")
    succeed("create", "root", "--admin", "--password-stdin")
    listed = json.loads(succeed("list", "--json"))
    assert [(user["username"], user["is_admin"]) for user in listed] == [
        ("ada", False),
        ("root", True),
    ]
    assert set(listed[0]) == {"username", "id", "is_admin", "is_active", "created_at"}
    table = succeed("list")
    assert "ada" in table
    assert "argon2" not in table + str(listed)


def test_an_account_is_taken_out_of_use_and_back(database: str) -> None:
    succeed("create", "ada", "--password-stdin")
    for _ in range(2):  # the second time there is nothing to do
        assert succeed("deactivate", "ada") == ""
        assert json.loads(succeed("list", "--json"))[0]["is_active"] is False
    assert succeed("activate", "ada") == ""
    assert json.loads(succeed("list", "--json"))[0]["is_active"] is True
    for command in ("deactivate", "activate"):
        assert refusal(command, "bob") == "user 'bob' not found"
