"""Every command that the documents print runs as printed, or as the page of departures says.

The documents are those of the systems that this one replaces; `printed/` has their commands, word
by word.
"""

import contextlib
import importlib.util
import json
import os
import re
import secrets
import shutil
import subprocess
import time
from pathlib import Path

import httpx
import pytest

import program
from heliograph.settings import load_settings
from ports import free_port
from program import Program
from server import START_SECONDS, STOP_SECONDS, serving

ROOT = Path(__file__).parents[2]
PRINTED = Path(__file__).with_name("printed")
PAGE = ROOT / "docs/decisions/0004-departures-from-the-seed-documents.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# As the page calls them.
LETTERS = {"000": "A", "001": "A", "002": "B", "003": "C", "004": "D"}
# What a reader starts and leaves running.
SERVING = ("uvicorn", "heliograph serve", "./scripts/develop")
# What takes minutes or the network, and is run as it stands by whoever runs this, or before it.
TRIED_ELSEWHERE = {
    "./scripts/build": "tests/acceptance/test_image.py",
    "./scripts/run": "docs/guide/deployment.md",
    "docker-compose": "docs/guide/deployment.md",
    "./scripts/develop": "tests/acceptance/test_develop.py",
    "./scripts/setup": "scripts/test",
    "./scripts/test": ".ci/run",
    "mypy": "scripts/check",
    "pip install": "scripts/bounds",
    "pytest": "scripts/test",
    "uv sync": "README.md",
}


def blocks(document: str, language: str) -> list[str]:
    """Return a document's blocks in a language, in their order."""
    text = (PRINTED / f"commands-of-document-{document}.md").read_text()
    return [body for kind, body in FENCE.findall(text) if kind == language]


def commands(document: str) -> list[str]:
    """Return what a document has its reader type into a shell, in its order."""
    lines = "".join(blocks(document, "sh")).replace("\\\n", "\\\0").splitlines()
    return [line.replace("\0", "\n") for line in lines]


def departures() -> dict[tuple[str, str], list[str]]:
    """Return, by document and what it prints, the commands to type instead; maybe none."""
    table = PAGE.read_text().partition("\n## Commands\n")[2].partition("\n## ")[0]
    found = {}
    for line in table.splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and cells[0] in LETTERS.values():
            found[cells[0], cells[1].strip("`")] = re.findall(r"`([^`]+)`", cells[2])
    return found


DEPARTURES = departures()


def to_type(document: str, command: str) -> list[str]:
    """Return what a reader of the page of departures types for a command of a document."""
    return DEPARTURES.get((LETTERS[document], command), [command])


class Checkout:
    """A copy of the sources as a reader has it, with a `.env` of his own, and what he starts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in (".env.example", "alembic.ini", "requirements.txt", "scripts"):
            (folder / name).symlink_to(ROOT / name)
        shutil.copy(ROOT / "pyproject.toml", folder)
        self.port = 0
        self.environment = program.on_path(os.environ)
        self.serving: Program | None = None

    def type(self, command: str) -> None:
        """Do what a command does; what serves is awaited, and ends with the next that does."""
        if command.startswith(SERVING):
            self.stop()
            self.take_ports()
        words = command.replace("8000", str(self.port)).split()
        if command.startswith(SERVING):
            module = None if words[0] == "heliograph" else words[0]
            self.serving = Program(*words[1:], env=self.environment, cwd=self.folder, module=module)
            self.wait_until_ready()
        elif words[0] == "alembic":
            done = program.run(
                *words[1:], env=self.environment, cwd=self.folder, timeout=60, module="alembic"
            )
            assert done.returncode == 0, done.stderr
        else:
            self.paste(command)

    def take_ports(self) -> None:
        """Have what serves next use ports that are free here, in the names that each has."""
        self.port = free_port()
        self.environment["PORT"] = self.environment["UVICORN_PORT"] = str(self.port)
        self.environment["MQTT_LISTEN"] = f"127.0.0.1:{free_port()}"

    def paste(self, command: str) -> str:
        """Give a command to a shell; return what it prints."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command.replace("8000", str(self.port))],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def open_pages(self, document: str) -> None:
        """Open what a document has its reader open in a browser."""
        for url in "".join(blocks(document, "url")).split():
            page = httpx.get(url.replace("8000", str(self.port)), follow_redirects=True)
            assert page.status_code == 200, url

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.serving is not None
            assert self.serving.poll() is None, "the server has ended"
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://localhost:{self.port}/readyz").status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError("the server did not become ready")

    def stop(self) -> None:
        """End what serves, as Ctrl-C does."""
        if self.serving is not None:
            self.serving.terminate()
            self.serving.wait(STOP_SECONDS)
            self.serving = None


@pytest.fixture
def checkout(tmp_path):
    checkout = Checkout(tmp_path)
    yield checkout
    checkout.stop()


@pytest.fixture
def postgresql(postgresql_cluster):
    """A database for what is not for SQLite."""
    name = postgresql_cluster.create_database()
    yield postgresql_cluster.dsn(name)
    postgresql_cluster.drop_database(name)


def tried_elsewhere(command: str) -> bool:
    """Tell whether a command is left to what runs it anyway, having seen that it does."""
    for name, place in TRIED_ELSEWHERE.items():
        if command.startswith(name):
            assert Path(name).name.split()[0] in (ROOT / place).read_text(), command
            assert not name.startswith("./") or os.access(ROOT / name, os.X_OK), command
            return True
    return False


def test_every_departure_is_from_a_command_that_is_printed():
    printed = {(LETTERS[each], command) for each in LETTERS for command in commands(each)}
    assert set(DEPARTURES) <= printed
    assert all(commands(each) for each in LETTERS if each != "003")


@pytest.mark.parametrize(("letter", "command"), DEPARTURES)
def test_what_a_departure_is_from_is_not_here(letter, command):
    """A row that is needed no more would send readers the longer way."""
    words = command.replace("pixi run ", "").split()
    here = ROOT / words[-1]
    match words:
        case [name, *_] if name.startswith("./"):
            here = ROOT / name
        case ["uvicorn", application, *_]:
            package = application.partition(".")[0]
            assert (ROOT / package / "__init__.py").exists() is False
            found = importlib.util.find_spec(package)
            assert found is None or found.origin is None  # a folder is none
            return
        case ["pixi", *_] | ["curl", *_] | ["pytest"]:
            here = ROOT / "pixi.toml"
            assert "[tool.pixi" not in (ROOT / "pyproject.toml").read_text()
        case ["poetry", *_]:
            here = ROOT / "poetry.lock"
        case ["alembic", "revision", *_]:
            assert "MetaData" not in (ROOT / "src/heliograph/store/migrations/env.py").read_text()
            return
        case ["pip", *_]:
            # It brings what the program needs, and not the program.
            assert "\nheliograph" not in (ROOT / "requirements.txt").read_text()
            return
    assert not here.exists()


# A server whose reloading starts a new process costs seconds, and starts twice; four workers do
# four times.
@pytest.mark.parametrize("as_printed", [False, pytest.param(True, marks=pytest.mark.long)])
def test_commands_of_document_002_in_their_order(checkout, as_printed, request):
    settings = blocks("002", "env")[0]
    secret = re.search("API_SECRET_KEY=(.*)", settings)[1]
    key = re.search("DEVICE_API_KEYS=(.*?),", settings)[1]
    name = "src/heliograph/model"
    shutil.copytree(ROOT / name, checkout.folder / name)
    for printed in commands("002"):
        for command in to_type("002", printed):
            if tried_elsewhere(command):
                continue
            if command.startswith("rm "):
                checkout.stop()
            if command.startswith("sqlite3"):
                if shutil.which("sqlite3"):
                    assert {"alembic_version", "devices", "readings"} <= set(
                        checkout.paste(command).split()
                    )
            elif command.startswith("curl"):
                call = command.replace("curl", "curl --fail-with-body -sS")
                call = call.replace("your-admin-secret", secret).replace("device-api-key", key)
                answer = checkout.paste(call)
                assert answer == "[]" or json.loads(answer)["device_id"]
            elif not as_printed:
                checkout.type(command.replace(" --reload", "").replace(" --workers 4", ""))
            else:
                if "--workers" in command:
                    checkout.environment["DATABASE_URL"] = request.getfixturevalue("postgresql")
                checkout.type(command)
            if command.startswith("cp "):
                # Edit .env with your settings.
                (checkout.folder / ".env").write_text(settings)
            if checkout.serving is not None and printed.startswith("uvicorn"):
                checkout.open_pages("002")


def test_settings_of_production_are_taken_with_a_key_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = blocks("002", "env")[1].replace("<strong-random-key>", secrets.token_hex())
    Path(".env").write_text(text)
    settings = load_settings()
    assert (settings.app_env, settings.debug, settings.log_format) == ("production", False, "json")
    assert settings.database_url.startswith("postgresql+asyncpg://user:pass@host/db")


@pytest.mark.parametrize("document", ["000", "001", "004"])
def test_commands_of_the_other_documents_in_their_order(checkout, document):
    # As 000 says: specify your environment variables in a `.env` file (see `.env.example`).
    shutil.copy(ROOT / ".env.example", checkout.folder / ".env")
    for printed in commands(document):
        for command in to_type(document, printed):
            if not tried_elsewhere(command):
                checkout.type(command)
    checkout.open_pages(document)


def test_calls_of_document_000_in_their_order(tmp_path):
    """Every call with its own words; token and sensor are those that the answers give."""
    calls = [call for call in blocks("000", "python") if "/streams/" not in call]
    first = next(at for at, call in enumerate(calls) if "/sensors" in call)
    # The network is there once it has been made as the page of departures has it.
    (making,) = [body for kind, body in FENCE.findall(PAGE.read_text()) if kind == "python"]
    calls[first:first] = [calls[first], making]
    # As the page has it for calls without a header.
    with serving(tmp_path, ANONYMOUS_ROLE="viewer", ANONYMOUS_NETWORKS="*") as server:
        given = {"localhost:8000": f"localhost:{server.port}"}
        answers = []
        for call in calls:
            answer = eval(filled(call, given), {"httpx": httpx})  # noqa: S307 - our own file
            answers.append(answer)
            told = answer.json()
            if "access_token" in told:
                given["c186a32e88541b4ddb2f0bd59a68b7d68d8f8050757101fa836e2bf9b6bd04c2"] = told[
                    "access_token"
                ]
            if answer.request.method == "POST" and "sensor_identifier" in told:
                given["102ebc56-edb9-42be-aec0-15a6c1075c7e"] = told["sensor_identifier"]
        statuses = [200, 201, 200, 404, 201, 201, 200, *[200] * 3]
        assert [answer.status_code for answer in answers] == statuses, answers[-1].text
        assert [answer.json() for answer in answers[-3:]] == [[], [], []]
        check_stream(filled(blocks("000", "python")[-1], given))


def check_stream(call: str) -> None:
    """The call waits for the end of what has none; httpx.stream has each event at once."""
    url = re.search(r'url="([^"]+)"', call)[1]
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(url=url, timeout=0.2)
    with httpx.stream("GET", url) as answer:
        lines = answer.iter_lines()
        assert "event: activity" in (line for line in lines)


def filled(call: str, given: dict[str, str]) -> str:
    for printed, own in given.items():
        call = call.replace(printed, own)
    return call
