"""`heliograph migrate`."""

import asyncio

import typer

from heliograph.cli.database import require_file
from heliograph.cli.output import echo
from heliograph.database_url import parse_database_url
from heliograph.settings import load_settings
from heliograph.store import open_store, run_migrations

app = typer.Typer(add_completion=False)


@app.command()
def migrate(
    *,
    revision: str = typer.Option("head", help="The revision to end at; head is the newest."),
    downgrade: bool = typer.Option(
        False, "--downgrade", help="Go back to --revision; data of later revisions is lost."
    ),
) -> None:
    """Bring the database to the newest revision.

    Serving does that by itself unless AUTO_MIGRATE is false. Of a SQLite file a backup is taken
    first, beside it; MIGRATION_BACKUPS of them are kept.
    """
    if downgrade and revision == "head":
        raise typer.BadParameter("--downgrade needs a --revision, such as base")
    settings = load_settings()
    database_url = settings.database_url
    if downgrade:
        require_file(parse_database_url(database_url), accept_empty=settings.accept_empty_database)
    before = asyncio.run(_revision(database_url, accept_empty=settings.accept_empty_database))
    backup = run_migrations(
        database_url, revision, downgrade=downgrade, backups=settings.migration_backups
    )
    if backup is not None:
        echo(f"backup before the migration: {backup}", err=True)
    if before is None and not downgrade:
        echo(f"a new database: {parse_database_url(database_url).place}", err=True)
    after = asyncio.run(_revision(database_url))
    if before == after:
        echo(f"{after or 'none'}: nothing to do")
    else:
        echo(f"{before or 'none'} → {after or 'none'}")


async def _revision(database_url: str, *, accept_empty: bool = False) -> str | None:
    store = await open_store(database_url, accept_empty=accept_empty)
    try:
        return (await store.migration_state()).current
    finally:
        await store.close()
