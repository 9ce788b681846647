"""`heliograph channel`: calls the running server, which alone has the key to secrets."""

import sys
from pathlib import Path
from typing import Annotated, Any

import httpx
import msgspec
import typer
from typer import Option

from heliograph.cli.local_server import Key, Token, Url, answer, server_client
from heliograph.cli.output import Json, echo, print_json, print_records
from heliograph.errors import StartError
from heliograph.model.identifiers import is_uuid
from heliograph.nearest import did_you_mean

app = typer.Typer(add_completion=False, no_args_is_help=True)

DEFAULT_NETWORK = "default"

Name = Annotated[str, typer.Argument(help="The channel's name or UUID.")]
NetworkOption = Annotated[
    str | None, Option("--network", help="Its network, by name or UUID; otherwise `default`.")
]
OfServer = Annotated[
    bool, Option("--server", help="Of no network: it is told the server's own alerts.")
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is called, unique in its network.")],
    *,
    email: Annotated[
        list[str] | None, Option("--email", help="An address that is told; repeatable.")
    ] = None,
    file: Annotated[
        str | None,
        Option("--file", help="A JSON object of its members, such as type and url; -: stdin."),
    ] = None,
    network: NetworkOption = None,
    server: OfServer = False,
    url: Url = None,
    api_key: Key = None,
    token: Token = None,
    json: Json = False,
) -> None:
    """Make a channel of e-mail addresses, or of what a file says."""
    if (file is None) == (not email):
        raise typer.BadParameter("give either --email or --file")
    members = {"type": "email", "to": email} if file is None else _read(file)
    with server_client(url, api_key, token) as client:
        whose = {"network_identifier": _network(client, network, server=server)}
        made = answer(client.post("/channels", json={**members, "name": name, **whose}))
    if json:
        print_json(made)
    else:
        echo(f"channel  {made['name']}\nid       {made['id']}")


@app.command("list")
def list_channels(
    *,
    network: Annotated[str | None, Option("--network", help="Only of this one.")] = None,
    url: Url = None,
    api_key: Key = None,
    token: Token = None,
    json: Json = False,
) -> None:
    """List channels, oldest first."""
    with server_client(url, api_key, token) as client:
        asked = None if network is None else _network(client, network, server=False)
        channels = _channels(client, asked)
    print_records(
        channels,
        lambda channel: channel,
        ("name", "type", "leads to", "in use", "network", "id"),
        lambda channel: (
            channel["name"],
            channel["type"],
            ", ".join(channel["to"] or ()) or channel["service"] or channel["url"],
            "yes" if channel["enabled"] else "no",
            channel["network_identifier"] or "(the server's)",
            channel["id"],
        ),
        as_json=json,
    )


@app.command("test")
def send_test(
    name: Name,
    *,
    network: NetworkOption = None,
    server: OfServer = False,
    url: Url = None,
    api_key: Key = None,
    token: Token = None,
) -> None:
    """Send a test to a channel, and say what became of it."""
    with server_client(url, api_key, token) as client:
        channel = _found(client, name, _network(client, network, server=server))
        told = answer(client.post(f"/channels/{channel}/test"))
    if not told["delivered"]:
        raise StartError(f"not delivered: {told['detail']}")
    echo("delivered" + (f"; {told['detail']}" if told["detail"] else ""))


@app.command()
def delete(
    name: Name,
    *,
    network: NetworkOption = None,
    server: OfServer = False,
    url: Url = None,
    api_key: Key = None,
    token: Token = None,
) -> None:
    """Delete a channel, and what it has not been told yet."""
    with server_client(url, api_key, token) as client:
        channel = _found(client, name, _network(client, network, server=server))
        answer(client.delete(f"/channels/{channel}"))


def _network(client: httpx.Client, name: str | None, *, server: bool) -> str | None:
    """Return the UUID of the network of this name; None: the server is meant.

    Raises:
        BadParameter: both are given.
        StartError: there is none.
    """
    if server:
        if name is not None:
            raise typer.BadParameter("give either --network or --server")
        return None
    name = name or DEFAULT_NETWORK
    if is_uuid(name):
        return name
    networks = answer(client.get("/networks", params={"limit": 10_000}))
    found = {each["network_name"]: str(each["network_identifier"]) for each in networks}
    if name not in found:
        raise StartError(f"network {name!r} not found{did_you_mean(name, found)}")
    return found[name]


def _channels(client: httpx.Client, network: str | None) -> list[dict[str, Any]]:
    asked = {"limit": 10_000} | ({} if network is None else {"network_identifier": network})
    found: list[dict[str, Any]] = answer(client.get("/channels", params=asked))
    return found


def _found(client: httpx.Client, name: str, network: str | None) -> str:
    """Return the UUID of the channel of this name, in this network or of the server.

    Raises:
        StartError: there is none.
    """
    if is_uuid(name):
        return name
    found = {
        each["name"]: str(each["id"])
        for each in _channels(client, network)
        if each["network_identifier"] == network
    }
    if name not in found:
        raise StartError(f"channel {name!r} not found{did_you_mean(name, found)}")
    return found[name]


def _read(file: str) -> dict[str, Any]:
    """Return the members that a file holds, or standard input.

    Raises:
        StartError: it can't be read, or holds no JSON object.
    """
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
        members = msgspec.json.decode(text)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StartError(f"--file {file}: {reason}") from None
    if not isinstance(members, dict):
        raise StartError(f"--file {file}: should hold a JSON object")
    return members
