"""`heliograph silence`: works on the database itself, with or without a running server."""

import uuid
from typing import Any

import typer

from heliograph.cli.database import collect, command_line, with_store
from heliograph.cli.named import found_device, found_rule, network_identifier
from heliograph.cli.output import (
    Json,
    echo,
    parse_time,
    print_json,
    print_records,
    time_json,
    time_text,
)
from heliograph.errors import StartError
from heliograph.model.alert import LONGEST_SILENCE, Silence
from heliograph.model.time import MINUTE, now
from heliograph.processing.server_alerts import CONDITION_NAMES
from heliograph.store import Store

app = typer.Typer(add_completion=False, no_args_is_help=True)

LONGEST_MINUTES = LONGEST_SILENCE // MINUTE


@app.command()
def add(
    *,
    minutes: int = typer.Option(60, min=1, max=LONGEST_MINUTES, help="For how long."),
    start: int | None = typer.Option(None, parser=parse_time, metavar="TIME", help="From when on."),
    network: str | None = typer.Option(
        None, help="Only alerts of this network: name or UUID; otherwise of all, and the server's."
    ),
    device: str | None = typer.Option(None, help="Only those of this device_id, or UUID."),
    tag: str | None = typer.Option(None, help="Only those of sensors with this tag."),
    rule: str | None = typer.Option(
        None, help="Only those of this rule (name or UUID) or condition of the server's."
    ),
    comment: str | None = typer.Option(None, help="Why."),
    identifier: uuid.UUID | None = typer.Option(
        None, "--id", metavar="UUID", help="Its UUID; otherwise a new one."
    ),
    json: Json = False,
) -> None:
    """Silence alerts for a time: nobody is told of them.

    A TIME is epoch seconds, or RFC 3339.
    """
    moment = now()
    starts_at = moment if start is None else start
    ends_at = starts_at + minutes * MINUTE
    if ends_at <= moment:
        raise typer.BadParameter("it would have ended by now", param_hint="--start")

    async def work(store: Store) -> Silence | None:
        of_network = await network_identifier(store, network)
        sensor = None if device is None else await found_device(store, device)
        if sensor is not None:
            of_network = of_network or sensor.network_identifier
        of_rule = rule
        if rule is not None and rule not in CONDITION_NAMES:
            found = await found_rule(store, rule, of_network)
            of_rule, of_network = found.identifier, found.network_identifier
        actor = command_line()
        silence = Silence(
            str(identifier or uuid.uuid4()),
            of_network,
            None if sensor is None else sensor.number,
            tag,
            of_rule,
            starts_at,
            ends_at,
            comment,
            actor.name,
            moment,
        )
        return await store.silences.create(silence, moment, actor=actor)

    made = with_store(work)
    if made is None:
        raise StartError("there are as many silences as there may be: end some")
    if json:
        print_json(_members(made))
    else:
        echo(f"silence  {made.identifier}\nends     {time_text(made.ends_at)}")


@app.command("list")
def list_silences(*, json: Json = False) -> None:
    """List the silences that have not ended, by when they start."""
    moment = now()

    async def work(store: Store) -> list[Silence]:
        async def read(silences: list[Silence], wanted: int) -> list[Silence]:
            page, _ = await store.silences.page(
                None, since=moment, offset=len(silences), limit=wanted
            )
            return page

        return await collect(read)

    print_records(
        with_store(work),
        _members,
        ("starts", "ends", "network", "sensor", "tag", "rule", "comment", "id"),
        lambda silence: (
            time_text(silence.starts_at),
            time_text(silence.ends_at),
            silence.network_identifier or "all",
            silence.device_id or silence.sensor_identifier or "-",
            silence.tag or "-",
            silence.rule or "-",
            silence.comment or "-",
            silence.identifier,
        ),
        as_json=json,
    )


@app.command()
def end(
    identifier: uuid.UUID = typer.Argument(metavar="ID", help="Its UUID, as `list` shows it."),
) -> None:
    """End a silence: people are told what holds."""

    async def work(store: Store) -> bool:
        return await store.silences.end(str(identifier), now(), actor=command_line())

    if not with_store(work):
        raise StartError(f"silence {identifier} not found")
    echo("ended")


def _members(silence: Silence) -> dict[str, Any]:
    return {
        "id": silence.identifier,
        "network_identifier": silence.network_identifier,
        "sensor_identifier": silence.sensor_identifier,
        "device_id": silence.device_id,
        "tag": silence.tag,
        "rule": silence.rule,
        "starts_at": time_json(silence.starts_at),
        "ends_at": time_json(silence.ends_at),
        "comment": silence.comment,
        "author": silence.author,
        "created_at": time_json(silence.created_at),
    }
