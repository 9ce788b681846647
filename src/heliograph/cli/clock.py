"""`heliograph clock`: works on the database itself."""

import typer

from heliograph.cli.database import command_line, with_store
from heliograph.cli.output import echo
from heliograph.errors import StartError
from heliograph.ingest.clock import RELEASED
from heliograph.model.time import now, to_rfc3339
from heliograph.store import Store
from heliograph.store.clock import Acceptance

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def clock() -> None:
    """Keep `accept` a word of its own, though it is the only one."""


@app.command()
def accept() -> None:
    """End CLOCK_BEHIND at once: the clock is right, and was ahead before.

    A running server goes on within a second or two. Nothing is deleted or changed: what was stored
    from beyond now is left out of newest values until its time has passed.
    """
    moment = now()
    if moment < RELEASED:
        raise StartError(
            f"the clock shows {to_rfc3339(moment)}, before this version was released: set it first"
        )

    async def work(store: Store) -> int:
        newest_id, newest_receipt = await store.newest()
        acceptance = Acceptance(moment, newest_id, max(newest_receipt, moment))
        await store.clock.accept(acceptance, actor=command_line())
        return newest_receipt

    newest = with_store(work)
    echo(f"accepted: the clock shows {to_rfc3339(moment)}")
    if newest > moment:
        echo(
            f"rows were stored until {to_rfc3339(newest)}: those from beyond now are left out of"
            " newest values until their time has passed"
        )
