"""Other programs in folders of their own: Mosquitto, and the peers InfluxDB and Node-RED."""

import http.client
import itertools
import json
import os
import shutil
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.bare_store import COLUMNS
from bench.packed_rows import readings_of
from bench.processes import Measured, free_port
from bench.requests import DATABASE, WRITE, device_id, line
from bench.starting_line import LoadError
from bench.stored_rows import StoredRows

MOSQUITTO = """
allow_anonymous true
log_type error
log_type warning
log_type notice
log_type information
log_type subscribe
persistence true
autosave_interval 1800
max_inflight_messages 0
max_queued_messages 0
max_queued_bytes 0
set_tcp_nodelay true
"""


class Mosquitto:
    """A running broker with its state in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        if program is None:
            raise LoadError("mosquitto is not installed: apt-get install mosquitto")
        self.port = free_port()
        # As root it goes on as a user of its own.
        folder.chmod(0o777)
        configuration = folder / "mosquitto.conf"
        configuration.write_text(
            f"listener {self.port} 127.0.0.1\npersistence_location {folder}/{MOSQUITTO}"
        )
        self.process = Measured([program, "-c", str(configuration)], folder / "log")
        self.process.wait_for_port(self.port)

    @property
    def url(self) -> str:
        """What MQTT_URL is set to."""
        return f"mqtt://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """End it."""
        self.process.stop()


INFLUXDB_MISSING = "influxd is not installed: apt-get install influxdb"
# As it is by default, above all `wal-fsync-delay`: each write is on the disk before its answer.
# Like the server it tells nobody about each request, and measures itself for nobody.
INFLUXDB = """
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


def influxd() -> str | None:
    """Return the path of influxd, None while it is not installed."""
    return shutil.which("influxd") or shutil.which("influxd", path="/usr/bin")


class Influxdb:
    """A running InfluxDB with its state in a folder of its own, and rows in it from before."""

    def __init__(self, folder: Path, stored: int) -> None:
        found = influxd()
        if found is None:
            raise LoadError(INFLUXDB_MISSING)
        self.stored = stored
        self.http_port = free_port()
        configuration = folder / "influxdb.conf"
        configuration.write_text(
            INFLUXDB.format(folder=folder, port=self.http_port, rpc=free_port())
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
    if rows.profile.packed:
        for time, _, values in readings_of(rows.profile, rows.start):
            fields = ",".join([f"{name}={number}" for name, number in values.items()])
            yield f"reading,device_id={device_id(1)} {fields} {time // 1_000}"
        return
    for index in range(rows.profile.rows):
        millisecond = (rows.start + index * rows.profile.step) // 1_000
        yield line(index % sensors + 1, millisecond, 15 + index * 7919 % 200 / 10)


NODERED_MISSING = "Node-RED is not installed: npm install -g node-red node-red-node-sqlite"
TOPIC = "measurements/+"
# Without the editor: nobody looks at it.
NODERED = """module.exports = {{
    uiHost: "127.0.0.1", uiPort: {port}, httpAdminRoot: false, flowFile: "flows.json",
    logging: {{console: {{level: "warn", metrics: false, audit: false}}}},
}};
"""
ROW = """
global.set("number", (global.get("number") || 0) + 1);
const item = msg.payload.measurements[0];
msg.params = {
    $sensor: Number(msg.topic.slice(-12)), $timestamp: Math.round(item.timestamp * 1e6),
    $fingerprint: global.get("number"), $receipt: Date.now() * 1000,
    $revision: item.revision, $value: JSON.stringify(item.value),
};
return msg;
"""


def node_red() -> str | None:
    """Return the path of Node-RED, None while it or its node for SQLite is not installed."""
    found = shutil.which("node-red")
    if found is None:
        return None
    beside = Path(found).resolve().parents[1] / "node-red-node-sqlite"
    return found if beside.exists() else None


def flow(database: str, broker: int) -> list[dict[str, Any]]:
    """Return the flow that people draw: from MQTT in, by a function, to SQLite."""
    places = ", ".join(f"${name}" for name in COLUMNS)
    insert = f"INSERT INTO measurement ({', '.join(COLUMNS)}) VALUES ({places})"
    server = {"broker": "127.0.0.1", "port": str(broker), "clientid": "node-red"}
    server |= {"autoConnect": True, "protocolVersion": "4", "keepalive": "60", "cleansession": True}
    taken = {"topic": TOPIC, "qos": "1", "datatype": "json", "broker": "broker", "inputs": 0}
    stored = {"mydb": "database", "sqlquery": "prepared", "sql": insert}
    return [
        {"id": "peer", "type": "tab", "label": "peer"},
        {"id": "broker", "type": "mqtt-broker", **server},
        {"id": "database", "type": "sqlitedb", "db": database, "mode": "RW"},
        {"id": "in", "type": "mqtt in", "z": "peer", **taken, "wires": [["row"]]},
        {"id": "row", "type": "function", "z": "peer", "func": ROW, "outputs": 1}
        | {"wires": [["insert"]]},
        {"id": "insert", "type": "sqlite", "z": "peer", **stored, "wires": [[]]},
    ]


def start_nodered(folder: Path, database: str, broker: int) -> Measured:
    """Return a Node-RED with its state in a folder; it has yet to subscribe."""
    found = node_red()
    if found is None:
        raise LoadError(NODERED_MISSING)
    (folder / "flows.json").write_text(json.dumps(flow(database, broker)))
    (folder / "settings.js").write_text(NODERED.format(port=free_port()))
    return Measured(
        [found, "--userDir", str(folder), "--settings", str(folder / "settings.js")],
        folder / "log",
        folder=folder,
        environment={"PATH": os.environ["PATH"], "HOME": str(folder)},
    )
