"""A Mosquitto for ./scripts/develop: as deploy/mosquitto has it, but for this machine alone."""

import contextlib
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import IO

SHIPPED = Path(__file__).parents[1] / "deploy" / "mosquitto" / "heliograph.conf"
HOST = "127.0.0.1"
START_SECONDS = 20.0
# What a broker for everybody needs, and one for this machine alone does not.
FOR_EVERYBODY = {
    *("listener", "certfile", "keyfile", "tls_version"),
    *("allow_anonymous", "password_file", "acl_file"),
}


def program() -> str | None:
    """Return the path of Mosquitto, which Debian keeps out of a user's PATH."""
    return shutil.which("mosquitto") or shutil.which(
        "mosquitto", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin"
    )


def configuration(port: int, folder: Path) -> str:
    """Return the shipped configuration with a single listener, where any user name is taken."""
    kept = [
        line
        for line in SHIPPED.read_text().splitlines()
        if line and not line.startswith("#") and line.split()[0] not in FOR_EVERYBODY
    ]
    own = [
        f"listener {port} {HOST}",
        "allow_anonymous true",
        f"persistence_location {folder}/",
        "log_dest stderr",
        # Started as root it would give itself up for a user who may not enter the folder.
        "user root",
    ]
    return "\n".join([*own, *kept, ""])


def start(port: int, folder: Path, output: IO[bytes]) -> subprocess.Popen[bytes] | None:
    """Start Mosquitto, with its state in the folder; None: there is no Mosquitto."""
    path = program()
    if path is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "mosquitto.conf"
    file.write_text(configuration(port, folder.resolve()))
    return subprocess.Popen(
        [path, "-c", str(file)],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def wait_until_listening(process: subprocess.Popen[bytes], port: int) -> bool:
    """Return whether it takes connections; False when it has ended or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection((HOST, port), timeout=1).close()
            return True
        time.sleep(0.05)
    return False
