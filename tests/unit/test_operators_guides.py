"""What the pages for operators name is there: commands, settings, files, routes and units."""

import contextlib
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from typer import Context
from typer.core import TyperGroup
from typer.main import get_command

from bare_environment import refusal, work_in
from heliograph.cli import main
from heliograph.http.application import document
from heliograph.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy" / "systemd"
GUIDE = ROOT / "docs" / "guide"
PAGES = [
    *(GUIDE / f"{name}.md" for name in ("deployment", "operations", "scaling", "backup")),
    *(GUIDE / f"{name}.md" for name in ("restore", "secrets", "broker", "packing", "metrics")),
    *sorted((ROOT / "deploy").rglob("README.md")),
    ROOT / "MIGRATIONS.md",
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
# What runs our program, as these pages have it.
PROGRAM = re.compile(
    r"(?:^|[|;(&])\s*(?:sudo )?(?:[A-Z_]+=\S+ )*"
    r"(?:as_server|(?:/opt/heliograph/bin/)?heliograph|\./scripts/run) (?=[a-z-])"
)
ASSIGNED = re.compile(r"^(?:[\"']?)([A-Z][A-Z0-9_]+)=", re.MULTILINE)
# Variables of a shell, of systemd's and of other programs.
NO_SETTINGS = re.compile(r"PYTHON|PASSWORD|ENGINE|BROKER_PASSWORD|OTEL_\w+")
# What stands for something, and is no path or name of a route.
PLACEHOLDER = re.compile(r"[…{<]|\b[A-Z]{3,}\b")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(page.read_text()) if kind == language]


def spans(page: Path) -> list[str]:
    """Return what the sentences of a page have as code."""
    return SPAN.findall(FENCE.sub("", page.read_text()))


def without_documents(block: str) -> str:
    """Return a block of shell without the texts that it writes to files."""
    return re.sub(r"<<'(\w+)'\n.*?^\1$", "", block, flags=re.MULTILINE | re.DOTALL)


def pasted(page: Path) -> list[str]:
    """Return what a page has its reader type, a command a line."""
    text = "".join(without_documents(block) for block in blocks(page, "sh"))
    return text.replace("\\\n", " ").splitlines()


def calls(line: str) -> Iterator[list[str]]:
    """Yield the words behind each call of our program in a line."""
    for found in PROGRAM.finditer(line):
        rest = re.split(r" [|&>]|[;)]| #", line[found.end() :])[0]
        if not PLACEHOLDER.search(rest.replace("KEY", "").replace("NAME", "")):
            yield shlex.split(rest)


def parse(words: list[str]) -> None:
    """Read a command line as the program does, up to where it would begin to work.

    Raises:
        UsageError: it is wrong.
    """
    command: Any = get_command(main.app)
    context, given = None, list(words)
    while isinstance(command, TyperGroup):
        if not given:
            return  # all commands of a kind
        context = Context(command, parent=context)
        _, command, given = command.resolve_command(context, given)
    command.make_context(words[0], given, parent=context)


@contextlib.contextmanager
def missing_allowed() -> Iterator[None]:
    try:
        yield
    except main.UsageError as error:
        if type(error).__name__ not in ("MissingParameter", "NoArgsIsHelpError"):
            raise


@each_page
def test_blocks_are_shell(page):
    for block in blocks(page, "sh"):
        done = subprocess.run(
            ["bash", "-n"], input=block, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.stderr == "", block


@each_page
def test_commands_are_those_of_the_program(page):
    for line in pasted(page):
        for words in calls(line):
            parse(words)
    for span in spans(page):
        for words in calls(span):
            # A sentence may name no more than the command.
            with missing_allowed():
                parse(words)


def test_pages_have_commands():
    found = {words[0] for page in PAGES for line in pasted(page) for words in calls(line)}
    assert {"serve", "initialize", "backup", "restore", "device"} <= found


@pytest.mark.parametrize(
    "wrong",
    ["heliograph serve --worker 4", "as_server devices list", "heliograph device create a b c"],
)
def test_wrong_commands_are_found(wrong):
    [words] = calls(wrong)
    with pytest.raises(main.UsageError):
        parse(words)


@each_page
def test_what_is_set_are_settings(page):
    known = {name.upper() for name in Settings.model_fields}
    known |= {f"{name}_FILE" for name in known}
    text = "\n".join([*blocks(page, "sh"), *spans(page)])
    # Of a command's own environment, and what is written to a file of settings.
    text = re.sub(r"(?<=[ '\"])(?=[A-Z][A-Z0-9_]+=)", "\n", text)
    assert {name for name in ASSIGNED.findall(text) if not NO_SETTINGS.fullmatch(name)} <= known


def files_of_settings(page: Path) -> Iterator[str]:
    """Yield what a page has appended to the server's file of settings, and blocks of settings."""
    for block in blocks(page, "sh"):
        for _, text in re.findall(
            r"heliograph\.env[^\n]*<<'(\w+)'\n(.*?)^\1$", block, re.MULTILINE | re.DOTALL
        ):
            yield text
        yield from re.findall(
            r"echo '([A-Z_]+=[^']*)' \|\s+sudo tee -a [^\n]*heliograph\.env", block
        )
        whole = all(ASSIGNED.match(line) and " " not in line for line in block.splitlines())
        if whole and not PLACEHOLDER.search(re.sub(r"[A-Z_]+=|PASSWORD", "", block)):
            yield block


@pytest.fixture
def certificate(tmp_path):
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(tmp_path / "privkey.pem")
    for pem in issued.cert_chain_pems:
        pem.write_to_path(tmp_path / "fullchain.pem", append=True)
    return tmp_path


@each_page
def test_settings_are_taken_as_they_are_printed(page, certificate, monkeypatch):
    for number, text in enumerate(files_of_settings(page)):
        folder = certificate / str(number)
        folder.mkdir()
        printed = re.sub("/etc/(heliograph|mosquitto)/(heliograph/)?", f"{certificate}/", text)
        (folder / ".env").write_text(printed)
        work_in(folder, monkeypatch)
        if "MQTT_SHARED" in text:
            monkeypatch.setenv("DATABASE_URL", "postgresql://heliograph@localhost/heliograph")
        settings = load_settings()
        for line in text.splitlines():
            assert line.partition("=")[0].lower() in settings.model_fields_set, line


def test_wrong_settings_would_not_be(tmp_path, monkeypatch):
    work_in(tmp_path, monkeypatch)
    (tmp_path / ".env").write_text("HTTPS_LISTEN=0.0.0.0:https\n")
    assert "HTTPS_LISTEN" in refusal()


@each_page
def test_files_of_the_sources_are_there(page):
    text = "\n".join([*blocks(page, "sh"), *spans(page)])
    named = re.findall(r"(?<![\w./-])((?:\./)?(?:deploy|scripts|docs|examples)/[\w./-]+)", text)
    for name in named:
        assert (ROOT / name).exists(), name


@each_page
def test_routes_are_there(page):
    served = {
        re.compile(re.sub(r"\{\w+\}", "[^/]+", path.removeprefix("/api/v1")))
        for path in json.loads(document(""))["paths"]
    } | {re.compile(path) for path in ("/", "/docs", "/redoc", "/dashboard/.*")}
    text = "\n".join([*blocks(page, "sh"), *blocks(page, ""), *spans(page)])
    asked = re.findall(r"\b(?:GET|POST|PUT|PATCH|DELETE) (?:/api/v1)?(/[\w{}/-]*)", text)
    asked += re.findall(r"https?://(?:localhost|\"?\$\(hostname -f\)):\d+(/[\w{}/-]+)", text)
    for path in asked:
        plain = path.removeprefix("/api/v1").rstrip("/") or "/"
        assert any(each.fullmatch(plain) for each in served), path


@each_page
def test_units_are_shipped_or_the_systems_own(page):
    text = "\n".join([*pasted(page), *spans(page)])
    named = re.findall(r"\b(?:systemctl|journalctl)\b([^|;&\n]*)", text)
    for unit in {word for words in named for word in words.split() if "heliograph" in word}:
        name = unit if "." in unit else f"{unit}.service"
        timer = UNITS / f"{unit}.timer"
        assert (UNITS / name).exists() or timer.exists(), unit


def test_the_guide_installs_what_the_units_start():
    unit = (UNITS / "heliograph.service").read_text()
    text = (GUIDE / "deployment.md").read_text()
    [program] = re.findall(r"^ExecStart=(\S+) serve$", unit, re.MULTILINE)
    assert f'{program} "$@"' in text
    assert f"-m venv {program.removesuffix('/bin/heliograph')}\n" in text
    [settings] = re.findall(r"^EnvironmentFile=-(\S+)$", unit, re.MULTILINE)
    assert f"--property=EnvironmentFile={settings} " in text
    assert f"/dev/null {settings}\n" in text
    [state] = re.findall(r"^StateDirectory=(\S+)$", unit, re.MULTILINE)
    assert f"--home-dir /var/lib/{state} " in text
    assert f"--property=StateDirectory={state} " in text
    for name in re.findall(r"^(?:User|Group)=(\S+)$", unit, re.MULTILINE):
        assert re.search(rf"useradd .* {name}$", text, re.MULTILINE)
    # What the function for commands sets is what the unit sets.
    [environment] = re.findall(r"^Environment=(.*)$", unit, re.MULTILINE)
    for each in re.findall(r"--setenv=(\S+)", text):
        assert each in environment.split()


def test_what_systemd_listens_on_is_what_the_settings_name():
    text = (GUIDE / "deployment.md").read_text()
    [_, block] = text.split("addresses.conf >/dev/null <<'END'\n")
    listened = set(re.findall(r"^ListenStream=(\S+)$", block.partition("END")[0], re.MULTILINE))
    [settings] = [each for each in files_of_settings(GUIDE / "deployment.md") if "HTTPS" in each]
    named = dict(line.split("=", 1) for line in settings.splitlines())
    addresses = {named[name] for name in ("HTTPS_LISTEN", "MQTT_TLS_LISTEN", "MQTT_LISTEN")}
    assert listened == {*addresses, f"{named['HOST']}:{Settings.model_fields['port'].default}"}
