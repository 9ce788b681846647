import assert from "node:assert/strict";
import { test } from "node:test";
import type { Schemas } from "../src/api/client";
import { choiceOf, chosen } from "../src/network/chosen";
import { Rows } from "../src/network/rows";

type Sensor = Schemas["SensorRepresentation"];
const NOW = Date.parse("2026-06-01T12:00:00Z");

function sensor(name: string, members: Partial<Sensor> = {}): Sensor {
  return {
    sensor_identifier: name,
    id: name,
    revision: null,
    configuration_state: null,
    sensor_name: null,
    name,
    network_identifier: "network",
    serial_number: null,
    manufacturer: null,
    model: null,
    modality: null,
    node_id: null,
    device_id: null,
    is_active: true,
    has_key: true,
    created_at: "2026-01-01T00:00:00Z",
    last_seen_at: null,
    last_measurement_at: null,
    connected: null,
    connected_changed_at: null,
    late: null,
    expected_interval: null,
    tags: [],
    attributes: {},
    latitude: null,
    longitude: null,
    place: null,
    packing: true,
    ...members,
  };
}

function rowsOf(...sensors: Sensor[]): Rows {
  const rows = new Rows();
  rows.take(sensors, [], []);
  return rows;
}

const names = (rows: Rows, query: string) =>
  chosen(rows.all.values(), choiceOf(new URLSearchParams(query)), NOW).map(
    (row) => row.sensor.name,
  );
const configured = (configuration_state: Sensor["configuration_state"], revision = 1) => ({
  configuration_state,
  revision,
});

test("sensors are found by their words and tags, and sorted as people count", () => {
  const rows = rowsOf(
    sensor("pump 10", { place: "Bern", tags: ["roof"] }),
    sensor("pump 9", { place: "Basel" }),
    sensor("door"),
  );
  assert.deepEqual(names(rows, ""), ["door", "pump 9", "pump 10"]);
  assert.deepEqual(names(rows, "sort=-name"), ["pump 10", "pump 9", "door"]);
  assert.deepEqual(names(rows, "text=PUMP+b"), ["pump 9", "pump 10"]);
  assert.deepEqual(names(rows, "text=pump&tag=roof"), ["pump 10"]);
  assert.deepEqual(names(rows, "sort=colour&show=all"), ["door", "pump 9", "pump 10"]);
});

test("those that somebody has to look after come first", () => {
  const rows = rowsOf(
    sensor("never"),
    sensor("there", { connected: true }),
    sensor("away", { connected: false }),
    sensor("late", { expected_interval: 60, last_seen_at: "2026-06-01T11:58:00Z" }),
  );
  assert.deepEqual(names(rows, "sort=presence"), ["late", "away", "never", "there"]);
  assert.deepEqual(names(rows, "show=late"), ["late"]);
  assert.deepEqual(names(rows, "show=disconnected&sort=-name"), ["away"]);
  assert.deepEqual(names(rows, "sort=seen"), ["away", "never", "there", "late"]);
});

test("of a sensor that sends without a connection of its own nobody is told that it is not connected", () => {
  const before = { connected: false, connected_changed_at: "2026-06-01T11:00:00Z" };
  const rows = rowsOf(
    sensor("gateway", { last_seen_at: "2026-06-01T11:59:00Z" }),
    sensor("moved", { ...before, last_seen_at: "2026-06-01T11:59:00Z" }),
    sensor("away", { ...before, last_seen_at: "2026-06-01T10:59:00Z" }),
  );
  const connection = (name: string) => rows.all.get(name)?.connection;
  const tell = (kind: "presence" | "log", name: string, connected?: boolean) =>
    rows.change([{ kind, data: { sensor_identifier: name, connected } }], NOW);
  assert.deepEqual(["gateway", "moved", "away"].map(connection), [null, null, false]);
  assert.deepEqual(names(rows, "show=disconnected"), ["away"]);
  const { value } = rows.version;
  tell("log", "away");
  assert.equal(connection("away"), null);
  assert.ok(rows.version.value > value);
  tell("presence", "moved", true);
  assert.equal(connection("moved"), true);
  tell("log", "moved");
  tell("presence", "moved", false);
  assert.equal(connection("moved"), false);
});

test("configurations that have not been applied are found, and come first", () => {
  const rows = rowsOf(
    sensor("none"),
    sensor("applied", configured("acknowledged")),
    sensor("sent", configured("published")),
    sensor("waits", configured("pending")),
    sensor("refused", configured("failed")),
  );
  assert.deepEqual(names(rows, "sort=configuration"), [
    ...["refused", "waits", "sent", "applied", "none"],
  ]);
  assert.deepEqual(names(rows, "show=configuration"), ["refused", "sent", "waits"]);
});

test("events change the newest configuration's state, and never set it back", () => {
  const rows = rowsOf(sensor("pump", configured("published", 3)));
  const version = rows.version.value;
  const state = () => rows.all.get("pump")?.sensor.configuration_state;
  const tell = (kind: "configuration" | "heartbeat", data: object) =>
    rows.change([{ kind, data: { sensor_identifier: "pump", ...data } }], NOW);
  assert.equal(tell("heartbeat", { revision: 2, success: true }), false);
  assert.equal(tell("heartbeat", { revision: null, success: true }), false);
  assert.equal(state(), "published");
  assert.equal(rows.version.value, version);
  tell("heartbeat", { revision: 3, success: false });
  assert.equal(state(), "failed");
  tell("heartbeat", { revision: 3, success: true });
  tell("heartbeat", { revision: 3, success: false });
  assert.equal(state(), "acknowledged");
  assert.ok(rows.version.value > version);
  assert.equal(tell("configuration", { revision: 4, state: "pending" }), true);
  assert.equal(state(), "pending");
  tell("configuration", { revision: 3, state: "superseded" });
  assert.equal(state(), "pending");
});

test("a sensor that is not known yet has the list read again, and a server's alert does not", () => {
  const rows = rowsOf(sensor("pump"));
  const measured = { creation_timestamp: NOW / 1000, measurement: { t: 1, deep: { "a.b": 2 } } };
  const tell = (kind: "measurement" | "alert", data: object) => rows.change([{ kind, data }], NOW);
  assert.equal(tell("measurement", { sensor_identifier: "new", ...measured }), true);
  assert.equal(tell("alert", { sensor_identifier: null, state: "raised" }), false);
  assert.equal(tell("measurement", { sensor_identifier: "pump", ...measured }), false);
  const row = rows.all.get("pump");
  assert.deepEqual(row?.names(), ["deep.a\\.b", "t"]);
  // What comes late is no newest value.
  const late = { creation_timestamp: NOW / 1000 - 9, measurement: { t: 5 } };
  tell("measurement", { sensor_identifier: "pump", ...late });
  assert.equal(row?.values.get("t")?.value, 1);
});
