"""`heliograph action`: works on the database itself, with or without a running server."""

from typing import Any

import msgspec
import typer

from heliograph.cli.database import collect, command_line, with_store
from heliograph.cli.output import Json, echo, print_records, time_json, time_text
from heliograph.errors import StartError
from heliograph.model.time import now
from heliograph.store import Store
from heliograph.store.actions import ActionRecord, ActionState

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def action() -> None:
    """See what rules have begun, and have it done again."""


@app.command("list")
def list_actions(
    *,
    limit: int = typer.Option(20, min=1, max=100_000, help="How many at most."),
    state: ActionState | None = typer.Option(None, help="Only those in this state."),
    kind: str | None = typer.Option(None, "--type", help="Like webhook, mqtt or notify."),
    rule: str | None = typer.Option(None, help="Only those of the rule with this UUID."),
    json: Json = False,
) -> None:
    """List the newest actions, and what became of them."""
    sensors: dict[int, tuple[str, str | None]] = {}
    rules: dict[str, str] = {}

    async def work(store: Store) -> list[ActionRecord]:
        async def read(actions: list[ActionRecord], wanted: int) -> list[ActionRecord]:
            found, _ = await store.actions.page(
                None, state=state, type=kind, rule=rule, offset=len(actions), limit=wanted
            )
            return found

        actions = await collect(read, limit)
        numbers = {each.sensor for each in actions if each.sensor}
        sensors.update(await store.messages.names_of_sensors(numbers))
        for identifier in {each.rule for each in actions if each.rule}:
            found = await store.rules.find(identifier)
            rules[identifier] = identifier if found is None else found.name
        return actions

    def members(each: ActionRecord) -> dict[str, Any]:
        identifier, device_id = sensors.get(each.sensor, (None, None))
        return _members(each) | {"sensor_identifier": identifier, "device_id": device_id}

    print_records(
        with_store(work),
        members,
        ("id", "time", "type", "state", "attempts", "rule", "sensor", "key", "error"),
        lambda each: (
            str(each.id),
            time_text(each.created_at),
            each.type,
            each.state,
            str(each.attempts),
            rules.get(each.rule, "-"),
            next((name for name in reversed(sensors.get(each.sensor, ())) if name), "-"),
            each.idempotency_key or "-",
            each.error or "-",
        ),
        as_json=json,
    )


@app.command()
def repeat(
    identifier: int = typer.Argument(metavar="ID", min=1, max=(1 << 63) - 1, help="Which."),
) -> None:
    """Have a finished action done again."""

    async def work(store: Store) -> None:
        if await store.actions.find(identifier) is None:
            raise StartError(f"there is no action {identifier}")
        if await store.actions.repeat(identifier, now(), actor=command_line()) is None:
            raise StartError(f"action {identifier} waits to be done anyway")

    with_store(work)
    echo(f"Action {identifier} is done again once the server looks.")


def _members(action: ActionRecord) -> dict[str, Any]:
    members = msgspec.structs.asdict(action)
    del members["body"], members["sensor"], members["position"], members["fingerprint"]
    members["idempotency_key"] = action.idempotency_key
    for name in ("timestamp", "due_at", "created_at", "finished_at"):
        members[name] = None if members[name] is None else time_json(members[name])
    return members
