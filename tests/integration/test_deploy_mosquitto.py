"""deploy/mosquitto in a real Mosquitto, with only its paths and ports replaced."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from broker import Mosquitto
from heliograph.brokers.mosquitto import acl_file
from heliograph.brokers.rules import rules_for
from heliograph.settings import load_settings
from server import eventually, free_port, running

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "deploy" / "mosquitto"
PASSWORD = "a-password-for-the-server"
SECONDS = 60
FENCE = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def readme(*beginnings):
    """Return the blocks of the README of which a line begins like this, in their order."""
    text = (SHIPPED / "README.md").read_text()
    return "".join(
        block
        for block in FENCE.findall(text)
        if any(line.startswith(beginnings) for line in block.splitlines())
    )


def options(text):
    """Return name and value of each option, in their order."""
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return [tuple(line.split(" ", 1)) for line in lines]


class Installed(Mosquitto):
    """A broker set up as the README says, in a folder that stands for /etc/mosquitto."""

    def __init__(self):
        super().__init__()
        self.tls_port = free_port()
        text = (SHIPPED / "heliograph.conf").read_text()
        text = text.replace("listener 1883 ", f"listener {self.port} ")
        text = text.replace("listener 8883\n", f"listener {self.tls_port} 127.0.0.1\n")
        text = text.replace("/etc/mosquitto/", f"{self.folder}/")
        self.configuration.write_text(f"persistence_location {self.folder}/\n{text}")
        (self.folder / "heliograph").mkdir()
        shutil.copy(SHIPPED / "acl", self.folder / "heliograph" / "acl")
        (self.folder / "certs").mkdir()

    def follow(self, commands, **environment):
        """Run commands of the README as they stand there, but for /etc and root."""
        commands = commands.replace("sudo ", "").replace("/etc/mosquitto/", f"{self.folder}/")
        commands = re.sub(r" -g mosquitto\b", "", commands)
        subprocess.run(
            ["bash", "-euc", commands],
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin:/usr/sbin", **environment},
            check=True,
            capture_output=True,
            timeout=SECONDS,
        )

    def readable(self):
        """Let Mosquitto's own user read what belongs to us."""
        for path in self.folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)

    def has(self, device):
        """Tell whether the server has written the device's password."""
        return device.identifier in (self.folder / "heliograph" / "passwords").read_text()

    def client(self, program, *arguments, tls=True):
        """Run mosquitto_pub or mosquitto_sub to its end."""
        where = ["-p", str(self.tls_port), "--cafile", str(self.folder / "ca.crt")]
        done = subprocess.run(
            [program, "-h", "localhost", *(where if tls else ["-p", str(self.port)]), *arguments],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def publish(self, device, topic, message, password=None):
        return self.client(
            *("mosquitto_pub", "-V", "5", "-q", "1", "-u", device.identifier),
            *("-P", password or device.key, "-t", topic, "-m", message),
        )


@pytest.fixture
def installed():
    broker = Installed()
    try:
        broker.follow(readme("openssl req"))
        broker.follow(readme("sudo install -m 0644 server.crt"))
        # The README makes the password up; here it has to be known.
        secret = readme("BROKER_PASSWORD=").replace("$(openssl rand -hex 32)", PASSWORD)
        broker.follow(secret)
        yield broker
    finally:
        broker.close()


def topic(device):
    return f"measurements/{device.identifier}"


def linked(broker):
    return {
        "mqtt_listen": (),
        "mqtt_url": broker.url,
        "mqtt_username": "heliograph",
        "mqtt_password": PASSWORD,
        "mosquitto_password_path": broker.folder / "heliograph" / "passwords",
        "mosquitto_acl_path": broker.folder / "heliograph" / "acl",
    }


async def test_a_device_reaches_its_own_topics_and_no_others(tmp_path, installed):
    async with running(tmp_path, **linked(installed)) as server:
        device, other = await server.device("greenhouse-1"), await server.device("greenhouse-2")
        await eventually(lambda: installed.has(other))
        installed.readable()
        installed.start()
        await eventually(lambda: server.services.link.connected)

        refused, said = installed.publish(device, topic(other), '{"value": "foreign"}')
        assert "not authori" in said.lower(), (refused, said)
        assert installed.publish(device, topic(device), '{"value": "own"}')[0] == 0
        await eventually(lambda: server.values(device))

        assert await server.values(device) == ['"own"']
        # It came before the one that is stored by now.
        assert await server.values(other) == []
        assert await server.rejected() == []


async def test_who_does_not_know_the_password_is_not_let_in(tmp_path, installed):
    installed.readable()
    installed.start()
    strangers = [
        installed.client("mosquitto_pub", "-t", "measurements/a", "-m", "1"),
        installed.client("mosquitto_pub", "-t", "measurements/a", "-m", "1", tls=False),
        installed.client(
            *("mosquitto_pub", "-u", "heliograph", "-P", "wrong", "-t", "commands", "-m", "1"),
        ),
    ]
    assert [bool(code) for code, _ in strangers] == [True] * 3
    assert all("not authori" in said.lower() for _, said in strangers), strangers
    async with running(tmp_path, **{**linked(installed), "mqtt_password": "wrong"}) as server:
        await eventually(lambda: "wrong user name or password" in (server.services.link.problem))


def test_the_server_may_see_what_is_dropped_and_a_device_may_not(installed):
    installed.follow(readme("sudo mosquitto_passwd -b /etc"), THEIR_PASSWORD="a-key")
    installed.readable()
    installed.start()
    dropped = "$SYS/broker/publish/messages/dropped"
    watch = ("mosquitto_sub", "-C", "1", "-t", dropped)
    told = installed.client(
        *(*watch, "-W", "15", "-u", "heliograph", "-P", PASSWORD),
        tls=False,
    )
    assert told == (0, "0\n")
    code, said = installed.client(*watch, "-W", "1", "-u", "somebody", "-P", "a-key")
    assert (code, "Timed out" in said) == (27, True), said


def test_the_shipped_rules_are_those_that_are_written():
    shipped = (SHIPPED / "acl").read_text()
    rules = rules_for(load_settings(mqtt_listen=()), "%u")
    assert acl_file(shipped, rules, "heliograph") == shipped


def test_every_option_has_a_reason_before_it():
    blocks = (SHIPPED / "heliograph.conf").read_text().split("\n\n")
    bare = [block for block in blocks if options(block) and not block.startswith("#")]
    assert bare == []


def test_queue_and_memory_are_in_proportion():
    """At memory_limit the server can't fetch what waits, so that queues have to end before it."""
    table = re.findall(
        r"^\| .* \| (\d+) \| (\d+) \| (\d+) \|$",
        (SHIPPED / "README.md").read_text(),
        re.MULTILINE,
    )
    shipped = dict(options((SHIPPED / "heliograph.conf").read_text()))
    names = ("max_queued_bytes", "max_queued_messages", "memory_limit")
    assert tuple(shipped[name] for name in names) in table
    for row in table:
        queued_bytes, messages, memory = map(int, row)
        assert memory > 1.4 * (queued_bytes + 280 * messages)
