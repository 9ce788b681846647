"""`heliograph alert`: works on the database itself, with or without a running server."""

from typing import Any

import typer

from heliograph.cli.database import collect, command_line, with_store
from heliograph.cli.named import found_device, network_identifier
from heliograph.cli.output import Json, echo, print_records, time_json, time_text
from heliograph.errors import StartError
from heliograph.model.alert import Alert
from heliograph.model.time import now
from heliograph.store import Store

app = typer.Typer(add_completion=False, no_args_is_help=True)

STATES = ("open", "raised", "acknowledged", "cleared", "all")


@app.command("list")
def list_alerts(
    *,
    state: str = typer.Option("open", help="open, raised, acknowledged, cleared or all."),
    network: str | None = typer.Option(None, help="Only those of this network: name or UUID."),
    device: str | None = typer.Option(None, help="Only those of this device_id, or UUID."),
    limit: int = typer.Option(100, min=1, max=1_000_000, help="How many at most."),
    json: Json = False,
) -> None:
    """List the alerts that have not cleared, newest first."""
    if state not in STATES:
        raise typer.BadParameter(f"one of {', '.join(STATES)}", param_hint="--state")

    async def work(store: Store) -> list[Alert]:
        of_network = await network_identifier(store, network)
        sensor = None if device is None else (await found_device(store, device)).number

        async def read(alerts: list[Alert], wanted: int) -> list[Alert]:
            page, _ = await store.alerts.page(
                None if of_network is None else [of_network],
                state=None if state == "all" else state,
                sensor=sensor,
                offset=len(alerts),
                limit=wanted,
            )
            return page

        return await collect(read, limit)

    print_records(
        with_store(work),
        _members,
        ("id", "raised", "severity", "state", "sensor", "alert"),
        lambda alert: (
            str(alert.id),
            time_text(alert.raised_at),
            alert.severity,
            alert.state,
            alert.device_id or alert.sensor_identifier or "-",
            f"{alert.name}: {alert.summary}" if alert.summary else alert.name,
        ),
        as_json=json,
    )


@app.command()
def acknowledge(
    identifier: int = typer.Argument(metavar="ID", help="The alert's id, as `list` shows it."),
    *,
    comment: str | None = typer.Option(None, help="What is being done about it."),
) -> None:
    """Say that somebody looks after an alert: nobody is reminded of it any more."""

    async def work(store: Store) -> Alert | None:
        return await store.alerts.acknowledge(
            identifier, now(), comment=comment, actor=command_line()
        )

    echo(f"acknowledged: {_open(with_store(work), identifier).name}")


@app.command()
def clear(
    identifier: int = typer.Argument(metavar="ID", help="The alert's id, as `list` shows it."),
) -> None:
    """Clear an alert by hand, though its condition holds."""

    async def work(store: Store) -> Alert | None:
        return await store.alerts.clear(identifier, now(), actor=command_line())

    echo(f"cleared: {_open(with_store(work), identifier).name}")


def _open(alert: Alert | None, identifier: int) -> Alert:
    if alert is None:
        raise StartError(f"alert {identifier} is not open")
    return alert


def _members(alert: Alert) -> dict[str, Any]:
    return {
        "id": str(alert.id),
        "state": alert.state,
        "severity": alert.severity,
        "name": alert.name,
        "summary": alert.summary,
        "rule": alert.rule,
        "network_identifier": alert.network_identifier,
        "sensor_identifier": alert.sensor_identifier,
        "device_id": alert.device_id,
        "raised_at": time_json(alert.raised_at),
        "count": alert.count,
        "acknowledged_at": time_json(alert.acknowledged_at),
        "acknowledged_by": alert.acknowledged_by,
        "comment": alert.comment,
        "cleared_at": time_json(alert.cleared_at),
        "cleared_by": alert.cleared_by,
    }
