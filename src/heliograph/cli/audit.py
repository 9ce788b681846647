"""`heliograph audit`: works on the database itself, with or without a running server."""

from typing import Any

import msgspec
import typer

from heliograph.cli.database import collect, with_store
from heliograph.cli.named import network_identifier
from heliograph.cli.output import parse_time, print_records, time_text
from heliograph.model.audit import ActorKind, AuditAction, AuditEntry
from heliograph.model.identifiers import is_uuid
from heliograph.store import Store
from heliograph.store.pages import GREATEST, LEAST

app = typer.Typer(add_completion=False)


@app.command()
def audit(
    *,
    limit: int = typer.Option(20, min=1, max=1_000_000, help="How many at most."),
    actor: str | None = typer.Option(None, help="A user name, a device_id, admin, …"),
    actor_kind: ActorKind | None = typer.Option(None, help="What the actor is known by."),
    action: AuditAction | None = typer.Option(None, metavar="ACTION", help="Like sensor.create."),
    resource: str | None = typer.Option(None, help="An identifier, or a name at that time."),
    network: str | None = typer.Option(
        None, help="A network's name, or its UUID, also after its end."
    ),
    start: int | None = typer.Option(None, parser=parse_time, metavar="TIME", help="Inclusive."),
    end: int | None = typer.Option(None, parser=parse_time, metavar="TIME", help="Exclusive."),
    json: bool = typer.Option(False, "--json", help="Print a JSON array."),
) -> None:
    """List who changed what, newest first.

    A TIME is epoch seconds, or RFC 3339.
    """

    async def work(store: Store) -> list[AuditEntry]:
        # The log outlives networks.
        is_known = network is None or is_uuid(network)
        of_network = network if is_known else await network_identifier(store, network)

        async def read(entries: list[AuditEntry], wanted: int) -> list[AuditEntry]:
            return await store.audit.list(
                networks=None if of_network is None else [of_network.lower()],
                actor_name=actor,
                actor_kind=actor_kind,
                action=action,
                resource=resource,
                start=LEAST if start is None else start,
                end=GREATEST if end is None else end,
                cursor=(entries[-1].timestamp, entries[-1].id) if entries else None,
                limit=wanted,
            )

        return await collect(read, limit)

    entries = with_store(work)
    print_records(
        entries,
        AuditEntry.members,
        ("time", "actor", "from", "action", "resource", "changes"),
        lambda entry: (
            time_text(entry.timestamp),
            _actor(entry),
            entry.address or "-",
            entry.action,
            entry.resource_name or entry.resource_identifier or "-",
            _changes(entry),
        ),
        as_json=json,
    )


def _actor(entry: AuditEntry) -> str:
    kind = "" if entry.actor_kind == "user" else f"{entry.actor_kind.replace('_', ' ')} "
    return f"{kind}{entry.actor_name}"


def _changes(entry: AuditEntry) -> str:
    """Return the changes as people read them: `name: "a" → "b"`, a secret by its name alone."""
    changes: dict[str, dict[str, Any]] = msgspec.json.decode(entry.changes)
    return ", ".join(
        " ".join([name + (":" if values else ""), *_values(values)])
        for name, values in changes.items()
    )


def _values(values: dict[str, Any]) -> list[str]:
    texts = {name: msgspec.json.encode(value).decode() for name, value in values.items()}
    if "old" in texts:
        return [texts["old"], "→", texts.get("new", "gone")]
    return list(texts.values())
