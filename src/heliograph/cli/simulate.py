"""`heliograph simulate`."""

import asyncio
import json
import re
import signal
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from paho.mqtt.enums import MQTTProtocolVersion
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text
from typer import Option

from heliograph.address import is_loopback
from heliograph.cli.local_server import AdminKey, Key, admin_key, client_options, default_url
from heliograph.cli.output import echo, parse_time
from heliograph.errors import StartError
from heliograph.model.counting import counted
from heliograph.model.time import SECOND, now, to_epoch_seconds
from heliograph.printable import printable
from heliograph.settings import load_settings
from heliograph.simulator.connection import ConnectOptions
from heliograph.simulator.fleet import (
    Credentials,
    Fleet,
    PastPeriod,
    SimulationPlan,
    device_ids,
)
from heliograph.simulator.tally import Tally, total

_LENGTH = re.compile(r"([1-9][0-9]{0,8})([smhd])", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

PROTOCOLS = {"3.1.1": MQTTProtocolVersion.MQTTv311, "5": MQTTProtocolVersion.MQTTv5}

# The display on standard error: a table on a terminal, plain lines elsewhere.
TERMINAL_SECONDS = 0.5
LINE_SECONDS = 5.0
# Of registrations: names a page, devices at once.
PAGE = 10_000
AT_ONCE = 1_000
TIME_OUT_SECONDS = 15.0
MOST_ATTEMPTS = 20

app = typer.Typer(add_completion=False)


Sensors = Annotated[int, Option(min=1, max=100_000, help="How many: sim-0001 and up.")]
Rate = Annotated[
    float, Option(min=0, help="Messages a second, of all together; 0: as fast as it can.")
]
Duration = Annotated[float, Option(min=0, help="Seconds; 0: until Ctrl-C.")]
Qos = Annotated[int, Option(min=0, max=2, help="0 is not acknowledged.")]
Batch = Annotated[int, Option(min=1, max=1_000, help="Measurements in a message.")]
Host = Annotated[str, Option(help="Where MQTT is.")]
Port = Annotated[
    int | None,
    Option(min=1, max=65_535, help="MQTT's port; otherwise that of the settings."),
]
Tls = Annotated[bool, Option("--tls", help="Connect with TLS.")]
Authority = Annotated[
    Path | None, Option(exists=True, dir_okay=False, help="PEM file of the authority to believe.")
]
Url = Annotated[
    str | None,
    Option(help="HTTP API for registering missing devices; otherwise --host and PORT."),
]
Registration = Annotated[bool, Option("--register/--no-register", help="Register missing devices.")]
Username = Annotated[str | None, Option(help="User name for gateway connections.")]
Password = Annotated[
    str | None,
    Option(envvar="HELIOGRAPH_PASSWORD", help="Password that goes with --username."),
]
Connections = Annotated[
    int, Option(min=0, help="Up to so many sensors have a connection each; more share gateways.")
]
Gateways = Annotated[int, Option(min=1, max=1_000, help="Gateway connections.")]
Protocol = Annotated[str, Option(help="MQTT version: 5 or 3.1.1.")]
Window = Annotated[int, Option(min=1, max=30_000, help="Unacknowledged a connection.")]
Drain = Annotated[float, Option(min=0, help="Seconds to wait for the last ones.")]
Seed = Annotated[int, Option(help="The same seed makes the same sensors.")]
Late = Annotated[
    float, Option(min=0, max=1, help="Share of the messages that come up to 20 turns late.")
]
Repeated = Annotated[float, Option(min=0, max=1, help="Share of the messages that come twice.")]
Length = Annotated[
    str | None,
    Option("--replay", help="Send what was measured over so long, like 24h, instead of now."),
]
Start = Annotated[
    int | None,
    Option(
        parser=parse_time,
        metavar="TIME",
        help="Replay: where it begins, RFC 3339 or epoch seconds; otherwise so long ago.",
    ),
]
Interval = Annotated[
    float, Option(min=0.001, help="Replay: seconds between a sensor's measurements.")
]
Speed = Annotated[
    float, Option(min=0, help="Replay: how many times as fast as it was; 0: as fast as it can.")
]
Json = Annotated[bool, Option("--json", help="Print the final count as JSON.")]


@app.command()
def simulate(
    *,
    sensors: Sensors = 10,
    rate: Rate = 10.0,
    duration: Duration = 0.0,
    qos: Qos = 1,
    batch: Batch = 1,
    host: Host = "127.0.0.1",
    port: Port = None,
    tls: Tls = False,
    ca: Authority = None,
    url: Url = None,
    registration: Registration = True,
    api_key: Key = None,
    username: Username = None,
    password: Password = None,
    connections: Connections = 200,
    gateways: Gateways = 4,
    protocol: Protocol = "5",
    window: Window = 1_000,
    drain: Drain = 30.0,
    seed: Seed = 1,
    late: Late = 0.0,
    repeated: Repeated = 0.0,
    replay: Length = None,
    start: Start = None,
    interval: Interval = 60.0,
    speed: Speed = 0.0,
    as_json: Json = False,
) -> None:
    """Send what many sensors would send, over MQTT, and count what is acknowledged.

    Weather sensors with daily cycles, noise and gaps; the last one fails now and then, and
    logs it. The final count can be held against the database. The exit code is 1 when
    anything was not acknowledged or was refused.

    With --replay it is a time in the past, and --rate and --duration do not count. The same
    seed, start and interval bring the same again, which the server drops as repeats.
    """
    if protocol not in PROTOCOLS:
        raise typer.BadParameter("5 or 3.1.1", param_hint="--protocol")
    if (username is None) != (password is None):
        raise typer.BadParameter("goes with --password, and the other way round")
    endpoint = ConnectOptions(
        host=host,
        port=port or _default_port(host, tls=tls),
        tls=_tls_context(ca) if tls or ca else None,
        protocol=PROTOCOLS[protocol],
        qos=qos,
        window=window,
    )
    plan = SimulationPlan(
        sensors,
        rate,
        duration,
        batch,
        seed,
        connections,
        gateways,
        drain,
        late,
        repeated,
        _replay(replay, start, interval, speed),
    )
    key = admin_key(api_key, host) if registration or password is None else None
    tally = Tally()
    seconds = asyncio.run(
        _simulate(
            plan,
            endpoint,
            tally,
            key=key,
            login=None if username is None or password is None else (username, password),
            url=(url or default_url(host)) if registration else None,
        )
    )
    _report(tally.summary(qos=qos, seconds=seconds), as_json=as_json)
    if not tally.is_complete:
        raise typer.Exit(1)


def _replay(
    length: str | None, start: int | None, interval: float, speed: float
) -> PastPeriod | None:
    if length is None:
        if start is not None:
            raise typer.BadParameter("goes with --replay", param_hint="--start")
        return None
    match = _LENGTH.fullmatch(length)
    if match is None:
        raise typer.BadParameter("must be like 90s, 15m, 24h or 7d", param_hint="--replay")
    seconds = int(match[1]) * _UNITS[match[2]]
    begin = now() - seconds * SECOND if start is None else start
    return PastPeriod(to_epoch_seconds(begin), seconds, interval, speed)


async def _simulate(
    plan: SimulationPlan,
    endpoint: ConnectOptions,
    tally: Tally,
    *,
    key: AdminKey | None,
    login: tuple[str, str] | None,
    url: str | None,
) -> float:
    """Run the simulation; return for how many seconds it sent."""
    keys: dict[str, str] = {}
    if url and key is not None:
        keys = await _register(url, key, device_ids(plan.sensors))
    username, password = login or (None, "" if key is None else key.text)
    fleet = Fleet(plan, endpoint, Credentials(username, password, keys), tally)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, fleet.stop)
    display = asyncio.create_task(Display(tally, fleet.connected).run(), name="display")
    try:
        await fleet.run()
    finally:
        display.cancel()
        await asyncio.gather(display, return_exceptions=True)
    return fleet.seconds


def _report(summary: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        echo(json.dumps(summary))
        return
    echo(
        f"{summary['counted']}: {counted(summary['messages'], 'message')}"
        f" with {counted(summary['measurements'], 'measurement')} in {summary['seconds']:.1f} s"
        f" ({summary['messages_per_second']:,.0f} messages/s)"
    )
    for kind, counts in summary["kinds"].items():
        if kind != "measurement" and counts["sent"]["messages"]:
            count = counts["acknowledged"]
            messages, records = counted(count["messages"], "message"), count["rows"]
            echo(f"  {kind}: {messages}, {counted(records, 'record')}")
    if summary["late"]["messages"] or summary["repeated"]["messages"]:
        late, repeated = summary["late"]["messages"], summary["repeated"]["messages"]
        echo(f"of the messages late: {late}, sent once more: {repeated}")
    echo(
        f"unacknowledged: {summary['unacknowledged']}, refused: {summary['refused']},"
        f" disconnections: {summary['disconnections']}, errors: {summary['errors']}"
    )
    if summary["last_error"]:
        echo(f"last error: {summary['last_error']}")


def _default_port(host: str, *, tls: bool) -> int:
    if is_loopback(host):
        settings = load_settings()
        for address in settings.mqtt_tls_listen if tls else settings.mqtt_listen:
            return address.port
    return 8883 if tls else 1883


def _tls_context(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise StartError(f"--ca {ca}: cannot be used: {error}") from error


class Display:
    """Shows how a run goes until its task is cancelled."""

    def __init__(self, tally: Tally, connected: Callable[[], tuple[int, int]]) -> None:
        self._tally = tally
        self._connected = connected
        self._console = Console(stderr=True, highlight=False)
        self._started = self._at = time.monotonic()
        self._sent = self._acknowledged = 0

    async def run(self) -> None:
        """Show and refresh."""
        if not self._console.is_terminal:
            while True:
                await asyncio.sleep(LINE_SECONDS)
                self._console.print(printable(self._line()), soft_wrap=True, markup=False)
        with Live(self._table(), console=self._console, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(TERMINAL_SECONDS)
                live.update(self._table(), refresh=True)

    def _figures(self) -> dict[str, str]:
        """Return the figures by name; rates are those since the last call."""
        tally, now = self._tally, time.monotonic()
        sent, acknowledged = total(tally.sent), total(tally.acknowledged)
        seconds = max(1e-3, now - self._at)
        connected, connections = self._connected()
        figures = {
            "seconds": f"{now - self._started:.0f}",
            "connected": f"{connected}/{connections}",
            "sent/s": f"{(sent - self._sent) / seconds:,.0f}",
            "acknowledged/s": f"{(acknowledged - self._acknowledged) / seconds:,.0f}",
            "acknowledged": f"{acknowledged:,}",
            "in flight": f"{tally.in_flight:,}",
            "refused": f"{total(tally.refused):,}",
            "errors": f"{tally.errors:,}",
        }
        self._at, self._sent, self._acknowledged = now, sent, acknowledged
        return figures

    def _line(self) -> str:
        line = "  ".join(f"{name} {value}" for name, value in self._figures().items())
        return f"{line}  last error: {self._tally.last_error}" if self._tally.errors else line

    def _table(self) -> Table:
        figures = self._figures()
        error = Text(printable(self._tally.last_error or ""))
        table = Table(caption=error or None, caption_justify="left")
        for name in figures:
            table.add_column(name, justify="right")
        table.add_row(*figures.values())
        return table


async def _register(url: str, key: AdminKey, device_ids: list[str]) -> dict[str, str]:
    """Register those of the devices that are missing; return the new ones' keys.

    Raises:
        StartError: the API is out of reach or refuses.
    """
    keys: dict[str, str] = {}
    async with httpx.AsyncClient(**client_options(url, key), timeout=TIME_OUT_SECONDS) as client:
        try:
            missing, attempts = await _missing(client, device_ids), 0
            while missing:
                made = await client.post("/devices/batch", json=[*map(_device, missing[:AT_ONCE])])
                if attempts < MOST_ATTEMPTS and made.status_code in (409, 429, 503):
                    attempts += 1
                    await asyncio.sleep(min(60.0, float(made.headers.get("Retry-After", "0"))))
                    # Another run may have registered some meanwhile.
                    missing = await _missing(client, device_ids)
                    continue
                _check(made)
                keys |= {device["device_id"]: device["api_key"] for device in made.json()}
                missing = missing[AT_ONCE:]
        except httpx.HTTPError as error:
            raise StartError(f"--url {url}: {error or type(error).__name__}") from error
    return keys


async def _missing(client: httpx.AsyncClient, device_ids: list[str]) -> list[str]:
    known: set[str] = set()
    while True:
        response = await client.get("/devices", params={"limit": PAGE, "offset": len(known)})
        _check(response)
        devices = response.json()
        known.update(device["device_id"] for device in devices)
        if len(devices) < PAGE:
            return [name for name in device_ids if name not in known]


def _device(device_id: str) -> dict[str, str]:
    return {
        "device_id": device_id,
        "name": f"Simulated sensor {device_id.partition('-')[2]}",
        "manufacturer": "Heliograph",
        "model": "simulate",
        "modality": "weather",
    }


def _check(response: httpx.Response) -> None:
    if response.status_code == httpx.codes.UNAUTHORIZED:
        raise StartError(f"--url {response.url.host}: the admin key is not accepted")
    if response.is_error:
        raise StartError(f"{response.request.method} {response.url}: {response.status_code}")
