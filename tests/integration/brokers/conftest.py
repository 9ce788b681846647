"""A Mosquitto with access rules, and devices at it that check what they get."""

import contextlib
import os
import pwd
import shutil
from pathlib import Path

import pytest

from broker import PROGRAM, Mosquitto

WITH_FILES = """
allow_anonymous false
password_file {folder}/access/passwords
acl_file {folder}/access/acl
pid_file {folder}/mosquitto.pid
persistence true
sys_interval 1
"""


class GuardedMosquitto(Mosquitto):
    """A broker that reads who may do what from files in a folder of its own."""

    def __init__(self, options: str = WITH_FILES) -> None:
        super().__init__()
        self.options = options
        self.access = self.folder / "access"
        self.access.mkdir()
        if os.geteuid() == 0:
            # What is written there belongs to the folder's group: Mosquitto's own.
            with contextlib.suppress(KeyError):
                os.chown(self.access, -1, pwd.getpwnam("mosquitto").pw_gid)
        self.access.chmod(0o750)
        self.configure(options.format(folder=self.folder))

    @property
    def passwords(self) -> Path:
        return self.access / "passwords"

    @property
    def acl(self) -> Path:
        return self.access / "acl"

    @property
    def pid_file(self) -> Path:
        return self.folder / "mosquitto.pid"

    @property
    def reloads(self) -> int:
        return self.said.count("Reloading config.")


@pytest.fixture
def guarded():
    """A broker that is yet to be started: its files are."""
    if PROGRAM is None or shutil.which("mosquitto_passwd") is None:
        pytest.skip("Mosquitto is not installed")
    broker = GuardedMosquitto()
    yield broker
    broker.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Write sooner than in earnest."""
    for name, seconds in (("COALESCE_SECONDS", 0.02), ("REST_SECONDS", 0.02)):
        monkeypatch.setattr(f"heliograph.brokers.mosquitto.{name}", seconds)
    monkeypatch.setattr("heliograph.brokers.mosquitto.RETRY_SECONDS", 0.05)
