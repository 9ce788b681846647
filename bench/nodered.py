"""A private Node-RED whose flow inserts what a Mosquitto brings it into the bare SQLite table."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from bench.bare_store import COLUMNS
from bench.processes import Measured, free_port
from bench.starting_line import LoadError

MISSING = "Node-RED is not installed: npm install -g node-red node-red-node-sqlite"
TOPIC = "measurements/+"
# Without the editor: nobody looks at it.
SETTINGS = """module.exports = {{
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


def program() -> str | None:
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
    return [
        {"id": "peer", "type": "tab", "label": "peer"},
        {
            "id": "broker",
            "type": "mqtt-broker",
            "broker": "127.0.0.1",
            "port": str(broker),
            "clientid": "node-red",
            "autoConnect": True,
            "protocolVersion": "4",
            "keepalive": "60",
            "cleansession": True,
        },
        {"id": "database", "type": "sqlitedb", "db": database, "mode": "RW"},
        {
            "id": "in",
            "type": "mqtt in",
            "z": "peer",
            "topic": TOPIC,
            "qos": "1",
            "datatype": "json",
            "broker": "broker",
            "inputs": 0,
            "wires": [["row"]],
        },
        {
            "id": "row",
            "type": "function",
            "z": "peer",
            "func": ROW,
            "outputs": 1,
            "wires": [["insert"]],
        },
        {
            "id": "insert",
            "type": "sqlite",
            "z": "peer",
            "mydb": "database",
            "sqlquery": "prepared",
            "sql": insert,
            "wires": [[]],
        },
    ]


def started(folder: Path, database: str, broker: int) -> Measured:
    """Return a Node-RED with its state in a folder; it has yet to subscribe."""
    found = program()
    if found is None:
        raise LoadError(MISSING)
    (folder / "flows.json").write_text(json.dumps(flow(database, broker)))
    (folder / "settings.js").write_text(SETTINGS.format(port=free_port()))
    return Measured(
        [found, "--userDir", str(folder), "--settings", str(folder / "settings.js")],
        folder / "log",
        folder=folder,
        environment={"PATH": os.environ["PATH"], "HOME": str(folder)},
    )
