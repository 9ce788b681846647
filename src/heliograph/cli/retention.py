"""`heliograph retention`: works on the database itself."""

from typing import Any

import typer

from heliograph import logs
from heliograph.cli.database import command_line, with_store
from heliograph.cli.named import all_networks
from heliograph.cli.output import Json, echo, print_json, print_table
from heliograph.model.counting import counted
from heliograph.model.retention import LEAP, Horizon, advance
from heliograph.model.time import DAY, now, to_rfc3339
from heliograph.retention.plan import Due, DueCounter, Planned
from heliograph.retention.runs import RetentionRuns, RunsState
from heliograph.settings import Settings, load_settings
from heliograph.store import Store
from heliograph.store.removal import KeptKind, Partition

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.command()
def plan(*, json: Json = False) -> None:
    """Tell what a run would remove now; nothing is removed.

    Bytes estimate what that gives back.
    """
    settings = load_settings()

    async def work(store: Store) -> tuple[Horizon, dict[str, Planned], Due, list[Partition], int]:
        horizon = advance((await store.clock.read()).horizon, now(), 0)
        due = DueCounter(store, settings.retention, horizon.moment)
        planned = await due.of_networks()
        networks = await all_networks(store)
        return (
            horizon,
            {each.name: planned.get(each.identifier, Planned.nothing()) for each in networks},
            await due.unknown_packets(),
            await due.partitions(),
            due.not_rolled_up,
        )

    horizon, planned, unknown, partitions, not_rolled_up = with_store(work, settings)
    _warn_of_leap(horizon)
    if json:
        print_json(
            {
                "moment": to_rfc3339(horizon.moment),
                "networks": {name: _members(each.due) for name, each in planned.items()},
                "unknown_packets": _member(unknown),
                "partitions": [each.name for each in partitions],
                "not_rolled_up": not_rolled_up,
            }
        )
        return
    print_table(
        ("network", "sensors", *(kind.value for kind in KeptKind), "bytes"),
        (
            (
                name,
                str(each.sensors),
                *(_text(each.due[kind]) for kind in KeptKind),
                f"{sum(due.bytes for due in each.due.values()):,}",
            )
            for name, each in sorted(planned.items())
        ),
    )
    if unknown.rows:
        echo(
            f"of devices that are not known go {counted(unknown.rows, 'packet')},"
            f" {unknown.bytes:,} bytes",
            err=True,
        )
    for partition in partitions:
        echo(f"dropped as a whole: {partition.name}, {partition.bytes:,} bytes", err=True)
    if not_rolled_up:
        echo(
            f"due too, but kept until rolled up: {counted(not_rolled_up, 'measurement')}",
            err=True,
        )


@app.command()
def run() -> None:
    """Remove what is due now.

    A server does so every hour. On SQLite it can't run at the same time.
    """
    settings = load_settings()
    logs.configure(settings.log_level, settings.log_format)
    state = with_store(
        lambda store: _run(store, settings), settings, claimed="it does this itself, every hour"
    )
    removed = ", ".join(f"{state.removed_total[kind]:,} {kind}" for kind in KeptKind)
    echo(f"removed {removed}; dropped {state.partitions_total} partitions")
    _warn_of_leap(state.horizon)


@app.command()
def accept() -> None:
    """Say that the clock is right, though it has leapt: what waits for that goes.

    A running server begins with it within a second or two.
    """

    async def work(store: Store) -> tuple[Horizon | None, int]:
        moment = now()
        return await store.clock.accept_horizon(moment, actor=command_line()), moment

    last, moment = with_store(work)
    if last is None or last.moment + LEAP >= moment:
        echo(f"nothing waited; the clock shows {to_rfc3339(moment)}")
        return
    days = (moment - last.moment) / DAY
    echo(f"accepted: what is due by {to_rfc3339(moment)} goes, {days:.1f} days more")


async def _run(store: Store, settings: Settings) -> RunsState:
    runs = RetentionRuns(store, settings.retention, clock=now)
    await runs.sweep(await runs.horizon())
    return runs.state


def _warn_of_leap(horizon: Horizon | None) -> None:
    if horizon is not None and horizon.waits:
        days = (horizon.clock - horizon.moment) / DAY
        echo(
            f"the clock has leapt by {days:.1f} days since the last run: what is due by them waits;"
            " if the clock is right, run heliograph retention accept",
            err=True,
        )


def _text(due: Due) -> str:
    return f"{'' if due.is_exact else '~'}{due.rows:,}"


def _members(due: dict[KeptKind, Due]) -> dict[str, Any]:
    return {kind.value: _member(each) for kind, each in due.items()}


def _member(due: Due) -> dict[str, Any]:
    return {"rows": due.rows, "bytes": due.bytes, "exact": due.is_exact}
