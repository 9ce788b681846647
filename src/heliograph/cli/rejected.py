"""`heliograph rejected`: reads the database itself; a running server stores what is resubmitted."""

import sys
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from typer import Option
from typer.core import TyperGroup

from heliograph.cli.database import collect, with_store
from heliograph.cli.local_server import Key, Token, Url, answer, server_client
from heliograph.cli.output import (
    Json,
    echo,
    parse_time,
    print_json,
    print_records,
    time_json,
    time_text,
)
from heliograph.errors import RejectionReason, StartError
from heliograph.model.records import RejectedMessage
from heliograph.store import Store

SHOWN_BYTES = 60
SHOWN_JSON_BYTES = 1_024
PAGE = 100
_HELP = ("-h", "--help")


class _ListingGroup(TyperGroup):
    """Lists where no other command is named: `heliograph rejected --from pump`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in _HELP):
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(add_completion=False, cls=_ListingGroup)

Identifier = Annotated[int, typer.Argument(metavar="ID", min=0, max=(1 << 63) - 1, help="Which.")]
Reason = Annotated[
    RejectionReason | None,
    Option("--reason", metavar="REASON", help="Those rejected for it, like MALFORMED_JSON."),
]


@app.command("list")
def list_rejected(
    *,
    limit: int = typer.Option(20, min=1, max=100_000, help="How many at most."),
    sender: str | None = typer.Option(
        None, "--from", metavar="NAME", help="Those of a device, a user, a topic or a route."
    ),
    reason: Reason = None,
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
        ("id", "time", "reason", "source", "from", "detail", "payload"),
        lambda message: (
            str(message.id),
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


@app.command()
def show(identifier: Identifier, *, json: Json = False) -> None:
    """Show a message: why it was rejected, and all that is kept of it."""
    message = _find(identifier)
    text = _head(message.payload, len(message.payload))
    if json:
        print_json({**_members(message), "payload": text})
        return
    kept = len(message.payload)
    size = f"{message.size} bytes" + ("" if kept == message.size else f", {kept} kept")
    for name, value in (
        ("received", time_text(message.receipt_timestamp)),
        ("reason", message.reason),
        ("detail", message.detail),
        ("elements", message.indexes or "all"),
        ("source", message.source),
        ("from", message.principal),
        ("size", size),
    ):
        echo(f"{name:8}  {value}")
    echo(f"\n{text}")


@app.command()
def download(
    identifier: Identifier,
    file: Annotated[str, typer.Argument(help="Where to write it, a new file; -: standard output.")],
) -> None:
    """Write the bytes of a message as they were sent: of large ones, the 64 KiB that are kept."""
    message = _find(identifier)
    if file == "-":
        sys.stdout.buffer.write(message.payload)
        sys.stdout.buffer.flush()
    else:
        try:
            with Path(file).open("xb") as stream:
                stream.write(message.payload)
        except OSError as error:
            raise StartError(f"{file}: {error.strerror}") from error
    if len(message.payload) < message.size:
        echo(f"{len(message.payload)} of {message.size} bytes were kept", err=True)


@app.command()
def resubmit(
    identifiers: Annotated[
        list[int] | None,
        typer.Argument(metavar="[ID]…", min=0, max=(1 << 63) - 1, help="Which ones."),
    ] = None,
    *,
    every: Annotated[bool, Option("--all", help="All of them.")] = False,
    reason: Reason = None,
    sensor: Annotated[
        str | None, Option("--sensor", help="Those of this sensor: UUID or device_id.")
    ] = None,
    topic: Annotated[
        str | None, Option("--topic", help="Those that came by this topic or route.")
    ] = None,
    start: Annotated[
        str | None, Option("--start", help="Those received from then on: RFC 3339, or seconds.")
    ] = None,
    end: Annotated[str | None, Option("--end", help="Those received before.")] = None,
    url: Url = None,
    api_key: Key = None,
    token: Token = None,
    json: Json = False,
) -> None:
    """Submit messages again, as their senders', once what was wrong is mended.

    What is stored leaves the list, and nothing is stored twice. Exits with 1 if some are kept.
    """
    wanted = {
        "reason": reason,
        "sensor": sensor,
        "topic": topic,
        "start_time": None if start is None else time_json(parse_time(start)),
        "end_time": None if end is None else time_json(parse_time(end)),
    }
    wanted = {name: value for name, value in wanted.items() if value is not None}
    if bool(identifiers) + bool(wanted) + every != 1:
        raise typer.BadParameter("give IDs, or what narrows the messages, or --all")
    stored, kept = 0, list[dict[str, Any]]()
    with server_client(url, api_key, token) as client:
        for identifier in identifiers or ():
            result = _resubmitted(client, identifier)
            stored += result["stored"]
            kept += [] if result["stored"] else [result]
        cursor: dict[str, str] | None = None if identifiers else {}
        while cursor is not None:
            page = answer(client.post("/messages/resubmit", json={**wanted, **cursor}))
            stored += page["stored"]
            kept += page["kept"]
            cursor = None if page["cursor"] is None else {"cursor": page["cursor"]}
    if json:
        print_json({"stored": stored, "kept": kept})
    else:
        echo(f"{stored} stored, {len(kept)} kept", err=True)
        if kept:
            print_records(
                kept, dict, ("id", "element", "reason", "detail"), _first_fault, as_json=False
            )
    if kept:
        raise typer.Exit(1)


def _resubmitted(client: httpx.Client, identifier: int) -> dict[str, Any]:
    """Return what became of a message; one that never can be stored is kept, not an error.

    Raises:
        StartError: there is no such message; the caller may not.
    """
    response = client.post(f"/messages/{identifier}/resubmit")
    if response.status_code != httpx.codes.CONFLICT:
        result: dict[str, Any] = answer(response)
        return result
    refused = response.json()
    fault = {"index": 0, "code": refused["code"], "detail": refused["detail"]}
    counts = {"accepted": 0, "duplicates": 0}
    return {"id": str(identifier), "stored": False, **counts, "rejected": [fault]}


def _first_fault(kept: dict[str, Any]) -> tuple[str, ...]:
    faults = kept["rejected"]
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    first = faults[0]
    return kept["id"], str(first["index"]), first["code"], first["detail"] + more


def _find(identifier: int) -> RejectedMessage:
    """Return the rejected message with this id.

    Raises:
        StartError: there is none.
    """

    async def work(store: Store) -> RejectedMessage:
        message = await store.messages.rejected(identifier)
        if message is None:
            raise StartError(f"there is no rejected message {identifier}")
        return message

    return with_store(work)


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
