"""Commands outside of the server's folder: none makes a database or key that no server knows."""

import importlib
import json
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from bare_environment import without_variables
from commands import called
from heliograph.cli.main import COMMANDS
from program import run as run_apart
from server import ServerThread

# What a command wants on its line.
ARGUMENTS = {
    ("user", "create"): ["ada"],
    ("user", "passwd"): ["ada"],
    ("user", "deactivate"): ["ada"],
    ("user", "activate"): ["ada"],
    ("device", "create"): ["pump"],
    ("device", "rotate"): ["pump"],
    ("device", "revoke"): ["pump"],
    ("device", "import"): ["devices.csv"],
    ("device", "show"): ["pump"],
    ("device", "deactivate"): ["pump"],
    ("device", "activate"): ["pump"],
    ("device", "delete"): ["pump"],
    ("device", "packing"): ["pump", "off"],
    ("network", "create"): ["roof"],
    ("network", "packing"): ["default", "off"],
    ("action", "repeat"): ["1"],
    ("rejected", "download"): ["1", "message"],
    ("rejected", "show"): ["1"],
    ("rule", "create"): ["rule.json"],
    ("rule", "change"): ["Hot", "rule.json"],
    ("rule", "delete"): ["Hot"],
    ("rule", "show"): ["Hot"],
    ("rule", "test"): ["Hot", "--sensor", "pump"],
    ("alert", "acknowledge"): ["1"],
    ("alert", "clear"): ["1"],
    ("silence", "end"): ["00000000-0000-0000-0000-000000000000"],
    ("broker", "mosquitto"): ["--acl-file", "acl", "--no-reload"],
    ("broker", "dynamic-security"): ["--write", "plugin.json"],
    ("export",): ["x.csv"],
    ("backup",): ["x.db"],
    ("migrate",): ["--downgrade", "--revision", "base"],
}
# They may make one, need none, or call a server.
OTHERS = {
    *("serve", "initialize", "settings", "secrets", "channel", "import", "tail", "simulate"),
    # `restore` puts one where there is none; `doctor` says so among other things.
    *("restore", "doctor"),
}
# This one calls a server, beside others that need none.
CALLS = ("rejected", "resubmit")


def commands() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name in sorted(set(COMMANDS) - OTHERS):
        command = typer.main.get_command(importlib.import_module(f"heliograph.cli.{name}").app)
        if isinstance(command, TyperGroup):
            found += [(name, each) for each in sorted(command.commands)]
        else:
            found.append((name,))
    found.remove(CALLS)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder, but for what commands read."""
    (tmp_path / "devices.csv").write_text("device_id\npump\n")
    rule = {"name": "Hot", "condition": {"attribute": "t", "above": 30}}
    (tmp_path / "rule.json").write_text(json.dumps(rule))
    return tmp_path


def content(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_it_names_the_database_that_is_not_there_and_makes_none(folder, command):
    before = content(folder)
    arguments = (*command, *ARGUMENTS.get(command, ()))
    done = called(
        *arguments, environment=without_variables(), folder=folder, typed="a password of Ada's\n"
    )
    assert (done.returncode, done.stdout) == (1, "")
    path = folder / "data" / "heliograph.db"
    assert f"there is no database of Heliograph at {path}: " in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert content(folder) == before


@pytest.mark.parametrize("made", ["a folder", "an empty file", "a file in the folder's place"])
def test_what_is_there_instead_of_a_database_stays_as_it_is(folder, made):
    data = folder / "data"
    if made == "a file in the folder's place":
        data.touch()
    else:
        data.mkdir()
    if made == "an empty file":
        (data / "heliograph.db").touch()
    before = content(folder)
    done = called("device", "create", "pump", environment=without_variables(), folder=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"no database of Heliograph at {data}/heliograph.db: " in done.stderr
    assert content(folder) == before


def test_an_empty_database_of_postgresql_is_named_without_its_password(folder, postgresql_cluster):
    url = postgresql_cluster.dsn(postgresql_cluster.create_database())
    environment = {**without_variables(), "DATABASE_URL": url}
    done = called("device", "create", "pump", environment=environment, folder=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no database of Heliograph at postgresql://" in done.stderr
    # It is as empty as before: to list is refused as well.
    done = called("device", "list", environment=environment, folder=folder)
    assert done.returncode == 1


@pytest.mark.parametrize("arguments", [("current",), ("downgrade", "-1"), ("stamp", "head")])
def test_alembic_makes_one_by_upgrade_alone(folder, arguments):
    (folder / "alembic.ini").write_text((Path(__file__).parents[3] / "alembic.ini").read_text())
    done = run_apart(*arguments, env=without_variables(), cwd=folder, timeout=60, module="alembic")
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert f"there is no database of Heliograph at {folder}/data/heliograph.db" in said
    assert "Traceback" not in said
    assert not (folder / "data").exists()


CALLING = {
    "channel": ("channel", "list"),
    "tail": ("tail", "--count", "1"),
    "import": ("import", "x.csv"),
    "simulate": ("simulate", "--duration", "1"),
}


@pytest.mark.parametrize("arguments", CALLING.values(), ids=CALLING)
def test_what_calls_a_server_says_that_its_key_is_not_in_this_folder(folder, arguments):
    (folder / "x.csv").write_text("timestamp,device_id,t\n1700000000,pump,1\n")
    done = called(*arguments, environment=without_variables(), folder=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert str(folder / "data" / "api_secret_key") in done.stderr
    assert "in the server's folder" in done.stderr
    assert "another machine" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert content(folder) == {"devices.csv", "rule.json", "x.csv"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ServerThread(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.mark.parametrize("arguments", CALLING.values(), ids=CALLING)
def test_what_calls_a_server_with_another_folders_key_says_whose_it_was(folder, server, arguments):
    """The folder of a second server, of yesterday's trial."""
    (folder / "x.csv").write_text("timestamp,device_id,t\n1700000000,pump,1\n")
    key = folder / "data" / "api_secret_key"
    key.parent.mkdir()
    key.write_text("the-key-of-another-server\n")
    environment = {**without_variables(), "PORT": str(server.port)}
    done = called(*arguments, environment=environment, folder=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"the key in {key}" in done.stderr
    assert "the-key-of-another-server" not in done.stderr
    # One that was given is the caller's own affair.
    environment |= {"HELIOGRAPH_API_KEY": "another"}
    done = called(*arguments, environment=environment, folder=folder)
    assert done.returncode == 1
    assert str(key) not in done.stderr
