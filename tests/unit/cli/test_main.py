"""The command line as a whole: help, lazy loading, how errors are told."""

import ast
import gc
import subprocess
import sys
from pathlib import Path

import pytest
from typer import Context
from typer.main import get_command
from typer.testing import CliRunner

import program
from bare_environment import without_variables
from heliograph.cli import main
from heliograph.version import VERSION


def run(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {**without_variables(), **environment}
    return program.run(*arguments, env=environment, cwd=folder, timeout=60)


def python(script: str, *arguments: str, folder: Path) -> str:
    """Return what a script prints in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=without_variables(),
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    ).stdout


@pytest.mark.parametrize("arguments", [["--help"], ["-h"]])
def test_help_lists_the_commands(arguments):
    result = CliRunner().invoke(main.app, arguments)
    assert result.exit_code == 0
    for name, text in main.COMMANDS.items():
        assert name in result.output
        assert text.split()[0] in result.output


@pytest.mark.parametrize("name", main.COMMANDS)
def test_each_command_has_the_help_that_the_list_shows(name):
    group = get_command(main.app)
    _, command, _ = group.resolve_command(Context(group), [name])
    # A line of the terminal ends where there is no room for more, not where one of the code does.
    for shown in (command, *getattr(command, "commands", {}).values()):
        assert "\n" not in (shown.help or "").replace("\n\n", "")
    assert (command.help or "").split("\n\n")[0] == main.COMMANDS[name]
    result = CliRunner().invoke(main.app, [name, "--help"])
    assert result.exit_code == 0
    assert main.COMMANDS[name].split(",")[0].split(".")[0] in " ".join(result.output.split())


# What takes more time to load than all else that these commands do; a quarter of a second is
# what a person takes for at once.
HEAVY = {"asyncio", "sqlalchemy", "asyncpg", "aiosqlite", "uvicorn", "httpx", "paho"}


def modules_of(script, folder):
    """Return the names of modules that a program of ours prints last."""
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(ast.literal_eval(result.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [(["--help"], HEAVY), (["--version"], HEAVY), (["settings"], HEAVY | {"rich"})],
)
def test_help_and_settings_load_little(arguments, heavy, tmp_path):
    script = (
        f"import sys; from heliograph.cli.main import app; app({arguments}, standalone_mode=False);"
        "print(sorted(m for m in sys.modules if m.count('.') == 0 or m == 'heliograph.store'))"
    )
    loaded = modules_of(script, tmp_path)
    assert "heliograph" in loaded
    assert loaded & {*heavy, "heliograph.store"} == set()


def test_a_server_starts_without_what_few_ask_for(tmp_path):
    script = """
import sys
from typer import Context
from typer.main import get_command
from heliograph.cli.main import app

group = get_command(app)
group.resolve_command(Context(group), ["serve"])
print(sorted(sys.modules))
"""
    loaded = modules_of(script, tmp_path)
    assert "fastapi" in loaded
    assert (
        loaded & {"alembic", "limits", "prometheus_client", "pyarrow", "rich", "sqlalchemy"}
        == set()
    )


def test_models_that_a_server_puts_off_can_all_be_built(tmp_path):
    script = """
from typer import Context
from typer.main import get_command
from heliograph.cli.main import app

group = get_command(app)
group.resolve_command(Context(group), ["serve"])

from fastapi.openapi import models as openapi
from pydantic import BaseModel

def below(model):
    for each in model.__subclasses__():
        yield each
        yield from below(each)

models = set(below(BaseModel))
print(sum(not each.__pydantic_complete__ for each in models))
# FastAPI asks for these to be built as it is imported.
for each in (openapi.Schema, openapi.Operation, openapi.Encoding):
    assert not each.__pydantic_complete__, each
for each in models:
    each.model_rebuild()
    assert each.__pydantic_complete__, each

class Later(BaseModel):
    name: str

assert Later.__pydantic_complete__
"""
    put_off = python(script, folder=tmp_path)
    # FastAPI's own, which are built for `/openapi.json` alone, are thirty.
    assert int(put_off) > 50


def test_what_reads_parameters_is_put_off_and_becomes_the_same(tmp_path):
    script = """
import sys

if sys.argv[1] == "put off":
    from typer import Context
    from typer.main import get_command
    from heliograph.cli.main import app

    get_command(app).resolve_command(Context(get_command(app)), ["serve"])
else:
    import heliograph.cli.serve

from fastapi.routing import APIRoute
from heliograph.http.application import _fastapi

def fields_of(dependant):
    for kind in ("path", "query", "header", "cookie", "body"):
        yield from getattr(dependant, f"{kind}_params")
    for each in dependant.dependencies:
        yield from fields_of(each)

web = _fastapi()
fields = [
    (route.path, field)
    for route in web.routes
    if isinstance(route, APIRoute)
    for field in (*fields_of(route.dependant), *route.response_fields.values())
]
print(sum("_type_adapter" not in vars(field) for _, field in fields), len(fields))
# Without what differs from one process to the next: numbers of objects.
import re
for path, field in fields:
    # What it takes from a model is put off with the model.
    field._type_adapter.rebuild()
    schema = re.sub(r"0x[0-9a-f]+|\\b\\d{9,}\\b", "", repr(field._type_adapter.core_schema))
    print(path, field.name, field.mode, schema)
    assert "_type_adapter" in vars(field)
"""
    told = {
        how: python(script, how, folder=tmp_path).splitlines() for how in ("put off", "at once")
    }
    left, count = map(int, told["put off"][0].split())
    assert left == count > 250
    assert told["at once"][0] == f"0 {count}"
    assert told["put off"][1:] == told["at once"][1:]


def test_garbage_is_collected_again_once_a_command_is_loaded():
    group = get_command(main.app)
    kept = gc.get_freeze_count()
    gc.disable()
    try:
        group.resolve_command(Context(group), ["settings"])
        assert gc.isenabled()
        # Not among what stays.
        assert gc.get_freeze_count() > kept
    finally:
        gc.enable()


def test_version():
    result = CliRunner().invoke(main.app, ["--version"])
    assert result.output == f"heliograph {VERSION}\n"


def test_an_unknown_command_is_a_usage_error(tmp_path):
    result = run("serv", folder=tmp_path)
    assert result.returncode == 2
    assert "serve" in result.stderr


@pytest.mark.parametrize("command", [["serve"], ["migrate"], ["settings"], ["device", "list"]])
def test_a_wrong_setting_is_one_line_on_standard_error(command, tmp_path):
    result = run(*command, folder=tmp_path, PORT="http")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == (
        "heliograph: PORT: should be a whole number from 0 to 65535, not 'http'\n"
    )


def test_a_database_out_of_reach_is_one_line(tmp_path):
    url = "postgresql://u:hidden@127.0.0.1:1/d"
    result = run("device", "list", folder=tmp_path, DATABASE_URL=url)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("heliograph: ")
    assert "hidden" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("devcie list", "Did you mean 'device'?"),
        ("device lsit", "Did you mean 'list'?"),
        ("device list --netwrk x", "No such option: --netwrk: did you mean --network?"),
        ("--versoin", "did you mean --version?"),
        (
            "export x.csv --format cvs",
            "'cvs' is not one of csv, jsonl, parquet: did you mean `csv`",
        ),
        ("rejected --reason MALFORMD_JSON", "did you mean `MALFORMED_JSON`?"),
        ("audit --action device.create", "is not one of user.create, "),
        ("audit --limit many", "Invalid value for '--limit': 'many' is not a whole number"),
        ("audit --limit 0", "Invalid value for '--limit': 0 is less than 1"),
        ("audit --limit 9999999", "9999999 is more than 1000000"),
        ("simulate --rate fast", "'fast' is not a number"),
        ("simulate --rate -1", "-1 is less than 0"),
        ("network create x --id y", "'y' is not a UUID"),
        ("audit --start yesterday", "not an RFC 3339 time: 'yesterday'"),
        ("device create", "Missing argument 'device_id'"),
    ],
)
def test_a_wrong_command_line_is_told_in_words_with_what_may_be_meant(arguments, told):
    result = CliRunner().invoke(main.app, arguments.split(), terminal_width=400)
    assert result.exit_code == 2
    said = " ".join(result.stderr.replace("│", "").split())
    assert told in said
    for word in ("Value error", "Input should", "valid integer", "unable to parse"):
        assert word not in said
