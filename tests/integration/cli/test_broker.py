"""`heliograph broker`, as an operator calls it, with a real Mosquitto where it matters."""

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

import program
from broker import PROGRAM as MOSQUITTO
from broker import Mosquitto
from commands import called
from server import migrated_database

SECONDS = 120


class Place:
    """A folder with a database, and the program in it."""

    def __init__(self, folder):
        self.folder = folder
        self.database = folder / "heliograph.db"
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "DATABASE_URL": f"sqlite:///{self.database}",
        }

    def run(self, *arguments, **environment):
        environment = {**self.environment, **environment}
        return called(*map(str, arguments), environment=environment, folder=self.folder)

    def run_apart(self, *arguments):
        """Run the command in a process of its own."""
        return program.run(*arguments, env=self.environment, cwd=self.folder, timeout=SECONDS)

    def device(self, device_id):
        """Register a device and return its UUID and key."""
        done = self.run("device", "create", device_id)
        assert done.returncode == 0, done.stderr
        parts = dict(line.split(None, 1) for line in done.stdout.splitlines())
        return parts["id"], parts["api_key"]


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    shutil.copy(migrated_database(), place.database)
    return place


def test_files_are_written_and_then_left_alone(place):
    identifier, _ = place.device("pump-1")
    command = ("broker", "mosquitto", "--password-file", "p", "--acl-file", "a", "--no-reload")
    done = place.run_apart(*command)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 device, written\n", "")
    lines = (place.folder / "p").read_text().splitlines()
    assert [line.partition(":")[0] for line in lines] == [identifier]
    acl = (place.folder / "a").read_text()
    assert "user heliograph\ntopic readwrite #\n" in acl
    assert "pattern write packets/%u\n" in acl
    before = (place.folder / "p").stat()
    done = place.run(*command)
    assert done.stdout == "1 device, as it was\n"
    assert (place.folder / "p").stat().st_ino == before.st_ino


def test_the_servers_own_account_and_the_topics_come_from_the_settings(place):
    settings = {
        "MQTT_URL": "mqtt://server:secret@localhost",
        "MQTT_PUBLISH_TOPIC": "to/all",
        "MQTT_SUBSCRIBE_TOPIC": "up/+/packets",
        "MOSQUITTO_PASSWORD_PATH": "p",
        "MOSQUITTO_ACL_PATH": "a",
    }
    done = place.run("broker", "mosquitto", "--no-reload", **settings)
    assert done.returncode == 0, done.stderr
    assert (place.folder / "p").read_text().startswith("server:$7$")
    acl = (place.folder / "a").read_text()
    assert "user server\n" in acl
    assert "pattern write up/%u/packets\n" in acl
    assert "pattern read to/all\n" in acl


def test_devices_whose_key_is_older_are_named(place):
    for name in ("pump-1", "pump-2"):
        place.device(name)
    with sqlite3.connect(place.database) as connection:
        connection.execute("UPDATE sensor SET broker_password = NULL")
    connection.close()
    command = ("broker", "mosquitto", "--password-file", "p", "--no-reload")
    done = place.run(*command)
    assert done.stdout == "0 devices, written\n"
    assert done.stderr.startswith("nobody here knows the key of 2 devices")
    assert done.stderr.endswith("pump-1, pump-2\n")
    assert place.run("device", "rotate", "pump-2").returncode == 0
    done = place.run(*command)
    assert done.stdout == "1 device, written\n"
    assert done.stderr.endswith(": pump-1\n")


WRONG = [
    ((), {}, "which file? give --password-file, --acl-file, or both"),
    (("--acl-file", "a"), {}, "give --pid-file"),
    (("--acl-file", "no/a", "--no-reload"), {}, "can't write no/a: No such file or directory"),
    (("--acl-file", "a", "--pid-file", "no"), {}, "Mosquitto is not told to read its files"),
    (("--acl-file", "a", "--no-reload"), {"MQTT_USERNAME": "a:b"}, "MQTT_USERNAME: 'a:b' can't"),
    (("--acl-file", "a", "--no-reload"), {"MQTT_USERNAME": "a\nb"}, "MQTT_USERNAME: "),
]


@pytest.mark.parametrize(("arguments", "environment", "line"), WRONG)
def test_what_is_wrong_is_one_line(place, arguments, environment, line):
    done = place.run("broker", "mosquitto", *arguments, **environment)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"heliograph: {line}")
    assert done.stderr.count("\n") == 1


def test_a_file_whose_part_is_broken_is_left_alone(place):
    command = ("broker", "mosquitto", "--acl-file", "a", "--no-reload")
    assert place.run(*command).returncode == 0
    text = (place.folder / "a").read_text()
    broken = text.replace(text.splitlines()[-1], "")
    (place.folder / "a").write_text(broken)
    done = place.run(*command)
    assert done.returncode == 1
    assert "a: the lines that mark Heliograph's part don't fit together" in done.stderr
    assert (place.folder / "a").read_text() == broken


def until(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(MOSQUITTO is None, reason="Mosquitto is not installed")
def test_watching_tells_mosquitto_of_every_change(place):
    identifier, key = place.device("pump-1")
    broker = Mosquitto()
    access = broker.folder / "passwords"
    broker.configure(
        f"allow_anonymous false\npassword_file {access}\npid_file {broker.folder}/pid\n"
    )
    assert place.run("broker", "mosquitto", "--password-file", access, "--no-reload").stdout
    access.chmod(0o644)
    try:
        broker.start()
        until((broker.folder / "pid").exists)
        options = ["--password-file", str(access), "--pid-file", str(broker.folder / "pid")]
        with program.Program(
            *("broker", "mosquitto", "--watch", *options),
            env=place.environment,
            cwd=place.folder,
        ) as watching:
            try:
                assert publish(broker, identifier, key) == 0
                assert place.run("device", "rotate", "pump-1").returncode == 0
                until(lambda: publish(broker, identifier, key) != 0)
                assert access.stat().st_mode & 0o777 == 0o644
            finally:
                watching.send_signal(signal.SIGINT)
                assert watching.wait(SECONDS) in (0, 130)
    finally:
        broker.close()


def publish(broker, name, key):
    command = ["mosquitto_pub", "-p", str(broker.port), "-u", name, "-P", key, "-t", "x", "-m", "1"]
    return subprocess.run(command, capture_output=True, timeout=SECONDS, check=False).returncode


PLUGIN = next(Path("/usr/lib").rglob("mosquitto_dynamic_security.so"), None)


@pytest.mark.skipif(MOSQUITTO is None or PLUGIN is None, reason="the plugin is not installed")
def test_dynamic_security_from_import_to_log_in(place):
    (place.folder / "devices.csv").write_text("device_id\npump-1\npump-2\n")
    broker = Mosquitto()
    file = broker.folder / "dynamic-security.json"
    broker.configure(f"allow_anonymous false\nplugin {PLUGIN}\nplugin_opt_config_file {file}\n")
    init = ["mosquitto_ctrl", "dynsec", "init", str(file), "admin", "secret"]
    subprocess.run(init, check=True, capture_output=True, timeout=SECONDS)
    file.chmod(0o666)
    settings = {"MQTT_URL": broker.url, "DYNAMIC_SECURITY_PASSWORD": "secret"}
    command = ("broker", "dynamic-security")
    try:
        assert place.run("device", "import", "devices.csv", "--output", "keys.csv").returncode == 0
        done = place.run(*command, **settings)
        assert done.returncode == 1
        assert done.stderr.startswith(f"heliograph: {broker.url}: ")
        broker.start()
        done = place.run(*command, **settings)
        assert "nobody here knows the key of 2 devices" in done.stderr
        done = place.run(*command, "--keys", "keys.csv", **settings)
        assert (done.returncode, done.stdout, done.stderr) == (0, "2 devices, 2 changes\n", "")
        done = place.run(*command, **settings)
        assert (done.stdout, done.stderr) == ("2 devices, 0 changes\n", "")
        rows = [line.split(",") for line in (place.folder / "keys.csv").read_text().splitlines()]
        assert rows[0] == ["device_id", "id", "api_key"]
        assert [publish(broker, identifier, key) for _, identifier, key in rows[1:]] == [0, 0]
        assert place.run("device", "rotate", "pump-1").returncode == 0
        # The old key is no key of the device any more.
        done = place.run(*command, "--keys", "keys.csv", **settings)
        assert done.stderr.endswith(": pump-1\n")
        assert publish(broker, *rows[1][1:]) != 0
        broker.stop()
        done = place.run(*command, "--write", file)
        assert (done.stdout, done.stderr) == ("2 devices, written\n", "")
        broker.start()
        assert publish(broker, *rows[2][1:]) == 0
    finally:
        broker.close()


@pytest.mark.parametrize("text", ["", "device_id,id\na,b\n", "id,api_key\nx\n"])
def test_a_file_of_keys_that_is_none(place, text):
    (place.folder / "keys.csv").write_text(text)
    done = place.run("broker", "dynamic-security", "--keys", "keys.csv")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "MQTT_URL" in done.stderr if not text else "keys.csv" in done.stderr
