"""The commands in the documentation do what the documentation says, run as they stand there."""

import contextlib
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from program import on_path
from server import ADMIN_KEY, SHARED_KEY, ServerProcess, serving

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
RUNNABLE = re.compile(
    r"(curl|mosquitto_pub|mosquitto_sub"
    r'|(echo ("\$PASSWORD"|\'[^\']*\') \| )?'
    r"heliograph (audit|channel|device|export|import|rejected|rule|simulate|user))\b"
)
COMMAND_SECONDS = 60

# An error is an error, and watching ends with the first message that comes.
PRELUDE = """
set -euo pipefail
curl() { command curl --silent --show-error --fail-with-body "$@"; echo; }
mosquitto_sub() { command mosquitto_sub -C 1 -W 20 "$@"; }
"""

# What later commands of a page need of the answers to earlier ones.
KEPT = {
    "ACCESS_TOKEN": "access_token",
    "NETWORK": "network_identifier",
    "NODE": "node_identifier",
}
# Pages that take it for granted that devices are registered; the last one's key is kept.
EXPECTED_DEVICES = {
    "docs/guide/mqtt.md": ["greenhouse-1"],
    "docs/guide/http.md": ["greenhouse-1"],
    "docs/guide/rules.md": ["greenhouse-1"],
    "docs/guide/registry.md": ["greenhouse-1"],
    "docs/guide/configurations.md": ["greenhouse-2", "greenhouse-1"],
    "docs/guide/audit.md": ["greenhouse-1"],
    "docs/guide/export-and-import.md": ["greenhouse-1"],
}
# What they have sent before somebody reads on.
SEND = """curl -H "X-API-Key: $ADMIN_KEY" -H 'Content-Type: application/json' \\
  -d '{"device_id": "greenhouse-1", "temperature": 22.5, "humidity": 43}' http://localhost:8000/ingest"""
SENT = {"docs/guide/export-and-import.md"}
READ_DEVICE = 'curl -H "X-API-Key: $ADMIN_KEY" http://localhost:8000/devices/'
PAGES = [
    "README.md",
    "docs/guide/getting-started.md",
    "docs/guide/devices-and-keys.md",
    "docs/guide/accounts.md",
    "docs/guide/registry.md",
    "docs/guide/configurations.md",
    "docs/guide/mqtt.md",
    "docs/guide/http.md",
    "docs/guide/rules.md",
    "docs/guide/alerts.md",
    "docs/guide/audit.md",
    "docs/guide/export-and-import.md",
]


class Reader:
    """Somebody who pastes one command after the other into a shell, and keeps the keys."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.environment = {
            **on_path(server.environment),
            "ADMIN_KEY": ADMIN_KEY,
            "PASSWORD": "correct horse",
        }

    def paste(self, text: str) -> str:
        """Run a block and return what it prints."""
        text = text.replace("localhost:8000", f"localhost:{self.server.port}")
        text = text.replace("X-API-Key: key1", f"X-API-Key: {SHARED_KEY}")
        text = text.replace("-p 1883", f"-p {self.server.mqtt_port}")
        watching = None
        if text.startswith("mosquitto_sub"):
            watching = subprocess.Popen(self.shell(text), **self.pipes())
            text = self.something_to_see(watching)
        done = subprocess.run(
            self.shell(text), timeout=COMMAND_SECONDS, check=False, **self.pipes()
        )
        assert done.returncode == 0, done.stdout + done.stderr + text
        output = done.stdout
        if watching is not None:
            output, _ = watching.communicate(timeout=COMMAND_SECONDS)
            assert watching.returncode == 0, output
        for key in re.findall(r'"api_key": ?"([^"]+)"|^api_key +(\S+)$', output, re.MULTILINE):
            self.environment["DEVICE_KEY"] = key[0] or key[1]
        for name, member in KEPT.items():
            for found in re.findall(rf'"{member}": ?"([^"]+)"', output):
                self.environment[name] = found
        return output

    def shell(self, text: str) -> list[str]:
        return ["bash", "-c", PRELUDE + text]

    def pipes(self) -> dict[str, object]:
        return {
            "env": self.environment,
            "cwd": self.server.folder,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
        }

    def something_to_see(self, watching: subprocess.Popen[str]) -> str:
        """Return commands that send readings for as long as nobody has seen one."""
        return (
            f"while kill -0 {watching.pid} && [[ $(ps -o stat= {watching.pid}) != Z* ]]; do"
            " mosquitto_pub -h localhost"
            f" -p {self.server.mqtt_port} -u admin -P {ADMIN_KEY}"
            f" -t measurements/{self.a_device()} -m '{{\"value\": 1}}'; done 2>/dev/null"
        )

    def a_device(self) -> str:
        return str(self.server.http.get("/devices").json()[0]["device_id"])


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text()
    return [body for kind, body in FENCE.findall(text) if kind == language]


def commands(text: str) -> list[str]:
    """Return the commands of a block, each with the lines that continue it."""
    return re.sub(r"\\\n *", " ", text).strip().splitlines()


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_succeed_in_their_order(page: str, tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        reader = Reader(server)
        for device in EXPECTED_DEVICES.get(page, ()):
            reader.paste(f"heliograph device create {device}")
            reader.paste(READ_DEVICE + device)
        if page in SENT:
            reader.paste(SEND)
        for devices in blocks(page, "csv"):
            (server.folder / "devices.csv").write_text(devices)
        run = [
            (block, reader.paste(block))
            for block in blocks(page, "sh")
            if all(RUNNABLE.match(line) for line in commands(block))
        ]
        assert run
        for block, output in run:
            if "/history" in block or "/measurements" in block.splitlines()[0]:
                assert '"temperature":22.' in output, (block, output)
            if "/audit" in block:
                assert '"resource_name":"greenhouse-1"' in output


def test_first_screen_shows_what_happens(tmp_path: Path) -> None:
    shown = next(iter(blocks("README.md", "console")))
    with serving(tmp_path) as server:
        reader = Reader(server)
        reader.paste("heliograph device create my-first-sensor")
        parts = re.split(r"^\$ ", shown, flags=re.MULTILINE)[1:]
        send, read = (part.split("\n\n")[0] for part in parts)
        reader.paste(send)
        command, _, expected = read.partition("\n")
        answer = reader.paste(command)
    assert shape(answer) == shape(expected)


def test_messages_packets_and_channels_are_as_printed(tmp_path: Path) -> None:
    with (
        served_posts() as (posted_to, posts),
        serving(tmp_path, WEBHOOK_ALLOW="127.0.0.1") as server,
    ):
        reader = Reader(server)
        reader.paste("heliograph device create greenhouse-1")

        page = "docs/guide/packets.md"
        example, answer = blocks(page, "json")
        sent = server.http.post("/packets", content=example)
        assert (sent.status_code, shape(sent.text)) == (201, shape(answer))
        [post] = blocks(page, "sh")
        assert shape(reader.paste(post)) == shape(answer)

        page = "docs/guide/messages.md"
        topic = "measurements/greenhouse-1"
        say = f"mosquitto_pub -h localhost -p 1883 -t {topic} -q 1 -m '{{\"temperature\": 22.5}}'"
        reader.paste(f'{say} -u greenhouse-1 -P "$DEVICE_KEY"')
        read, *others = blocks(page, "sh")
        [answer] = blocks(page, "json")
        assert shape(reader.paste(read)) == shape(answer)
        [known] = re.findall(r'"id": "(\d+)"', answer)
        for block in others:
            # Rejected, and its cause mended.
            for is_active in (False, True):
                device = server.http.patch("/sensors/greenhouse-1", json={"is_active": is_active})
                assert device.status_code == 200
                if not is_active:
                    reader.paste(f"{say} -u admin -P {ADMIN_KEY}")
            [rejected] = server.http.get("/messages?kind=rejected").json()["messages"]
            reader.paste(block.replace(known, rejected["id"]))
            assert server.http.get("/messages?kind=rejected").json()["messages"] == []
        assert (server.folder / "payload.json").read_text() == '{"temperature": 22.5}'

        page = "docs/guide/notifications.md"
        action, body, chat, outcome = blocks(page, "json")
        rule = {"name": "Silent", "condition": {"no_data": 900}, "actions": [json.loads(action)]}
        assert server.http.post("/rules", json=rule).status_code == 201
        create, test, commands_of_page = blocks(page, "sh")
        reader.environment["CHANNEL"] = json.loads(reader.paste(create))["id"]
        tested = json.loads(reader.paste(test))
        assert tested.keys() == json.loads(outcome).keys()
        assert tested["delivered"] is False  # there is no mail server
        incidents = json.loads(chat) | {"url": posted_to}
        del incidents["name"]
        (server.folder / "incidents.json").write_text(json.dumps(incidents))
        assert (
            server.http.post("/networks", json={"network_name": "greenhouses"}).status_code == 201
        )
        reader.paste(commands_of_page)
        [told] = posts
        assert told == {
            "content": "[test] Incidents",
            "fields": {"alerts": 0, "network": "greenhouses"},
        }
        plain = {"name": "Plain", "type": "webhook", "url": posted_to}
        made = server.http.post("/channels", json=plain).json()
        assert server.http.post(f"/channels/{made['id']}/test").json()["delivered"]
        assert posts[1].keys() == json.loads(body).keys()


@contextlib.contextmanager
def served_posts() -> Iterator[tuple[str, list[Any]]]:
    """Take posts for as long as the context lasts: the URL, and the JSON that came."""
    posts: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posts.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", posts
        finally:
            server.shutdown()
            thread.join()


def shape(answer: str) -> str:
    """Return an answer without white space, ids and times, which differ each time."""
    answer = re.sub(r"\s", "", answer)
    answer = re.sub(r"\b\d{19}\b", "ID", answer)
    answer = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", answer)
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", answer)


def test_python_example_stores_what_it_counts(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        reader = Reader(server)
        reader.paste("heliograph device create my-first-sensor")
        printed = reader.paste(
            f"python {ROOT}/examples/python/publish.py --port {server.mqtt_port}"
            ' --device my-first-sensor --key "$DEVICE_KEY" --count 5 --interval 0'
        )
        history = server.http.get("/devices/my-first-sensor/history").json()
    assert printed.strip() == "5 of 5 readings are stored"
    assert sorted(entry["metrics"]["number"] for entry in history) == [0, 1, 2, 3, 4]


def test_guide_names_every_route(tmp_path: Path) -> None:
    text = (ROOT / "docs/guide/http.md").read_text()
    table = text[text.index("## Routes") : text.index("## Send a reading")]
    documented = {
        re.sub(r"\{\w+\}", "{}", path) for path in re.findall(r"(/[a-z][\w/{}-]*)`", table)
    }
    with serving(tmp_path) as server:
        paths = server.http.get("/openapi.json").json()["paths"]
    served = {re.sub(r"\{\w+\}", "{}", path.removeprefix("/api/v1")) for path in paths}
    assert documented - {"/docs", "/redoc"} == served
