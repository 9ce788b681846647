"""A private InfluxDB 1.x, as Debian packages it, that holds a profile's rows."""

import http.client
import itertools
import json
import os
import shutil
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from bench.processes import Measured, free_port
from bench.requests import DATABASE, WRITE, line
from bench.starting_line import LoadError
from bench.stored_rows import StoredRows

MISSING = "influxd is not installed: apt-get install influxdb"
# As it is by default, above all `wal-fsync-delay`: each write is on the disk before its answer.
# Like the server it tells nobody about each request, and measures itself for nobody.
CONFIGURATION = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
[monitor]
  store-enabled = false
[logging]
  level = "warn"
"""
LINES_A_REQUEST = 10_000
TIMEOUT = 60.0


def program() -> str | None:
    """Return the path of influxd, None while it is not installed."""
    return shutil.which("influxd") or shutil.which("influxd", path="/usr/bin")


class Influxdb:
    """A running InfluxDB with its state in a folder of its own, and rows in it from before."""

    def __init__(self, folder: Path, stored: int) -> None:
        found = program()
        if found is None:
            raise LoadError(MISSING)
        self.stored = stored
        self.http_port = free_port()
        configuration = folder / "influxdb.conf"
        configuration.write_text(
            CONFIGURATION.format(folder=folder, port=self.http_port, rpc=free_port())
        )
        self.process = Measured(
            [found, "run", "-config", str(configuration)],
            folder / "log",
            folder=folder,
            environment={"PATH": os.defpath, "HOME": str(folder)},
        )
        self.process.wait_until_ready(f"http://127.0.0.1:{self.http_port}/query?q=SHOW+DATABASES")

    def fill(self, rows: StoredRows) -> None:
        """Store a profile's rows."""
        self._ask("POST", "/query?" + urllib.parse.urlencode({"q": f"CREATE DATABASE {DATABASE}"}))
        found = lines(rows)
        while batch := list(itertools.islice(found, LINES_A_REQUEST)):
            self._ask("POST", WRITE, "\n".join(batch))

    def count(self) -> int:
        """Return the readings that a query finds now."""
        query = {"db": DATABASE, "q": "SELECT count(temperature) FROM reading"}
        (found,) = json.loads(self._ask("GET", "/query?" + urllib.parse.urlencode(query)))[
            "results"
        ]
        return int(found["series"][0]["values"][0][1]) if "series" in found else 0

    def expect(self, sent: int) -> None:
        """Raise unless exactly the readings sent are found beside those stored before."""
        found = self.count() - self.stored
        if found != sent:
            raise LoadError(f"{sent} readings were acknowledged, {found} are stored (InfluxDB)")

    def _ask(self, method: str, path: str, body: str | None = None) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=TIMEOUT)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status >= 300 or '"error"' in text:
            raise LoadError(f"InfluxDB answered {answer.status} to {method} {path}: {text[:400]}")
        return text

    def close(self) -> None:
        """End it."""
        self.process.stop()


def lines(rows: StoredRows) -> Iterator[str]:
    """Yield the profile's rows as the line protocol has them."""
    sensors = rows.profile.sensors
    for index in range(rows.profile.rows):
        millisecond = (rows.start + index * rows.profile.step) // 1_000
        yield line(index % sensors + 1, millisecond, 15 + index * 7919 % 200 / 10)
