"""`heliograph compact`: gives the room back that a SQLite file no longer needs."""

import typer

from heliograph.cli.database import with_store
from heliograph.cli.output import echo
from heliograph.database_url import parse_database_url
from heliograph.errors import StartError
from heliograph.settings import load_settings
from heliograph.store import Store

app = typer.Typer(add_completion=False)


@app.command()
def compact() -> None:
    """Make SQLite's file as small as what is in it, while no server runs.

    Needs free room beside it of twice what is in it. From then on the server shortens the file by
    itself, a little at a time, when much of it is free; a file that this version has made it
    shortens anyway.
    """
    settings = load_settings()
    url = parse_database_url(settings.database_url)
    if not url.is_sqlite:
        raise StartError("PostgreSQL gives room back by itself, or by VACUUM FULL")

    async def work(store: Store) -> int:
        before = url.path.stat().st_size
        await store.engine.compact()
        return before

    before = with_store(work, settings, claimed="stop it first")
    echo(f"{url.path}: {before:,} bytes before, now {url.path.stat().st_size:,}")
