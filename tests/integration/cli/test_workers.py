"""Several processes of one server, on PostgreSQL: started, started again and ended together."""

import contextlib
import http.client
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import program
from heliograph.store.duties import DutyName
from mqtt_client import Client
from ports import free_port
from program import Program
from server import ADMIN_KEY, ServerProcess

pytestmark = pytest.mark.uncovered

SECONDS = 60.0
WORKERS = 3
BRIEF = """
from heliograph.cli import workers
from heliograph.cli.main import run
from heliograph.store import duties
workers.FIRST_RESTART_SECONDS = 0.01
duties.LOOK_SECONDS = 0.1
run()
"""


def until(condition):
    """Return what a condition gives as soon as it is true of anything."""
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, condition
        time.sleep(0.01)
    return found


class Several:
    """A server of several workers, and what it has said."""

    def __init__(self, server, log):
        self.server = server
        self.log = log

    @property
    def parent(self):
        return self.server.process.pid

    def said(self, pattern):
        return re.findall(pattern, self.log.read_text())

    def workers(self):
        """Return the workers' processes."""
        children = Path(f"/proc/{self.parent}/task/{self.parent}/children")
        return [int(each) for each in children.read_text().split()]

    def request(self, method, path, body=None, **headers):
        """Return the answer to a request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=SECONDS)
        with contextlib.closing(connection):
            connection.request(method, path, body and json.dumps(body), headers)
            answer = connection.getresponse()
            said = answer.read()
            is_json = answer.headers["Content-Type"].startswith("application/json")
            return json.loads(said) if is_json else said.decode()

    def policies(self, count):
        """Return the limit that as many answers tell, each by whichever worker."""
        for _ in range(count):
            connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=SECONDS)
            with contextlib.closing(connection):
                connection.request("GET", "/ping")
                yield connection.getresponse().headers["ratelimit-policy"]

    def instances(self, number):
        """Return what so many workers say of their instances, by number."""
        found = {}

        def ask():
            with contextlib.suppress(OSError, http.client.HTTPException):
                instance = self.request("GET", "/readyz")["instance"]
                found[instance["number"]] = instance
            return len(found) == number

        until(ask)
        return found


@pytest.fixture
def several(tmp_path, postgresql_url):
    (tmp_path / "brief.py").write_text(BRIEF)
    server = ServerProcess(
        tmp_path,
        database_url=postgresql_url,
        AUTO_MIGRATE="false",
        LOG_LEVEL="info",
        LOG_FORMAT="json",
    )
    log = tmp_path / "log"
    with log.open("wb") as file:
        arguments = ["serve", "--workers", str(WORKERS)]
        server.process = Program(
            *arguments, module="brief", env=server.environment, cwd=tmp_path, stderr=file
        )
    started = Several(server, log)
    try:
        until(lambda: started.said("server started"))
        yield started
    finally:
        server.http.close()
        if server.process is not None:
            server.process.kill()


def still(process):
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


async def test_workers_answer_on_the_same_ports_and_one_that_is_killed_is_started_again(several):
    first = set(several.workers())
    assert len(first) == WORKERS
    instances = several.instances(WORKERS)
    assert set(instances) == {0, 1, 2}
    assert {number for number, each in instances.items() if each["duties"]} == {0}
    assert instances[0]["duties"] == [name.value for name in DutyName]
    told = several.request("GET", "/metrics", **{"X-API-Key": ADMIN_KEY})
    # Whichever is asked tells of all, each metric at one place.
    held = re.findall(r'heliograph_duty_held{duty="rollups",worker="(.)"} (.)', told)
    assert sorted(held) == [("0", "1"), ("1", "0"), ("2", "0")]
    for kind in (r"process_cpu_seconds_total{", r"heliograph_ingest_rows_total{"):
        assert len(re.findall(rf'^{kind}worker="."}}', told, re.MULTILINE)) == WORKERS
    assert told.count("# TYPE heliograph_ingest_rows_total ") == 1
    assert "heliograph_workers 3.0\nheliograph_workers_telling" not in told
    for name in ("workers", "workers_telling"):
        assert f"\nheliograph_{name} {WORKERS}.0\n" in told
    assert len(list(text_string_to_metric_families(told))) == told.count("# TYPE")
    device = several.server.device()
    for client_id in ("a", "b", "c"):
        client = await Client.connected(several.server.mqtt_port, client_id, "admin", ADMIN_KEY)
        await client.close()
    # Each reads its settings again when one is asked, and allows its share.
    (several.server.folder / ".env").write_text("RATE_LIMIT_READ=3000\n")
    asked = several.request("GET", "/rereadenv", **{"X-API-Key": ADMIN_KEY})
    assert asked == {"changed": ["RATE_LIMIT_READ"], "restart_required": [], "workers_left": 0}
    assert len(several.said(r'"settings read again"')) == WORKERS
    # While one is away the others answer whoever comes.
    killed = several.workers()[0]
    os.kill(killed, signal.SIGKILL)
    until(lambda: several.said("worker started again"))
    again = set(several.workers())
    assert killed not in again
    assert len(again & first) == WORKERS - 1
    # The one that was started again has read them too.
    until(lambda: len(several.said(r'"settings read again"')) == WORKERS + 1)
    # The number of the one that was killed counts as a server's for some seconds more.
    assert set(several.policies(30)) <= {'"probe";q=1000;w=60', '"probe";q=750;w=60'}
    instances = several.instances(WORKERS)
    assert set(instances) == {1, 2, 3}

    # The one that was killed had all duties.
    def duties():
        told = several.instances(WORKERS).values()
        return sorted(name for each in told for name in each["duties"])

    until(lambda: duties() == sorted(DutyName))
    for value in range(2 * WORKERS):
        several.request("POST", "/ingest", {"t": value}, **{"X-API-Key": device.key})
    assert len(several.server.history(device)) == 2 * WORKERS
    # One that stands still leaves who comes to the others.
    still_one = several.workers()[0]
    os.kill(still_one, signal.SIGSTOP)
    try:
        assert {several.request("GET", "/ping")["status"] for _ in range(9)} == {"OK"}
        told = several.request("GET", "/metrics", **{"X-API-Key": ADMIN_KEY})
        assert f"\nheliograph_workers_telling {WORKERS - 1}.0\n" in told
    finally:
        os.kill(still_one, signal.SIGCONT)
    assert several.server.terminate() == 0
    assert len(several.said("server started")) == 1
    assert len(several.said("server stopped")) == 1
    assert not any(map(still, again))


def test_workers_end_with_a_parent_that_is_killed(several):
    processes = several.workers()
    several.server.process.kill()
    until(lambda: not any(map(still, processes)))
    assert len(several.said("parent process gone")) == WORKERS


@pytest.mark.parametrize(
    "arguments", [("serve", "--workers", "4"), ("heliograph.app:app", "--workers", "2")]
)
def test_sqlite_refuses_workers_in_one_line_once_and_for_all(tmp_path, arguments):
    environment = {**os.environ, "APP_ENV": "test", "DATA_DIRECTORY": str(tmp_path)}
    environment |= {"MQTT_LISTEN": "", "PORT": str(free_port()), "HOST": "127.0.0.1"}
    is_uvicorn = arguments[0] != "serve"
    if is_uvicorn:
        arguments += ("--host", "127.0.0.1", "--port", str(free_port()))
    done = program.run(
        *arguments,
        module="uvicorn" if is_uvicorn else None,
        env=environment,
        cwd=tmp_path,
        timeout=SECONDS,
    )
    assert done.returncode != 0
    [line] = [line for line in done.stderr.splitlines() if "SQLite" in line]
    assert line.startswith("heliograph: DATABASE_URL: SQLite takes one process, not ")
    assert "workers" in line
    assert "Traceback" not in done.stderr


def test_the_first_worker_tells_why_none_can_start(tmp_path, postgresql_url):
    environment = {**os.environ, "APP_ENV": "test", "DATA_DIRECTORY": str(tmp_path)}
    environment |= {"DATABASE_URL": postgresql_url + "_that_is_not_there"}
    environment |= {"MQTT_LISTEN": "", "PORT": "0", "HOST": "127.0.0.1"}
    done = program.run(*("serve", "--workers", "4"), env=environment, cwd=tmp_path, timeout=SECONDS)
    assert done.returncode == 1
    assert len(re.findall("^heliograph: .*that_is_not_there", done.stderr, re.MULTILINE)) == 1


def test_what_several_workers_can_not_share_is_refused_by_name(tmp_path, postgresql_url):
    environment = {**os.environ, "APP_ENV": "test", "DATA_DIRECTORY": str(tmp_path)}
    environment |= {"DATABASE_URL": postgresql_url, "PORT": "0", "MQTT_LISTEN": ""}
    for name, value, said in (
        ("MQTT_URL", "mqtt://127.0.0.1:1", "MQTT_SHARED"),
        ("LOG_FILE", str(tmp_path / "log"), "LOG_FILE"),
    ):
        done = program.run(
            *("serve", "--workers", "2"),
            env=environment | {name: value},
            cwd=tmp_path,
            timeout=SECONDS,
        )
        assert done.returncode == 1
        assert done.stderr.startswith(f"heliograph: {said}: 2 workers")
