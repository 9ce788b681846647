"""`heliograph audit`, and what the other commands enter, on both engines."""

import asyncio
import importlib
import json
import os
import pwd
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from bare_environment import work_in
from engines import SQLITE_FIRST
from heliograph.cli import database as database_module
from heliograph.cli.main import COMMANDS, app
from heliograph.errors import StartError
from heliograph.model.alert import NewAlert
from heliograph.model.retention import Horizon
from heliograph.model.time import DAY, now
from heliograph.store import open_store
from heliograph.store.alerts import change_alerts
from heliograph.store.rule_states import EnteredAction

PASSWORD = "a password of Ada's"
SILENCE = "3b2f0c1e-6a54-4c8e-9d0b-7f1e5a2c4d68"
NEW_PASSWORD = "another one of hers"
MYSELF = pwd.getpwuid(os.getuid()).pw_name

# A command that changes something, what it reads, and what it enters.
CHANGING: dict[tuple[str, ...], tuple[str, list[str]]] = {
    ("user", "create", "ada", "--admin", "--password-stdin"): (PASSWORD, ["user.create"]),
    ("user", "passwd", "ada", "--password-stdin"): (NEW_PASSWORD, ["user.change_password"]),
    ("user", "deactivate", "ada"): ("", ["user.deactivate"]),
    ("user", "activate", "ada"): ("", ["user.activate"]),
    ("device", "create", "pump-1", "--name", "pump"): ("", ["sensor.create"]),
    ("device", "rotate", "pump-1"): ("", ["sensor.change_key"]),
    ("device", "revoke", "pump-1"): ("", ["sensor.revoke_key"]),
    ("device", "import", "devices.csv"): ("", ["sensor.create", "sensor.create"]),
    ("device", "deactivate", "pump-1"): ("", ["sensor.change"]),
    ("device", "activate", "pump-1"): ("", ["sensor.change"]),
    ("device", "packing", "pump-1", "off"): ("", ["sensor.change"]),
    ("device", "delete", "pump-1"): ("", ["sensor.delete"]),
    ("network", "create", "roof"): ("", ["network.create"]),
    ("network", "packing", "roof", "off"): ("", ["network.change"]),
    ("rule", "create", "hot.json"): ("", ["rule.create"]),
    ("rule", "create", "cold.json"): ("", ["rule.create"]),
    ("rule", "change", "hot", "change.json"): ("", ["rule.change"]),
    ("rule", "delete", "hot"): ("", ["rule.delete"]),
    ("action", "repeat", "1"): ("", ["action.repeat"]),
    ("alert", "acknowledge", "1"): ("", ["alert.acknowledge"]),
    ("alert", "clear", "1"): ("", ["alert.clear"]),
    ("silence", "add", "--id", SILENCE): ("", ["silence.create"]),
    ("silence", "end", SILENCE): ("", ["silence.end"]),
    ("clock", "accept"): ("", ["clock.accept"]),
    ("retention", "accept"): ("", ["retention.accept"]),
}
# `retention run` does what the server does by itself.
READING = {("user", "list"), ("user", "alike"), ("device", "list")}
READING |= {("retention", "plan"), ("retention", "run"), ("network", "list")}
READING |= {("device", "show", "pump-1"), ("alert", "list"), ("silence", "list")}
READING |= {("rule", "list"), ("rule", "show", "cold"), ("action", "list")}
READING |= {("rule", "test", "cold", "--sensor", "pump-2")}
# What has no commands of its own and changes nothing that is audited; `channel` calls the server.
OTHERS = {"serve", "initialize", "migrate", "settings", "audit", "broker", "rejected", "simulate"}
OTHERS |= {"export", "import", "tail", "secrets", "channel", "backup", "restore", "doctor"}
OTHERS |= {"pack", "compact"}


@pytest.fixture(autouse=True, params=SQLITE_FIRST)
def database(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work in an empty folder, on a migrated database."""
    work_in(tmp_path, monkeypatch)
    monkeypatch.setenv("DATABASE_URL", str(request.getfixturevalue(f"{request.param}_url")))
    (tmp_path / "devices.csv").write_text("device_id,name\npump-2,x\npump-3,\n")
    for name in ("hot", "cold"):
        rule = {"name": name, "condition": {"attribute": "t", "above": 30}}
        (tmp_path / f"{name}.json").write_text(json.dumps(rule))
    (tmp_path / "change.json").write_text('{"enabled": false}')


def run(*arguments: str, typed: str = "") -> str:
    result = CliRunner().invoke(app, arguments, input=f"{typed}\n")
    assert result.exit_code == 0, result.output
    return result.stdout


def entries(*arguments: str) -> list[dict[str, Any]]:
    """Return what is listed, newest first."""
    listed: list[dict[str, Any]] = json.loads(run("audit", "--json", *arguments))
    return listed


async def leap() -> None:
    """Have retention wait, because it ran last long ago; raise an alert, have an action fail."""
    store = await open_store(os.environ["DATABASE_URL"])
    earlier = now() - 90 * DAY
    await store.clock.move_horizon(lambda _: Horizon(earlier, earlier, 0))
    async with store.engine.transaction() as transaction:
        new = NewAlert("broker", 0, None, "Broker away", "critical", "no route", earlier)
        await change_alerts(transaction, [new], earlier)
    network = await store.networks.default()
    failed = EnteredAction(
        *("hot", 0, 0, earlier, 1, None, network.identifier, "webhook", "{}", earlier, earlier),
        *("failed", earlier, "answered 500"),
    )
    async with store.rule_states.turn() as turn:
        await turn.enter([failed])
    await store.close()


def test_every_command_is_known_here() -> None:
    found = set()
    for name in set(COMMANDS) - OTHERS:
        group = typer.main.get_command(importlib.import_module(f"heliograph.cli.{name}").app)
        assert isinstance(group, TyperGroup)
        found |= {(name, command) for command in group.commands}
    assert found == {arguments[:2] for arguments in (*CHANGING, *READING)}


def test_every_change_is_entered_with_who_typed_it_and_no_secret_is() -> None:
    assert entries() == []
    asyncio.run(leap())
    secrets = {PASSWORD, NEW_PASSWORD}
    before = len(entries("--limit", "1000"))
    for arguments, (typed, wanted) in CHANGING.items():
        printed = run(*arguments, typed=typed)
        secrets |= {word.rpartition(",")[2] for word in printed.split() if "hg_" in word}
        found = entries("--limit", "1000")
        found, before = found[: len(found) - before], len(found)
        assert [entry["action"] for entry in found] == wanted
        for entry in found:
            assert (entry["actor_kind"], entry["actor"]) == ("command_line", MYSELF)
            assert entry["address"] is None
            if arguments[1] == "accept":
                assert entry["resource_name"] is None
                assert entry["changes"]["clock"]["new"].startswith("20")
            else:
                assert entry["resource_name"] in (
                    *("ada", "pump-1", "pump-2", "pump-3", "roof", "Broker away", "all"),
                    *("hot", "cold", "webhook"),
                )
    for arguments in READING:
        run(*arguments)
    assert len(entries("--limit", "1000")) == 26
    assert len(secrets) == 6
    listed = run("audit", "--json", "--limit", "1000") + run("audit", "--limit", "1000")
    for secret in secrets:
        assert secret not in listed
    assert "argon2" not in listed


def test_what_fails_is_not_entered() -> None:
    run("device", "create", "pump-1")
    for arguments in (
        ("device", "create", "pump-1"),
        ("device", "rotate", "nobody"),
        ("user", "passwd", "nobody", "--password-stdin"),
        ("user", "deactivate", "nobody"),
    ):
        result = CliRunner().invoke(app, arguments, input=f"{PASSWORD}\n")
        assert isinstance(result.exception, StartError)
    # Those that are registered already.
    run("device", "import", "devices.csv")
    run("device", "import", "devices.csv")
    # Nothing waits.
    run("retention", "accept")
    assert len(entries()) == 3


def test_filters() -> None:
    run("device", "import", "devices.csv")
    run("device", "rotate", "pump-2")
    network = entries()[0]["network_identifier"]

    def names(*arguments: str) -> list[str]:
        return [entry["resource_name"] for entry in entries(*arguments)]

    assert names() == ["pump-2", "pump-3", "pump-2"]
    assert names("--limit", "1") == ["pump-2"]
    assert names("--action", "sensor.create") == ["pump-3", "pump-2"]
    assert names("--resource", "pump-3") == ["pump-3"]
    assert len(names("--actor", MYSELF, "--actor-kind", "command_line")) == 3
    assert names("--actor", "nobody") == []
    assert len(names("--network", network.upper())) == 3
    assert len(names("--network", "default")) == 3
    newest = entries()[0]["timestamp"]
    assert names("--start", newest) == ["pump-2"]
    assert names("--end", newest) == ["pump-3", "pump-2"]
    assert len(names("--start", "2020-01-01T00:00:00Z", "--end", "9000000000")) == 3
    for wrong in (("--start", "soon"), ("--action", "pump.up"), ("--limit", "0")):
        assert CliRunner().invoke(app, ["audit", *wrong]).exit_code == 2


def test_the_table_is_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    run("device", "create", "pump-1", "--name", "a\x1b[31m")
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    run("device", "rotate", "pump-1")
    heading, rotated, created = run("audit").splitlines()
    assert heading.split() == ["time", "actor", "from", "action", "resource", "changes"]
    assert "command line 4000000000" in rotated
    assert rotated.split()[-2:] == ["pump-1", "api_key"]
    assert f"command line {MYSELF}" in created
    assert 'name: "a\\u001b[31m"' in created
    assert "\x1b" not in created
    assert database_module.command_line().name == "4000000000"


def test_more_than_a_page_is_listed(tmp_path: Path) -> None:
    lines = "".join(f"d-{number}\n" for number in range(1_200))
    (tmp_path / "devices.csv").write_text(f"device_id\n{lines}")
    run("device", "import", "devices.csv")
    found = entries("--limit", "1100")
    assert [entry["resource_name"] for entry in found] == [
        f"d-{number}" for number in range(1_199, 99, -1)
    ]
