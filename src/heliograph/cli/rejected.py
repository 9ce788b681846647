"""`heliograph rejected`."""

from typing import Any

import typer

from heliograph.cli.database import collect, with_store
from heliograph.cli.output import echo, print_records, time_json, time_text
from heliograph.errors import RejectionReason
from heliograph.model.records import RejectedMessage
from heliograph.store import Store

SHOWN_BYTES = 60
SHOWN_JSON_BYTES = 1_024
PAGE = 100

app = typer.Typer(add_completion=False)


@app.command()
def rejected(
    *,
    limit: int = typer.Option(20, min=1, max=100_000, help="How many at most."),
    sender: str | None = typer.Option(
        None, "--from", metavar="NAME", help="Those of a device, a user, a topic or a route."
    ),
    reason: RejectionReason | None = typer.Option(
        None, metavar="REASON", help="Those rejected for it, like MALFORMED_JSON."
    ),
    json: bool = typer.Option(False, "--json", help="Print a JSON array."),
) -> None:
    """List the newest messages that could not be accepted, and why."""

    async def work(store: Store) -> tuple[list[RejectedMessage], int]:
        found = None if sender is None else await store.sensors.find(sender)

        async def read(messages: list[RejectedMessage], wanted: int) -> list[RejectedMessage]:
            return await store.rejected.list(
                limit=wanted,
                before=messages[-1].id if messages else None,
                sender=sender,
                sensor=None if found is None else found.number,
                reason=reason,
            )

        messages = await collect(read, limit, at_once=PAGE)
        return messages, (await store.rejected.totals())[0]

    messages, total = with_store(work)
    print_records(
        messages,
        _members,
        ("time", "reason", "source", "from", "detail", "payload"),
        lambda message: (
            time_text(message.receipt_timestamp),
            message.reason,
            message.source,
            message.principal,
            message.detail,
            _head(message.payload, SHOWN_BYTES),
        ),
        as_json=json,
    )
    if not json:
        echo(f"{len(messages)} of {total} kept", err=True)


def _head(payload: bytes, length: int) -> str:
    text = payload[:length].decode("utf-8", "backslashreplace")
    return text + ("…" if len(payload) > length else "")


def _members(message: RejectedMessage) -> dict[str, Any]:
    return {
        "id": str(message.id),
        "receipt_timestamp": time_json(message.receipt_timestamp),
        "reason": message.reason,
        "source": message.source,
        "principal": message.principal,
        "detail": message.detail,
        "size": message.size,
        "indexes": message.indexes,
        "payload": _head(message.payload, SHOWN_JSON_BYTES),
    }
