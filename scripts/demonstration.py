"""What ./scripts/develop runs: a server, sensors that send to it, and a welcome.

With a port as argument they send to a Mosquitto there, from which the server takes it.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

import development_broker
import httpx

from heliograph.address import Address
from heliograph.admin_key import ensure_api_secret_key
from heliograph.errors import StartError
from heliograph.settings import Settings, load_settings

PROGRAM = str(Path(sys.executable).with_name("heliograph"))
DEVICE = "my-first-sensor"
SENSORS = 5
PORTS_TO_TRY = 100
START_SECONDS = 60.0
STOP_SECONDS = 45.0
REQUEST_SECONDS = 10.0
LOG_LINES = 20
NOT_WITH_BROKER = (
    *("MQTT_LISTEN", "MQTT_TLS_LISTEN", "MQTT_USERNAME", "MQTT_PASSWORD", "MQTT_URL_TLS_CA"),
    *("MQTT_URL_TLS_CERTIFICATE", "MQTT_URL_TLS_KEY", "MQTT_URL_TLS_SERVER_NAME"),
)


class Stopped(BaseException):
    """Somebody asked for the end."""


def stop(_number: int, _frame: FrameType | None) -> NoReturn:
    """End what is running, as the handler of a signal."""
    raise Stopped


def free_port(host: str, wanted: int, *, but: int = 0) -> int:
    """Return the port that is wanted or, if it is in use, the next free one; 0: any.

    `but` is a port that is about to be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in range(wanted, min(wanted + PORTS_TO_TRY, 65_536)):
        if port and port == but:
            continue
        with socket.socket(family, socket.SOCK_STREAM) as candidate:
            # Without it a port is in use for a minute after the last server has gone.
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind((host, port))
            except PermissionError:
                raise SystemExit(f"develop: port {port} needs root; choose a higher one") from None
            except OSError:
                continue
            return int(candidate.getsockname()[1])
    raise SystemExit(f"develop: no port from {wanted} on is free on {host}; choose another one")


class Demonstration:
    """A server and its demonstration sensors, on addresses that are free."""

    def __init__(self, settings: Settings, broker: Address | None = None) -> None:
        self.settings, _ = ensure_api_secret_key(settings)
        key = self.settings.api_secret_key
        self.admin_key = key.get_secret_value() if key is not None else ""
        self.broker = broker
        port = free_port(settings.host, settings.port, but=broker[1] if broker else 0)
        self.url = f"http://{Address(settings.host, port).from_here}"
        self.environment = {**os.environ, "PORT": str(port)}
        # Where devices send to.
        self.mqtt = broker
        if settings.mqtt_listen:
            host = settings.mqtt_listen[0].host
            mqtt_port = free_port(host, settings.mqtt_listen[0].port, but=port)
            self.mqtt = Address(host, mqtt_port).from_here
            self.environment["MQTT_LISTEN"] = str(Address(host, mqtt_port))
        self.log = settings.data_directory / "develop.log"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.brokers: list[subprocess.Popen[bytes]] = []

    def start(self, output: IO[bytes], *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command of Heliograph that Ctrl-C reaches only through us."""
        process = subprocess.Popen(
            [PROGRAM, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def start_broker(self, output: IO[bytes]) -> subprocess.Popen[bytes] | None:
        """Start Mosquitto, if it is wanted, and return when it listens."""
        if self.broker is None:
            return None
        folder = self.settings.data_directory / "mosquitto"
        process = development_broker.start(self.broker[1], folder, output)
        if process is None:
            raise SystemExit("develop: there is no Mosquitto (Debian: apt install mosquitto)")
        self.brokers.append(process)
        if not development_broker.wait_until_listening(process, self.broker[1]):
            self.fail("Mosquitto does not listen")
        return process

    def stop(self) -> None:
        """End everything that was started, the sensors first, and last what they send to."""
        deadline = time.monotonic() + STOP_SECONDS
        for processes in (self.processes, self.brokers):
            for process in reversed(processes):
                process.terminate()
            for process in reversed(processes):
                try:
                    process.wait(max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def fail(self, message: str) -> NoReturn:
        """End with the last lines of the log."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        raise SystemExit("\n".join([*lines, f"develop: {message}; its log is {self.log}"]))

    def wait_until_ready(self, server: subprocess.Popen[bytes]) -> None:
        """Return when the server takes data."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if server.poll() is not None:
                self.fail("the server has ended")
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/readyz", timeout=REQUEST_SECONDS).status_code == 200:
                    return
            time.sleep(0.1)
        self.fail("the server is not ready")

    def register(self, device_id: str) -> str:
        """Return a key for the device, which is registered if it is not yet."""
        with httpx.Client(
            base_url=self.url, headers={"X-API-Key": self.admin_key}, timeout=REQUEST_SECONDS
        ) as client:
            answer = client.post("/devices", json={"device_id": device_id})
            if answer.status_code == 409:
                client.patch(f"/devices/{device_id}", json={"is_active": True}).raise_for_status()
                answer = client.post(f"/devices/{device_id}/key")
            answer.raise_for_status()
            return str(answer.json()["api_key"])

    def simulate(self, output: IO[bytes]) -> subprocess.Popen[bytes] | None:
        """Start the demonstration sensors."""
        if self.mqtt is None:
            return None
        host, port = self.mqtt
        self.environment["API_SECRET_KEY"] = self.admin_key
        return self.start(
            output,
            *("simulate", "--host", host, "--port", str(port), "--url", self.url),
            *("--sensors", str(SENSORS), "--rate", str(SENSORS)),
        )

    def welcome(self, device_key: str) -> str:
        """Return what a newcomer wants to know."""
        path = self.settings.data_directory / "api_secret_key"
        kept = f"kept in {path}" if path.exists() else "from API_SECRET_KEY"
        return "\n".join(
            [
                "",
                f"  HTTP           {self.url}",
                f"  dashboard      {self.url}/dashboard/  (at first it asks for the admin key)",
                f"  documentation  {self.url}/docs",
                *self.addresses(),
                f"  admin key      {self.admin_key}  ({kept})",
                f"  your device    {DEVICE}, with the key {device_key}",
                f"  log            {self.log}",
                "",
                *self.commands(device_key),
                "",
                f"Ctrl-C ends the server{', Mosquitto' if self.broker else ''} and its sensors.",
                "",
            ]
        )

    def addresses(self) -> Iterator[str]:
        """Yield where devices send to, with a line on it."""
        if self.mqtt:
            what = "  (Mosquitto; any user name is taken)" if self.broker else ""
            yield f"  MQTT           {self.mqtt}{what}"

    def commands(self, device_key: str) -> Iterator[str]:
        """Yield what to paste into another terminal, with a line on each."""
        yield "Send a first reading, with curl:"
        yield command(
            f"""\
            curl -H 'X-API-Key: {device_key}' -H 'Content-Type: application/json' \\
              -d '{{"temperature": 22.5}}' {self.url}/ingest"""
        )
        if self.mqtt:
            host, port = self.mqtt
            missing = "" if shutil.which("mosquitto_pub") else " (apt install mosquitto-clients)"
            yield f"or with mosquitto_pub{missing}:"
            yield command(
                f"""\
                mosquitto_pub -h {host} -p {port} -u {DEVICE} -P '{device_key}' -q 1 \\
                  -t measurements/{DEVICE} -m '{{"value": {{"temperature": 22.5}}}}'"""
            )
        yield "Read it back:"
        yield command(f"curl -H 'X-API-Key: {device_key}' {self.url}/devices/{DEVICE}/history")
        if self.mqtt:
            yield "Watch all sensors live:"
            yield command(
                f"mosquitto_sub -h {host} -p {port} -u admin -P '{self.admin_key}' -v"
                " -t 'measurements/#'"
            )

    def run(self) -> None:
        """Run until somebody asks for the end."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as output:
            broker = self.start_broker(output)
            migration = self.start(output, "migrate")
            if migration.wait() != 0:
                self.fail("the database could not be migrated")
            server = self.start(output, "serve")
            self.wait_until_ready(server)
            device_key = self.register(DEVICE)
            simulator = self.simulate(output)
            print(self.welcome(device_key), flush=True)
            while server.poll() is None:
                if simulator is not None and simulator.poll() is not None:
                    print(f"develop: the sensors have ended; see {self.log}", flush=True)
                    simulator = None
                if broker is not None and broker.poll() is not None:
                    self.fail("Mosquitto has ended")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(1)
            self.fail("the server has ended")


def command(text: str) -> str:
    """Return a command as it is shown."""
    return textwrap.indent(textwrap.dedent(text), "    ")


def broker_address(arguments: list[str]) -> Address | None:
    """Return where Mosquitto is to listen, if it is wanted, and let the server know."""
    if not arguments:
        return None
    host = development_broker.HOST
    port = free_port(host, int(arguments[0]))
    # Whatever the settings say of another broker, and of the listener.
    os.environ |= dict.fromkeys(NOT_WITH_BROKER, "")
    os.environ["MQTT_URL"] = f"mqtt://{host}:{port}"
    return Address(host, port)


def main() -> None:
    """Run the demonstration."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in signals:
        signal.signal(number, stop)
    demonstration: Demonstration | None = None
    try:
        broker = broker_address(sys.argv[1:])
        demonstration = Demonstration(load_settings(), broker)
        demonstration.run()
    except StartError as error:
        raise SystemExit(f"develop: {error}") from None
    except Stopped:
        print("\ndevelop: stopping", flush=True)
    finally:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        if demonstration is not None:
            demonstration.stop()


if __name__ == "__main__":
    main()
