"""`./scripts/develop`: what it prints works when it is pasted, and Ctrl-C leaves nothing behind."""

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from server import free_port

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0
STOP_SECONDS = 60.0
COMMAND_SECONDS = 120.0
LAST_LINE = "Ctrl-C ends the server"


class Development:
    """A running ./scripts/develop and what it has printed."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self.folder = folder
        self.printed = ""

    def read_welcome(self) -> None:
        """Return when everything that a newcomer needs is printed."""
        deadline = time.monotonic() + START_SECONDS
        output = self.process.stdout
        assert output is not None
        while LAST_LINE not in self.printed:
            ready, _, _ = select.select([output], [], [], deadline - time.monotonic())
            assert ready, f"no welcome in time:\n{self.printed}"
            piece = os.read(output.fileno(), 65_536)
            assert piece, f"ended early:\n{self.printed}"
            self.printed += piece.decode()

    def command(self, heading: str) -> str:
        """Return the command printed under the line that starts with `heading`."""
        found = re.search(rf"^{heading}.*:\n((?: {{4}}.*\n)+)", self.printed, re.MULTILINE)
        assert found, self.printed
        return found[1]

    def paste(self, heading: str) -> str:
        done = subprocess.run(
            ["bash", "-c", self.command(heading)],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def children(self) -> list[int]:
        """Return the ids of the processes that belong to it, itself included."""
        mark = f"DATA_DIRECTORY={self.folder}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found.append(int(process.name))
        return found


@contextlib.contextmanager
def development(folder: Path, *arguments: str, **environment: str) -> Iterator[Development]:
    process = subprocess.Popen(
        [ROOT / "scripts" / "develop", *arguments],
        env={**os.environ, "DATA_DIRECTORY": str(folder), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        running = Development(process, folder)
        running.read_welcome()
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=STOP_SECONDS)


def test_printed_commands_work_and_ctrl_c_ends_everything(tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        wanted = taken.getsockname()[1]
        # Both would take the port after the one that is in use; only one of them can.
        mqtt = f"127.0.0.1:{wanted + 1}"
        with development(tmp_path, PORT=str(wanted), MQTT_LISTEN=mqtt) as running:
            url = re.search(r"HTTP +(\S+)", running.printed)[1]
            assert url != f"http://localhost:{wanted}", "the port was in use"
            running.paste("Send a first reading")
            running.paste("or with mosquitto_pub")
            history = running.paste("Read it back")
            assert history.count('"temperature":22.5') == 2

            key = re.search(r"admin key +(\S+)", running.printed)[1]
            assert (tmp_path / "api_secret_key").read_text().strip() == key
            with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=60) as client:
                wait_for_simulated_sensors(client)
                assert len(running.children()) >= 3

            running.process.send_signal(signal.SIGINT)
            assert running.process.wait(STOP_SECONDS) == 0
            assert running.children() == []
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{url}/health", timeout=60)


def wait_for_simulated_sensors(client: httpx.Client) -> None:
    """Return when the demonstration sensors have stored something."""
    deadline = time.monotonic() + COMMAND_SECONDS
    while time.monotonic() < deadline:
        devices = client.get("/devices").json()
        if sum(device["last_measurement_at"] is not None for device in devices) >= 4:
            return
        time.sleep(0.1)
    raise AssertionError(devices)


@pytest.mark.long
def test_a_second_start_gives_the_device_a_new_key_and_keeps_its_data(tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        ports = {"PORT": str(free_port()), "MQTT_LISTEN": f"127.0.0.1:{free_port()}"}
        with development(tmp_path, **ports) as running:
            running.paste("Send a first reading")
            keys.append(re.search(r"my-first-sensor, with the key (\S+)", running.printed)[1])
            history = running.paste("Read it back")
            assert history.count('"temperature":22.5') == len(keys)
    assert keys[0] != keys[1]


def test_with_a_broker_the_printed_commands_go_through_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = taken.getsockname()[1]
        arguments = ("--broker", "mosquitto", f"--broker-port={wanted}")
        # The listener of the settings would be in the broker's way.
        with development(
            tmp_path, *arguments, PORT=str(free_port()), MQTT_LISTEN=f"127.0.0.1:{wanted}"
        ) as running:
            url = re.search(r"HTTP +(\S+)", running.printed)[1]
            assert f"127.0.0.1:{wanted} " not in running.printed, "the port was in use"
            running.paste("or with mosquitto_pub")
            wait_for_history(running)
            readiness = httpx.get(f"{url}/readyz", timeout=60).json()
            assert readiness["mqtt"]["broker"]["connected"]
            assert not readiness["mqtt"]["listening"]
            key = re.search(r"admin key +(\S+)", running.printed)[1]
            with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=60) as client:
                wait_for_simulated_sensors(client)
            assert len(running.children()) >= 4

            running.process.send_signal(signal.SIGINT)
            assert running.process.wait(STOP_SECONDS) == 0
            assert running.children() == []
    # The sensors were heard to the end: the broker went after them.
    assert "unacknowledged: 0, refused: 0, disconnections: 0" in log_of(tmp_path)


def log_of(folder: Path) -> str:
    return (folder / "develop.log").read_text(errors="replace")


def wait_for_history(running: Development) -> None:
    """Return when the reading has come through the broker."""
    deadline = time.monotonic() + COMMAND_SECONDS
    while '"temperature":22.5' not in (history := running.paste("Read it back")):
        assert time.monotonic() < deadline, history
        time.sleep(0.1)


def test_help_says_what_it_does_and_starts_nothing() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Starts a server")
    assert "--broker mosquitto" in done.stdout
    assert "set -euo" not in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [["--broker"], ["--broker", "emqx"], ["--broker-port", "1883"], ["start"]],
    ids=" ".join,
)
def test_a_wrong_argument_ends_it_with_one_line(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("develop: ")
    assert done.stderr.count("\n") == 1


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts" / "develop", *arguments],
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


def test_a_wrong_setting_ends_it_with_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "scripts" / "develop"],
        env={**os.environ, "DATA_DIRECTORY": str(tmp_path), "PORT": "many"},
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("develop: PORT: ")
    assert done.stderr.count("\n") == 1
