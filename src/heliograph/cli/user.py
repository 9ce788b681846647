"""`heliograph user`: works on the database itself, with or without a running server."""

import asyncio
import sys
import uuid

import typer

from heliograph.cli.actor import command_line
from heliograph.cli.database import with_store
from heliograph.cli.echo import echo
from heliograph.cli.output import print_json, print_table, time_json, time_text
from heliograph.errors import AlreadyExistsError, StartError
from heliograph.model.account import USERNAME_RULE, Account, is_username
from heliograph.model.time import now
from heliograph.passwords import LONGEST, SHORTEST, Passwords
from heliograph.settings import load_settings
from heliograph.store import Store

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Make accounts, list them, set their passwords, take them out of use.",
)

Username = typer.Argument(help="The name to log in with.")
Piped = typer.Option(
    False, "--password-stdin", help="Read the password from standard input instead of asking."
)


@app.command()
def create(
    username: str = Username,
    *,
    admin: bool = typer.Option(False, "--admin", help="May do everything, in every network."),
    password_stdin: bool = Piped,
) -> None:
    """Make an account."""
    if not is_username(username):
        raise typer.BadParameter(USERNAME_RULE, param_hint="USERNAME")
    password_hash = _hash(_password(piped=password_stdin))

    async def work(store: Store) -> Account:
        try:
            return await store.accounts.create(
                identifier=str(uuid.uuid4()),
                username=username,
                password_hash=password_hash,
                created_at=now(),
                is_admin=admin,
                actor=command_line(),
            )
        except AlreadyExistsError:
            raise StartError(f"the username {username!r} is already registered") from None

    account = with_store(load_settings(), work)
    echo(f"user  {account.username}\nid    {account.identifier}")


@app.command()
def passwd(username: str = Username, *, password_stdin: bool = Piped) -> None:
    """Set an account's password; its sessions end."""
    password_hash = _hash(_password(piped=password_stdin))

    async def work(store: Store) -> bool:
        account = await store.accounts.find_username(username)
        return account is not None and await store.accounts.change_password(
            account.identifier, password_hash, actor=command_line()
        )

    if not with_store(load_settings(), work):
        raise StartError(f"user {username!r} not found")


@app.command()
def deactivate(username: str = Username) -> None:
    """Take an account out of use: nobody logs in with it, its sessions and connections end."""
    _activate(username, is_active=False)


@app.command()
def activate(username: str = Username) -> None:
    """Let an account be used again."""
    _activate(username, is_active=True)


def _activate(username: str, *, is_active: bool) -> None:
    async def work(store: Store) -> bool:
        account = await store.accounts.find_username(username)
        if account is None:
            return False
        # To have it so already is no failure.
        await store.accounts.activate(account.identifier, is_active=is_active, actor=command_line())
        return True

    if not with_store(load_settings(), work):
        raise StartError(f"user {username!r} not found")


@app.command("list")
def list_users(*, json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """List the accounts, oldest first."""

    async def work(store: Store) -> list[Account]:
        return await store.accounts.list()

    accounts = with_store(load_settings(), work)
    if json:
        print_json(
            [
                {
                    "username": account.username,
                    "id": account.identifier,
                    "is_admin": account.is_admin,
                    "is_active": account.is_active,
                    "created_at": time_json(account.created_at),
                }
                for account in accounts
            ]
        )
        return
    print_table(
        ("username", "id", "administrator", "active", "created"),
        [
            (
                account.username,
                account.identifier,
                "yes" if account.is_admin else "",
                "yes" if account.is_active else "no",
                time_text(account.created_at),
            )
            for account in accounts
        ],
    )


def _password(*, piped: bool) -> str:
    if piped:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    if not SHORTEST <= len(password) <= LONGEST:
        raise StartError(f"a password has {SHORTEST} to {LONGEST} characters")
    return password


def _hash(password: str) -> str:
    async def work() -> str:
        passwords = Passwords()
        try:
            return await passwords.hash(password)
        finally:
            passwords.close()

    return asyncio.run(work())
