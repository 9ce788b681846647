"""`heliograph network`: works on the database itself, with or without a running server."""

import uuid
from typing import Any

import typer

from heliograph.cli.database import command_line, with_store
from heliograph.cli.named import all_networks, found_account, found_network
from heliograph.cli.output import (
    Json,
    Switch,
    echo,
    print_json,
    print_records,
    time_json,
    time_text,
)
from heliograph.errors import AlreadyExistsError, StartError
from heliograph.model.sensor import LONGEST_TEXT, Network
from heliograph.model.time import now
from heliograph.store import Store

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.command()
def create(
    name: str = typer.Argument(help="What the network is called: unique in the whole server."),
    *,
    owner: str | None = typer.Option(
        None, help="The user who owns it; otherwise administrators alone see it."
    ),
    identifier: uuid.UUID | None = typer.Option(
        None, "--id", metavar="UUID", help="Its UUID; otherwise a new one."
    ),
    json: Json = False,
) -> None:
    """Make a network."""
    if not 1 <= len(name) <= LONGEST_TEXT or not name.isprintable():
        raise typer.BadParameter(f"1 to {LONGEST_TEXT} printable characters", param_hint="NAME")

    async def work(store: Store) -> Network:
        account = None if owner is None else await found_account(store, owner)
        try:
            return await store.networks.create(
                identifier=str(identifier or uuid.uuid4()),
                name=name,
                created_at=now(),
                owner=None if account is None else account.identifier,
                actor=command_line(),
            )
        except AlreadyExistsError as error:
            taken = f"the network {name!r}" if error.field == "name" else f"the id {identifier}"
            raise StartError(f"{taken} is already registered") from None

    network = with_store(work)
    if json:
        print_json(_members(network))
    else:
        echo(f"network  {network.name}\nid       {network.identifier}")


@app.command()
def packing(
    network: str = typer.Argument(help="The network's name, or its UUID."),
    state: Switch = typer.Argument(help="Whether what its sensors have measured may be packed."),
) -> None:
    """Have old measurements of a network packed, or never; what is packed stays so."""

    async def work(store: Store) -> None:
        found = await found_network(store, network)
        await store.networks.change(
            found.identifier, packing=state is Switch.ON, actor=command_line()
        )

    with_store(work)


@app.command("list")
def list_networks(*, json: Json = False) -> None:
    """List the networks, oldest first."""
    print_records(
        with_store(all_networks),
        _members,
        ("name", "shared keys", "created", "id"),
        lambda network: (
            network.name,
            "yes" if network.shared_keys else "no",
            time_text(network.created_at),
            network.identifier,
        ),
        as_json=json,
    )


def _members(network: Network) -> dict[str, Any]:
    return {
        "network_name": network.name,
        "network_identifier": network.identifier,
        "shared_keys": network.shared_keys,
        "packing": network.packing,
        "created_at": time_json(network.created_at),
    }
