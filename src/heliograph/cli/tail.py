"""`heliograph tail`."""

import json
import signal
import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import httpx
import typer
from typer import Option

from heliograph.cli.local_server import (
    Token,
    client_options,
    default_url,
    refusal,
    url_key,
)
from heliograph.errors import StartError
from heliograph.model.identifiers import is_uuid
from heliograph.nearest import did_you_mean
from heliograph.printable import printable, printable_json

CONNECT_SECONDS = 10.0
# The server sends a sign of life every 15 seconds.
SILENCE_SECONDS = 45.0
FIRST_RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 10.0
# What is no record, and has no place in a line for people.
NAMES = ("sensor_identifier", "device_id", "creation_timestamp")

app = typer.Typer(add_completion=False)


@app.command()
def tail(
    network: Annotated[
        str | None, typer.Argument(help="UUID or name; default: all you may see.")
    ] = None,
    *,
    sensor: Annotated[
        list[str] | None, Option("--sensor", help="UUID or device_id; repeatable.")
    ] = None,
    kind: Annotated[
        list[str] | None, Option("--kind", help="measurement, log, heartbeat, …; repeatable.")
    ] = None,
    last_event_id: Annotated[
        str, Option("--last-event-id", help="Go on after this event, at most an hour back.")
    ] = "",
    url: Annotated[str | None, Option(help="The server; otherwise this machine's PORT.")] = None,
    api_key: Annotated[
        str | None,
        Option(
            envvar="HELIOGRAPH_API_KEY",
            help="Admin or device key; otherwise, for this machine, the settings' or data"
            " folder's.",
        ),
    ] = None,
    token: Token = None,
    count: Annotated[
        int, Option(min=0, help="End after so many events; 0: go on until Ctrl-C.")
    ] = 0,
    as_json: Annotated[bool, Option("--json", help="Print each event as a line of JSON.")] = False,
) -> None:
    """Follow what sensors send, as it is committed.

    Connects again by itself when the connection ends, and goes on where it was.
    """
    url = url or default_url("127.0.0.1")
    key = None if token is not None else url_key(api_key, url)
    parameters = [("sensor", name) for name in sensor or ()]
    parameters += [("kind", name) for name in kind or ()]
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        with httpx.Client(
            **client_options(url, key, token),
            timeout=httpx.Timeout(CONNECT_SECONDS, read=SILENCE_SECONDS),
        ) as client:
            path = f"/streams/{_network(client, network)}" if network else "/events"
            printed = 0
            for event in _follow(client, path, httpx.QueryParams(tuple(parameters)), last_event_id):
                if event["event"] == "activity":
                    continue
                print(_line(event, as_json=as_json), flush=True)
                printed += 1
                if printed == count:
                    return
    except httpx.HTTPError as error:
        raise StartError(f"--url {url}: {error or type(error).__name__}") from error
    except KeyboardInterrupt:
        raise typer.Exit from None


def _network(client: httpx.Client, network: str) -> str:
    """Return the UUID of a network that is given by it or by its name."""
    if is_uuid(network):
        return network
    response = client.get("/networks", params={"limit": 10_000})
    _check(response)
    found = {str(each["network_name"]): str(each["network_identifier"]) for each in response.json()}
    if network not in found:
        raise StartError(f"network {network!r} not found{did_you_mean(network, found)}")
    return found[network]


def _follow(
    client: httpx.Client, path: str, parameters: httpx.QueryParams, last_event_id: str
) -> Iterator[dict[str, str]]:
    """Yield events for ever.

    Raises:
        StartError: the server refuses.
        httpx.TransportError: it was never reached.
    """
    reached, delay = False, FIRST_RETRY_SECONDS
    while True:
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        try:
            with client.stream("GET", path, params=parameters, headers=headers) as response:
                # A proxy before a server that starts again says 502, or 504.
                if not reached or not (response.is_server_error or response.status_code == 429):
                    _check(response)
                reached = True
                for block in _blocks(response.iter_lines()):
                    delay = FIRST_RETRY_SECONDS
                    last_event_id = block.get("id", last_event_id)
                    if "event" in block:
                        yield block
        except httpx.TransportError:
            if not reached:
                raise
        time.sleep(delay)
        delay = min(delay * 2, LONGEST_RETRY_SECONDS)


def _blocks(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """Yield the fields of each block of Server-Sent Events."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if name:
            fields[name] = value.removeprefix(" ")
        elif not line:
            yield fields
            fields = {}


def _check(response: httpx.Response) -> None:
    if response.is_error:
        response.read()
        raise StartError(f"the server answers {response.status_code}: {refusal(response)}")


def _line(event: dict[str, str], *, as_json: bool) -> str:
    data: Any = json.loads(event["data"])
    if as_json:
        return printable_json(
            json.dumps({"event": event["event"], "id": event.get("id"), "data": data})
        )
    sensor = data.get("device_id") or data.get("sensor_identifier") or "-"
    rest = {name: value for name, value in data.items() if name not in NAMES}
    if event["event"] == "measurement":
        rest = data["measurement"]
    when = data.get("creation_timestamp", data.get("timestamp"))
    moment = time.gmtime(time.time() if when is None else when)
    clock = time.strftime("%Y-%m-%d %H:%M:%SZ", moment)
    text = json.dumps(rest, ensure_ascii=False)
    return printable(f"{clock}  {sensor}  {event['event']}  {text}")
