"""`heliograph simulate`."""

import asyncio
import json
import re
import signal
import ssl
from pathlib import Path
from typing import Annotated, Any

import typer
from paho.mqtt.enums import MQTTProtocolVersion
from typer import Option

from heliograph.address import is_loopback
from heliograph.cli.echo import echo
from heliograph.cli.local_server import AdminKey, admin_key, default_url
from heliograph.cli.simulation.connection import ConnectOptions
from heliograph.cli.simulation.display import Display
from heliograph.cli.simulation.fleet import (
    Credentials,
    Fleet,
    PastPeriod,
    SimulationPlan,
    device_ids,
)
from heliograph.cli.simulation.registration import register
from heliograph.cli.simulation.tally import Tally
from heliograph.errors import StartError
from heliograph.model.time import SECOND, now, parse, to_epoch_seconds
from heliograph.settings import load_settings

_LENGTH = re.compile(r"([1-9][0-9]{0,8})([smhd])", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

PROTOCOLS = {"3.1.1": MQTTProtocolVersion.MQTTv311, "5": MQTTProtocolVersion.MQTTv5}

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
Key = Annotated[
    str | None,
    Option(
        envvar="HELIOGRAPH_API_KEY",
        help="Admin key; otherwise, for this machine, that of the settings or the data folder.",
    ),
]
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
    str | None,
    Option(help="Replay: where it begins, RFC 3339 or epoch seconds; otherwise so long ago."),
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
    length: str | None, start: str | None, interval: float, speed: float
) -> PastPeriod | None:
    if length is None:
        if start is not None:
            raise typer.BadParameter("goes with --replay", param_hint="--start")
        return None
    match = _LENGTH.fullmatch(length)
    if match is None:
        raise typer.BadParameter("must be like 90s, 15m, 24h or 7d", param_hint="--replay")
    seconds = int(match[1]) * _UNITS[match[2]]
    try:
        begin = now() - seconds * SECOND if start is None else parse(start)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--start") from error
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
        keys = await register(url, key, device_ids(plan.sensors))
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
        f"{summary['counted']}: {summary['messages']} messages with {summary['measurements']}"
        f" measurements in {summary['seconds']:.1f} s"
        f" ({summary['messages_per_second']:,.0f} messages/s)"
    )
    for kind, counts in summary["kinds"].items():
        if kind != "measurement" and counts["sent"]["messages"]:
            count = counts["acknowledged"]
            echo(f"  {kind}: {count['messages']} messages, {count['rows']} records")
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
