"""Each command with --json: nothing but JSON on standard output, whatever is logged meanwhile."""

import json
from unittest import mock

import pytest
import structlog
from typer import Context
from typer.main import get_command

from bare_environment import without_variables
from commands import called
from heliograph.cli import main, output
from server import ADMIN_KEY, ServerThread

RULE = {"name": "Hot", "condition": {"attribute": "t", "above": 30}}
WARNING = "the store warns of something"
# In an order in which each finds what it is about.
CALLS = [
    "device create pump",
    "device list",
    "device show pump",
    "device rotate pump",
    "network create Roof",
    "network list",
    "user create ada",
    "user list",
    "user alike",
    "rule create rule.json",
    "rule list",
    "rule change Hot rule.json",
    "rule test Hot --sensor pump",
    "channel create ops --email ada@example.org",
    "channel list",
    "action list",
    "alert list",
    "silence add",
    "silence list",
    "rejected list",
    "rejected show {rejected}",
    "rejected resubmit {rejected}",
    "audit",
    "retention plan",
    "backup {folder}/backup.db",
    "doctor",
    "settings",
]
# What prints as long as it runs, or needs a listener: it loads nothing that logs.
APART = {"tail", "simulate"}


def names(command, path=()):
    """Return the commands that take --json."""
    commands = getattr(command, "commands", None)
    if commands is None:
        return {" ".join(path)} if any("--json" in each.opts for each in command.params) else set()
    return {name for each in commands for name in names(commands[each], (*path, each))}


def test_no_command_is_left_out():
    group, found = get_command(main.app), set()
    for name in main.COMMANDS:
        _, command, _ = group.resolve_command(Context(group), [name])
        found |= names(command, (name,))
    tried = {" ".join(call.split()[:2]) for call in CALLS} | {call.split()[0] for call in CALLS}
    assert found - APART <= tried
    assert found >= APART


@pytest.mark.usefixtures("restored_logging")
@pytest.mark.filterwarnings("ignore::getpass.GetPassWarning")
def test_what_is_logged_stands_apart(tmp_path):
    (tmp_path / "rule.json").write_text(json.dumps(RULE))
    printable_json = output.printable_json

    def warning(text):
        structlog.get_logger("heliograph.store").warning(WARNING)
        return printable_json(text)

    with ServerThread(tmp_path) as server, mock.patch.object(output, "printable_json", warning):
        server.http.post("/ingest", content=b'{"device_id": "pump"')
        environment = {**without_variables(), **server.environment}
        known = {"folder": tmp_path}
        for call in CALLS:
            words = call.format_map(known).split()
            done = called(
                *(*words, "--json"),
                environment=environment,
                folder=tmp_path,
                # What is asked for is no part of what is printed either.
                typed=2 * "tangerine-orbit\n",
            )
            assert WARNING in done.stderr, (call, done)
            printed = json.loads(done.stdout)
            if call == "rejected list":
                known["rejected"] = printed[0]["id"]


def test_what_ends_in_an_error_prints_nothing_else(tmp_path):
    environment = {**without_variables(), "HELIOGRAPH_API_KEY": ADMIN_KEY}
    for command in sorted(APART):
        done = called(
            *(command, "--json", "--url", "http://127.0.0.1:1"),
            environment=environment,
            folder=tmp_path,
        )
        assert done.returncode, command
        assert not done.stdout, command
        assert done.stderr.startswith("heliograph: "), done.stderr
