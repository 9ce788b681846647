"""The guide to deployment, pasted block by block, by somebody with PostgreSQL and Redis.

What needs a machine of its own is stood in for: folders of the system are folders here, ports are
free ones, and systemd, sudo and the package managers are scripts that do what the guide has them do
for the server. The units themselves are tried in `integration/test_deploy_systemd.py`.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis

from ports import free_port
from postgresql import PROGRAMS, Cluster, running_cluster
from redis_server import RedisServer
from server import PROGRAM, START_SECONDS, STOP_SECONDS

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND_SECONDS = 120

STAND_INS = {
    # As one user: whose files they are is not tried.
    "sudo": 'if [ "$1" = -u ]; then shift 2; fi; exec "$@"',
    "install": """given=()
while (($#)); do case $1 in -g | -o) shift 2 ;; *) given+=("$1"); shift ;; esac; done
exec /usr/bin/install "${given[@]}" """,
    **dict.fromkeys(("apt", "dnf", "useradd", "restorecon", "firewall-cmd", "pip"), "exit 0"),
    "python-here": """[ "$1 $2" = "-m venv" ] || exit 2
mkdir -p "$3/bin" && ln -sf "$HELIOGRAPH" "$3/bin/heliograph" && ln -sf "$BIN/pip" "$3/bin/pip" """,
    "hostname": "echo localhost",
    "curl": 'exec /usr/bin/curl --silent --show-error --fail --cacert "$ETC/fullchain.pem" "$@"',
    # A command with the settings of a service.
    "systemd-run": """settings=()
while [[ $1 == --* ]]; do
  case $1 in
    --property=EnvironmentFile=*)
      while IFS= read -r line; do settings+=("$line"); done <"${1##*=}" ;;
    --setenv=*) settings+=("${1#--setenv=}") ;;
    --working-directory=*) cd "${1#*=}" ;;
  esac
  shift
done
exec env -i PATH="$PATH" "${settings[@]}" "$@" """,
    # The unit as the guide installs it; it is ready when the command returns.
    "systemctl": """[ -e "$UNITS/heliograph.service" ] || exit 5
stop() { [ -e "$STATE/pid" ] || return 0; kill "$(cat "$STATE/pid")"
  while kill -0 "$(cat "$STATE/pid")" 2>/dev/null; do sleep 0.05; done; rm "$STATE/pid"; }
case "$*" in
  daemon-reload) exit 0 ;;
  "stop heliograph") stop; exit 0 ;;
  "restart heliograph") stop ;;
  "enable --now heliograph" | "enable --now heliograph.socket heliograph") ;;
  *) exit 2 ;;
esac
settings=()
for each in $(sed -n 's/^Environment=//p' "$UNITS/heliograph.service"); do
  settings+=("--setenv=$each")
done
program=$(sed -n 's/^ExecStart=//p' "$UNITS/heliograph.service")
setsid systemd-run --property=EnvironmentFile="$ETC/heliograph.env" --working-directory="$STATE" \\
  "${settings[@]}" $program >>"$STATE/log" 2>&1 &
echo $! >"$STATE/pid"
until /usr/bin/curl -sfo "$STATE/ready" "http://127.0.0.1:$HTTP_PORT/readyz"; do
  kill -0 "$(cat "$STATE/pid")" || { cat "$STATE/log" >&2; exit 1; }
  sleep 0.05
done""",
}


class Machine:
    """A folder that stands for a machine, and a shell in which blocks are pasted."""

    def __init__(self, folder: Path, cluster: Cluster, redis_server: RedisServer) -> None:
        self.folder = folder
        self.cluster = cluster
        self.redis = redis_server
        self.ports = {name: free_port() for name in ("8443", "8883", "1883", "8000")}
        self.words = {
            "/etc/systemd/system": f"{folder}/units",
            "/etc/heliograph": f"{folder}/etc",
            "/opt/heliograph": f"{folder}/opt",
            "/var/lib/heliograph": f"{folder}/state",
            "@localhost/heliograph": f"@127.0.0.1:{cluster.port}/heliograph",
            "localhost:6379": f"127.0.0.1:{redis_server.port}",
            "PYTHON=python3.13": "PYTHON=python-here",
            "PYTHON=python3": "PYTHON=python-here",
            # No secret of this test is the guide's own.
            "openssl req": "openssl req -batch",
            **{name: str(port) for name, port in self.ports.items()},
        }
        for name in ("units", "state", "bin"):
            (folder / name).mkdir()
        for name, text in STAND_INS.items():
            script = folder / "bin" / name
            script.write_text(f"#!/usr/bin/env bash\nset -eu\n{self.here(text)}\n")
            script.chmod(0o755)
        # A checkout, in which everything is typed; its units name folders of this machine.
        shutil.copytree(ROOT / "deploy", folder / "checkout/deploy")
        for unit in (folder / "checkout/deploy/systemd").iterdir():
            unit.write_text(self.here(unit.read_text()))
        self.environment = {
            "PATH": f"{folder}/bin:{PROGRAMS}:{Path(PROGRAM).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "BIN": f"{folder}/bin",
            "ETC": f"{folder}/etc",
            "STATE": f"{folder}/state",
            "UNITS": f"{folder}/units",
            "HELIOGRAPH": PROGRAM,
            "HTTP_PORT": str(self.ports["8000"]),
            "PGHOST": "127.0.0.1",
            "PGPORT": str(cluster.port),
            "PGUSER": "postgres",
        }
        self.shell = ""

    def here(self, text: str) -> str:
        """Return a text of the guide for this machine."""
        for word, other in self.words.items():
            text = text.replace(word, other)
        return text

    def paste(self, block: str, *, typed: str = "") -> str:
        """Run a block in the shell that has run those before, and return what it prints."""
        block = self.here(block)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{self.shell}\n{block}"],
            env=self.environment,
            cwd=self.folder / "checkout",
            input=typed,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        # What later blocks of the same shell have of it.
        self.shell += "".join(
            re.findall(r"^PYTHON=\S+\n|^\w+\(\) \{\n.*?^\}\n", block, re.MULTILINE | re.DOTALL)
        )
        return done.stdout

    @contextlib.contextmanager
    def serving(self, block: str) -> Iterator[None]:
        """Run a block that serves until it is ended, with the settings of the service."""
        settings = (self.folder / "etc/heliograph.env").read_text().splitlines()
        log = self.folder / "state/log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                ["bash", "-euc", self.here(block)],
                env={**self.environment, **dict(line.split("=", 1) for line in settings)},
                cwd=self.folder / "state",
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not self.is_ready():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(STOP_SECONDS)

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self.get("/readyz").status_code == 200
        return False

    def wait_for_workers(self, count: int) -> None:
        """Return when one tells of all others, each of which has a number of its own."""
        _wait_until(lambda: len(self.get("/readyz").json()["instance"]["others"]) == count - 1)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.ports['8000']}{path}", timeout=30)

    def stop(self) -> None:
        """End the service if it runs."""
        pid = self.folder / "state/pid"
        if pid.exists():
            self.paste("systemctl stop heliograph")


def _wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def machine(tmp_path):
    if PROGRAMS is None:
        pytest.fail("PostgreSQL is missing: ./scripts/setup --with-services")
    with running_cluster() as cluster, RedisServer() as redis_server:
        rules = cluster.data / "pg_hba.conf"
        rules.write_text(f"host all heliograph 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        cluster.execute("SELECT pg_reload_conf()")
        here = Machine(tmp_path, cluster, redis_server)
        try:
            yield here
        finally:
            here.stop()


def blocks(page: str) -> list[str]:
    """Return a page's blocks of shell; those of containers are for `test_image.py`."""
    text = (ROOT / "docs/guide" / page).read_text()
    return FENCE.findall(text.partition("\n## Containers\n")[0])


def test_a_server_on_postgresql_is_installed_restarted_and_upgraded_as_printed(machine):
    accounts, *_ = blocks("operations.md")
    machine.paste(accounts, typed="PASSWORD\nPASSWORD\n")
    key = ""
    for block in blocks("deployment.md"):
        if "serve --workers" in block:
            machine.stop()
            with machine.serving(block):
                machine.wait_for_workers(4)
                if "RATE_LIMIT_STORAGE" in block:
                    client = redis.Redis(port=machine.redis.port)
                    # Of each worker, and this one.
                    _wait_until(lambda client=client: len(client.client_list()) > 4)
                    assert machine.get("/readyz").json()["warnings"] == []
            continue
        printed = machine.paste(block)
        if "useradd" in block:
            # The guide's own ports are the defaults.
            settings = machine.folder / "etc/heliograph.env"
            settings.write_text(f"PORT={machine.ports['8000']}\n{settings.read_text()}")
        if "device create" in block:
            [key] = re.findall(r"^api_key +(\S+)$", printed, re.MULTILINE)
            url = f"https://localhost:{machine.ports['8443']}/ingest"
            machine.paste(f"""curl -H 'X-API-Key: {key}' -d '{{"value": 1}}' \\
  -H 'Content-Type: application/json' {url}""")
    # What was sent first is there after all that, and the key holds.
    machine.paste(f"""curl -H 'X-API-Key: {key}' -d '{{"value": 2}}' \\
  -H 'Content-Type: application/json' {url}""")
    assert machine.cluster.execute("SELECT count(*) FROM measurement", "heliograph") == "2"
    assert (machine.folder / "units/heliograph.socket").exists()
