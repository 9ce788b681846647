"""`heliograph channel` against a running server, and the renewal of what it stores encrypted."""

import json
import sqlite3

import pytest

from commands import called
from server import ADMIN_KEY, ServerThread


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerThread(tmp_path_factory.mktemp("server")) as running:
        network = {"network_name": "roof"}
        running.http.post("/networks", json=network).raise_for_status()
        yield running


@pytest.fixture
def command(server):
    """Return a function that gives the command, and returns its status and what it printed."""

    def call(*arguments, command="channel"):
        where = ("--url", f"http://127.0.0.1:{server.port}") if command == "channel" else ()
        environment = {**server.environment, "HELIOGRAPH_API_KEY": ADMIN_KEY}
        ended = called(command, *arguments, *where, folder=server.folder, environment=environment)
        return ended.returncode, ended.stdout, ended.stderr

    return call


def test_a_channel_is_made_listed_tried_and_deleted(server, command, tmp_path):
    status, output, _ = command("create", "On call", "--email", "a@example.org", "--json")
    assert status == 0
    made = json.loads(output)
    assert (made["name"], made["to"]) == ("On call", ["a@example.org"])
    hook = tmp_path / "hook.json"
    hook.write_text('{"type": "webhook", "url": "http://127.0.0.1:9/", "secret": "hidden"}')
    assert command("create", "Hook", "--network", "roof", "--file", str(hook))[0] == 0
    assert command("create", "Own", "--server", "--email", "root@example.org")[0] == 0
    _, output, _ = command("list")
    assert [line.split()[:2] for line in output.splitlines()[1:]] == [
        ["On", "call"],
        ["Hook", "webhook"],
        ["Own", "email"],
    ]
    _, output, _ = command("list", "--network", "roof", "--json")
    assert [each["name"] for each in json.loads(output)] == ["Hook"]
    assert "hidden" not in output

    _, _, refused = command("test", "Hook", "--network", "roof")
    assert "not delivered: 127.0.0.1 leads to 127.0.0.1, which is not of the internet" in refused
    _, _, refused = command("test", "On cal")
    assert "channel 'On cal' not found: did you mean `On call`?" in refused
    _, _, refused = command("create", "X", "--email", "x", "--network", "rof")
    assert "network 'rof' not found: did you mean `roof`?" in refused
    _, _, refused = command("create", "X", "--email", "x")
    assert "should be an address like operator@example.org" in refused
    for wrong in (("create", "X"), ("test", "X", "--server", "--network", "roof")):
        assert command(*wrong)[0] == 2
    hook.write_text("[]")
    _, _, refused = command("create", "X", "--file", str(hook))
    assert "should hold a JSON object" in refused

    # A new key: what was encrypted with the former one is encrypted with the new one.
    def stored():
        with sqlite3.connect(server.folder / "heliograph.db") as database:
            return database.execute(
                "SELECT secrets FROM channel WHERE secrets IS NOT NULL"
            ).fetchone()

    before = stored()
    assert command("key", command="secrets")[0] == 0
    assert command("renew", command="secrets")[:2] == (0, "1 channel\n")
    assert stored() != before
    keys = server.folder / "secrets_key"
    keys.write_text(keys.read_text().splitlines()[0] + "\n")
    assert command("renew", command="secrets")[0] == 0
    keys.unlink()
    assert command("key", command="secrets")[0] == 0
    _, output, refused = command("renew", command="secrets")
    assert output == "0 channels\n"
    assert "encrypted with a key that is not there: 'Hook'" in refused

    assert command("delete", "Own", "--server")[0] == 0
    assert command("delete", made["id"])[0] == 0
    assert command("delete", made["id"])[0] == 1
