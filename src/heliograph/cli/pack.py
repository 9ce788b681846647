"""`heliograph pack`: works on the database itself."""

from typing import Annotated

import typer
from typer import Option

from heliograph import logs
from heliograph.cli.database import with_store
from heliograph.cli.output import echo, parse_time
from heliograph.model.counting import counted
from heliograph.model.time import now
from heliograph.packer import LEAST_AGE, Packer
from heliograph.settings import load_settings
from heliograph.store import Store

app = typer.Typer(add_completion=False)


@app.command()
def pack(
    *,
    until: Annotated[
        int | None,
        Option(
            parser=parse_time,
            metavar="TIME",
            help="Exclusive: RFC 3339 or epoch seconds; two hours ago, if not given.",
        ),
    ] = None,
) -> None:
    """Pack old measurements into compressed columns, read as before.

    Those of hours, days, weeks or months that have ended by then, and are rolled up. What came
    within the last two hours stays as it is. From then on a server does so by itself, unless
    PACK_AFTER says otherwise. On SQLite it can't run at the same time.
    """
    settings = load_settings()
    logs.configure(settings.log_level, settings.log_format)
    latest = now() - LEAST_AGE

    async def work(store: Store) -> int:
        packer = Packer(store, 0, moment=now, rests=False)
        end = latest if until is None else min(until, latest)
        packed = await packer.pack(end, received_before=latest)
        await store.chunks.pack_by_itself()
        return packed

    claimed = "it does this itself, or with PACK_AFTER=26h"
    echo(f"packed {counted(with_store(work, settings, claimed=claimed), 'measurement')}")
