"""Starts a server, sends it readings in each way and reads them back: does its environment work?

usage: first_reading.py PROGRAM   the heliograph of the environment that is tried
"""

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from websockets.sync.client import connect

from heliograph.cli.main import COMMANDS

DEVICE = "my-first-sensor"
SECONDS = 120.0
ADDRESS = re.compile(r"^ +(HTTP|MQTT) +(?:http://)?(\S+):(\d+)$", re.MULTILINE)
LAST_LINE = "Ctrl-C ends"


class FailedError(Exception):
    """Something did not do what it should."""


def expect(what: str, holds: object) -> None:
    """Fail unless it holds."""
    if not holds:
        raise FailedError(what)


class Trial:
    """The program in a folder of its own."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program = program
        self.folder = folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "HOST": "127.0.0.1",
            "PORT": "0",
            "MQTT_LISTEN": "127.0.0.1:0",
        }

    def run(self, *arguments: str) -> str:
        """Return what a command prints."""
        done = subprocess.run(
            [self.program, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        expect(f"heliograph {' '.join(arguments)}: {done.stderr}", done.returncode == 0)
        return done.stdout

    @contextmanager
    def serving(self) -> Iterator[dict[str, int]]:
        """Run the server; the ports are those that it prints."""
        with (
            (self.folder / "log").open("wb") as log,
            subprocess.Popen(
                [self.program, "serve"],
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
            ) as process,
        ):
            try:
                yield self._ports(process)
                process.send_signal(signal.SIGTERM)
                expect("SIGTERM ends it", process.wait(SECONDS) == 0)
            except BaseException:
                sys.stderr.write((self.folder / "log").read_text(errors="replace"))
                raise
            finally:
                process.kill()

    def _ports(self, process: subprocess.Popen[bytes]) -> dict[str, int]:
        deadline = time.monotonic() + SECONDS
        printed = ""
        while LAST_LINE not in printed:
            if process.stdout is None:
                raise FailedError("the server has no output")
            ready, _, _ = select.select([process.stdout], [], [], deadline - time.monotonic())
            expect("the server starts", ready)
            piece = os.read(process.stdout.fileno(), 65_536)
            expect("the server starts", piece)
            printed += piece.decode()
        return {name: int(port) for name, _, port in ADDRESS.findall(printed)}


def publish(port: int, key: str) -> None:
    """Send a reading over MQTT, and return when it is acknowledged."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(DEVICE, key)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        message = json.dumps({"value": {"temperature": 2}})
        sent = client.publish(f"measurements/{DEVICE}", message, qos=1)
        sent.wait_for_publish(SECONDS)
        expect("the PUBACK comes", sent.is_published())
    finally:
        client.disconnect()
        client.loop_stop()


def send_and_read_back(ports: dict[str, int], key: str) -> None:
    """Send a reading over HTTP and one over MQTT, and read both on a WebSocket and in pages."""
    address = f"127.0.0.1:{ports['HTTP']}"
    with (
        httpx.Client(base_url=f"http://{address}", headers={"X-API-Key": key}) as http,
        connect(
            f"ws://{address}/realtime/subscribe/{DEVICE}", additional_headers={"X-API-Key": key}
        ) as watching,
    ):
        expect("the WebSocket is answered", "ack" in str(watching.recv(SECONDS)))
        http.post("/ingest", json={"temperature": 1}).raise_for_status()
        expect("what HTTP sent is live", '"temperature":1' in str(watching.recv(SECONDS)))
        publish(ports["MQTT"], key)
        expect("what MQTT sent is live", '"temperature":2' in str(watching.recv(SECONDS)))
        history = http.get(f"/devices/{DEVICE}/history").raise_for_status().json()
        expect("both are in the history", len(history) == 2)
        days = {"bucket": "1d", "tz": "Europe/Berlin", "attribute": "temperature"}
        aggregates = http.get(f"/sensors/{DEVICE}/aggregates", params=days)
        expect(f"aggregates: {aggregates.text}", '"count":2' in aggregates.text)
        exported = http.get(f"/sensors/{DEVICE}/export", params={"format": "csv"})
        expect(f"export: {exported.text}", exported.text.count("\n") == 3)
        for path in ("/readyz", "/openapi.json", "/docs"):
            http.get(path).raise_for_status()


def main(program: str) -> None:
    """Try the program."""
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(str(Path(program).absolute()), Path(folder))
        for command in ((), *((name,) for name in COMMANDS)):
            expect(f"{command} has help", "Usage" in trial.run(*command, "--help"))
        with trial.serving() as ports:
            device = json.loads(trial.run("device", "create", DEVICE, "--json"))
            send_and_read_back(ports, device["api_key"])
            admin_key = (Path(folder) / "data" / "api_secret_key").read_text().strip()
            metrics = httpx.get(
                f"http://127.0.0.1:{ports['HTTP']}/metrics", headers={"X-API-Key": admin_key}
            )
            expect(f"metrics: {metrics.status_code}", "heliograph_" in metrics.text)
            trial.run("device", "list")
            trial.run("retention", "plan")


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except FailedError as error:
        raise SystemExit(f"first_reading: {error}") from None
