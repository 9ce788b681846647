"""`heliograph user`: works on the database itself, with or without a running server."""

import asyncio
import sys
import uuid
from typing import Any

import typer

from heliograph.access.passwords import Passwords
from heliograph.cli.database import command_line, require_file, with_store
from heliograph.cli.named import found_account
from heliograph.cli.output import Json, echo, print_json, print_records, time_json, time_text
from heliograph.database_url import parse_database_url
from heliograph.errors import AlreadyExistsError, StartError
from heliograph.model.account import USERNAME_RULE, Account, is_username
from heliograph.model.credentials import LONGEST_PASSWORD, SHORTEST_PASSWORD, weakness
from heliograph.model.time import now
from heliograph.settings import Settings, load_settings
from heliograph.store import Store

app = typer.Typer(add_completion=False, no_args_is_help=True)

Username = typer.Argument(help="The name to log in with.")
Piped = typer.Option(
    False, "--password-stdin", help="Read the password from standard input instead of asking."
)


@app.command()
def create(
    username: str = Username,
    *,
    admin: bool = typer.Option(False, "--admin", help="May do everything, in every network."),
    look_alike: bool = typer.Option(
        False, "--look-alike", help="Make it though the name looks like another account's."
    ),
    password_stdin: bool = Piped,
    json: Json = False,
) -> None:
    """Make an account."""
    if not is_username(username):
        raise typer.BadParameter(USERNAME_RULE, param_hint="USERNAME")
    settings = load_settings()
    password_hash = _hash(_password(username, settings, piped=password_stdin))

    async def work(store: Store) -> Account:
        # Those from before are known as soon as a server has started, which may not be yet.
        await store.accounts.claim_looks()
        try:
            return await store.accounts.create(
                identifier=str(uuid.uuid4()),
                username=username,
                password_hash=password_hash,
                created_at=now(),
                is_admin=admin,
                may_look_alike=look_alike,
                actor=command_line(),
            )
        except AlreadyExistsError as error:
            if error.field == "look":
                raise StartError(
                    f"the username {username!r} looks like one that is registered;"
                    " make it all the same with --look-alike"
                ) from None
            raise StartError(f"the username {username!r} is already registered") from None

    account = with_store(work, settings)
    if json:
        print_json(_members(account))
    else:
        echo(f"user  {account.username}\nid    {account.identifier}")


@app.command()
def passwd(username: str = Username, *, password_stdin: bool = Piped) -> None:
    """Set an account's password; its sessions end."""
    settings = load_settings()
    password_hash = _hash(_password(username, settings, piped=password_stdin))

    async def work(store: Store) -> None:
        account = await found_account(store, username)
        await store.accounts.change_password(
            account.identifier, password_hash, actor=command_line()
        )

    with_store(work, settings)


@app.command()
def deactivate(username: str = Username) -> None:
    """Take an account out of use: nobody logs in with it, its sessions and connections end."""
    _activate(username, is_active=False)


@app.command()
def activate(username: str = Username) -> None:
    """Let an account be used again."""
    _activate(username, is_active=True)


def _activate(username: str, *, is_active: bool) -> None:
    async def work(store: Store) -> None:
        account = await found_account(store, username)
        # To have it so already is no failure.
        await store.accounts.activate(account.identifier, is_active=is_active, actor=command_line())

    with_store(work)


@app.command("list")
def list_users(*, json: Json = False) -> None:
    """List the accounts, oldest first."""
    accounts = with_store(lambda store: store.accounts.list())
    print_records(
        accounts,
        _members,
        ("username", "id", "administrator", "active", "created"),
        lambda account: (
            account.username,
            account.identifier,
            "yes" if account.is_admin else "",
            "yes" if account.is_active else "no",
            time_text(account.created_at),
        ),
        as_json=json,
    )


@app.command()
def alike(*, json: Json = False) -> None:
    """List accounts whose names are easily confused with an older one's; all go on working."""
    found = with_store(lambda store: store.accounts.claim_looks())
    rows = [(a.username, a.identifier, b.username, b.identifier) for a, b in found]
    members = ("username", "id", "looks_like", "looks_like_id")
    print_records(
        rows,
        lambda row: dict(zip(members, row, strict=True)),
        ("username", "id", "looks like", "id"),
        lambda row: row,
        as_json=json,
    )


def _members(account: Account) -> dict[str, Any]:
    return {
        "username": account.username,
        "id": account.identifier,
        "is_admin": account.is_admin,
        "is_active": account.is_active,
        "created_at": time_json(account.created_at),
    }


def _password(username: str, settings: Settings, *, piped: bool) -> str:
    # Before anybody types for nothing.
    url = parse_database_url(settings.database_url)
    require_file(url, accept_empty=settings.accept_empty_database)
    if piped:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise StartError(f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")
    if (reason := weakness(password, username)) is not None:
        if settings.app_env == "production":
            raise StartError(f"the password {reason}: refused with APP_ENV=production")
        echo(f"the password {reason}: refused with APP_ENV=production", err=True)
    return password


def _hash(password: str) -> str:
    async def work() -> str:
        passwords = Passwords()
        try:
            return await passwords.hash(password)
        finally:
            passwords.close()

    return asyncio.run(work())
