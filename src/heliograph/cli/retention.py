"""`heliograph retention`: works on the database itself."""

from typing import Any

import typer

from heliograph import logs
from heliograph.cli.database import with_store
from heliograph.cli.output import print_json, print_table
from heliograph.model.time import now
from heliograph.retention.plan import Due, Plan, Planned
from heliograph.retention.runs import RetentionRuns, RunsState
from heliograph.settings import Settings, load_settings
from heliograph.store import Store
from heliograph.store.claim import Claim
from heliograph.store.removal import Kind, Partition

NETWORKS_AT_ONCE = 1_000

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Tell what is due by the retention of networks and sensors, and remove it.",
)


@app.command()
def plan(*, json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """Tell what a run would remove now; nothing is removed.

    Numbers of rows with a ~ are estimates; bytes always are.
    """
    settings = load_settings()

    async def work(store: Store) -> tuple[dict[str, Planned], list[Partition]]:
        due = Plan(store, settings.retention, now())
        planned = await due.of_networks()
        names = await _names(store)
        return (
            {names.get(network, network): each for network, each in planned.items()},
            await due.partitions(),
        )

    planned, partitions = with_store(settings, work)
    if json:
        print_json(
            {
                "networks": {name: _members(each.due) for name, each in planned.items()},
                "partitions": [each.name for each in partitions],
            }
        )
        return
    print_table(
        ("network", "sensors", *(kind.value for kind in Kind), "bytes"),
        (
            (
                name,
                str(each.sensors),
                *(_text(each.due[kind]) for kind in Kind),
                f"{sum(due.bytes for due in each.due.values()):,}",
            )
            for name, each in sorted(planned.items())
        ),
    )
    for partition in partitions:
        typer.echo(f"dropped as a whole: {partition.name}, {partition.bytes:,} bytes", err=True)


@app.command()
def run() -> None:
    """Remove what is due now.

    A server does so every hour. On SQLite it can't run at the same time.
    """
    settings = load_settings()
    logs.configure(settings.log_level, settings.log_format)
    claim = Claim(settings.database_url)
    try:
        state = with_store(settings, lambda store: _run(store, settings))
    finally:
        claim.release()
    removed = ", ".join(f"{state.removed_total[kind]:,} {kind}" for kind in Kind)
    typer.echo(f"removed {removed}; dropped {state.partitions_total} partitions")


async def _run(store: Store, settings: Settings) -> RunsState:
    runs = RetentionRuns(store, settings.retention, clock=now)
    await runs.sweep(now())
    return runs.state


async def _names(store: Store) -> dict[str, str]:
    names: dict[str, str] = {}
    while True:
        page, total = await store.networks.list(
            account=None, offset=len(names), limit=NETWORKS_AT_ONCE
        )
        names |= {network.identifier: network.name for network in page}
        if not page or len(names) >= total:
            return names


def _text(due: Due) -> str:
    return f"{'' if due.is_exact else '~'}{due.rows:,}"


def _members(due: dict[Kind, Due]) -> dict[str, Any]:
    return {
        kind.value: {"rows": each.rows, "bytes": each.bytes, "exact": each.is_exact}
        for kind, each in due.items()
    }
