"""`heliograph initialize`: what has to be done once before a server starts."""

import sys
import time

import typer

from heliograph.access.passwords import Passwords
from heliograph.cli.database import with_store
from heliograph.cli.migrate import migrate
from heliograph.cli.output import echo
from heliograph.cli.user import create
from heliograph.errors import DatabaseAwayError
from heliograph.server import make_administrator
from heliograph.settings import Settings, load_settings
from heliograph.store import Store

LOOK_SECONDS = 1.0

app = typer.Typer(add_completion=False)


@app.command()
def initialize(
    *,
    wait: float = typer.Option(
        60.0, min=0, help="Seconds to wait for PostgreSQL where it does not answer yet."
    ),
) -> None:
    """Wait for the database, migrate it, make the first administrator.

    The administrator is that of ADMIN_USERNAME and ADMIN_PASSWORD; in a terminal both are asked
    for where there is none. What is done already stays as it is.
    """
    settings = load_settings()
    _migrate_once_there(time.monotonic() + wait)

    async def work(store: Store) -> list[str]:
        return await _administrators(store, settings)

    administrators = with_store(work, settings)
    if not administrators and sys.stdin.isatty():
        create(
            typer.prompt("Name of the first administrator", default="admin", err=True),
            admin=True,
            look_alike=False,
            password_stdin=False,
            json=False,
        )
    elif not administrators:
        echo(
            "no administrator: set ADMIN_USERNAME and ADMIN_PASSWORD,"
            " or make one with heliograph user create NAME --admin",
            err=True,
        )
    else:
        echo(f"administrator: {', '.join(administrators)}")


def _migrate_once_there(deadline: float) -> None:
    told = False
    while True:
        try:
            migrate(revision="head", downgrade=False)
        except DatabaseAwayError as error:
            if time.monotonic() >= deadline:
                raise
            if not told:
                echo(f"waiting: {error}", err=True)
            told = True
            time.sleep(LOOK_SECONDS)
        else:
            return


async def _administrators(store: Store, settings: Settings) -> list[str]:
    passwords = Passwords()
    try:
        await make_administrator(settings, store, passwords)
    finally:
        passwords.close()
    accounts = await store.accounts.list()
    return [account.username for account in accounts if account.is_admin and account.is_active]
