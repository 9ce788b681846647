/**
 * What a network's page knows of its sensors, as it was read and as events have changed it since.
 *
 * Two thousand sensors may send each second: a row is changed in place, and only what shows that
 * row hears of it.
 */
import { batch, type Signal, signal } from "@preact/signals";
import type { Schemas } from "../api/client";
import type { Event } from "../live";
import type { Sensor } from "../ui/network-head";
import { attributesOf } from "./values";

export type Alert = Schemas["AlertRepresentation"];
type Latest = Schemas["Latest"];
type Measurement = { creation_timestamp: number; measurement: unknown };

export interface Newest {
  value: unknown;
  /** Milliseconds since 1970. */
  time: number;
}

/** The course of an attribute: its last values, oldest first. */
export interface Course {
  attribute: string;
  points: [time: number, value: number][];
}

const LONGEST_COURSE = 64;

/** A sensor. What changes it raises `version`. */
export class Row {
  readonly version: Signal<number> = signal(0);
  readonly values = new Map<string, Newest>();
  readonly alerts = new Map<string, Alert>();
  course: Course | undefined;
  /** When anything came from it last, and a measurement; milliseconds, 0: never. */
  seen = 0;
  measured = 0;
  /** Whether anything has come since it was connected for the last time, and isn't any more. */
  private hasSentSince = false;

  constructor(public sensor: Sensor) {
    this.take(sensor);
  }

  /** Take what the server says of the sensor. */
  take(sensor: Sensor): void {
    this.sensor = sensor;
    this.seen = Math.max(this.seen, milliseconds(sensor.last_seen_at));
    this.measured = Math.max(this.measured, milliseconds(sensor.last_measurement_at));
    this.hasSentSince = hasSentSince(sensor);
  }

  /** Whether it is connected; null: it has no connection of its own, or sends without it. */
  get connection(): boolean | null {
    const { connected } = this.sensor;
    return connected === false && this.hasSentSince ? null : connected;
  }

  /** Take what an event says of its connection. */
  connect(connected: boolean | null): void {
    this.sensor = { ...this.sensor, connected };
    this.hasSentSince = false;
  }

  /** Note that something came from it. Return whether that says that it needs no connection. */
  see(now: number): boolean {
    const before = this.connection;
    this.seen = now;
    this.hasSentSince = true;
    return this.connection !== before;
  }

  /** Whether it is silent for longer than is expected of it; the server counts alike. */
  isLate(now: number): boolean {
    const { expected_interval: interval, is_active: isActive, created_at } = this.sensor;
    if (interval === null || !isActive) return false;
    return now - (this.seen || milliseconds(created_at)) > interval * 1000;
  }

  /** Take what an event says of its newest revision. Return whether that is new. */
  configure(revision: number, state: Sensor["configuration_state"]): boolean {
    const { sensor } = this;
    if (revision < (sensor.revision ?? 0)) return false;
    if (revision === sensor.revision && state === sensor.configuration_state) return false;
    this.sensor = { ...sensor, revision, configuration_state: state };
    return true;
  }

  /** Take what the device says of its newest revision. Return whether that is new. */
  answer({ revision, success }: { revision: number | null; success: boolean }): boolean {
    const { sensor } = this;
    const isOpen = sensor.configuration_state !== "acknowledged";
    if (revision === null || revision !== sensor.revision || !isOpen) return false;
    return this.configure(revision, success ? "acknowledged" : "failed");
  }

  /** The names of its attributes: those with a label first, in their order, then by name. */
  names(): string[] {
    const labelled = Object.keys(this.sensor.attributes).filter((name) => this.values.has(name));
    const others = [...this.values.keys()].filter((name) => !(name in this.sensor.attributes));
    return [...labelled, ...others.sort()];
  }

  /** Take a measurement that was stored just now. */
  measure({ creation_timestamp, measurement }: Measurement): void {
    const time = creation_timestamp * 1000;
    for (const [name, value] of attributesOf(measurement)) {
      const before = this.values.get(name);
      // What comes late is no newest value.
      if (before && before.time > time) continue;
      this.values.set(name, { value, time });
      if (this.course?.attribute === name) extend(this.course, time, value);
    }
  }

  /** Take the course that was read; what has come since stays. */
  takeCourse(attribute: string, measurements: Measurement[]): void {
    const since = this.course?.attribute === attribute ? this.course.points : [];
    const course: Course = { attribute, points: [] };
    for (const { creation_timestamp, measurement } of measurements) {
      const found = attributesOf(measurement).find(([name]) => name === attribute);
      if (found) extend(course, creation_timestamp * 1000, found[1]);
    }
    for (const [time, value] of since) extend(course, time, value);
    this.course = course;
    this.version.value += 1;
  }
}

/** What people call an attribute of a sensor. */
export function labelOf({ sensor }: Row, attribute: string): string {
  return sensor.attributes[attribute]?.display_name ?? attribute;
}

/** Whether a sensor was seen since its connection ended: it sends through a gateway, or over HTTP. */
export function hasSentSince(sensor: Sensor): boolean {
  return milliseconds(sensor.last_seen_at) > milliseconds(sensor.connected_changed_at);
}

function extend({ points }: Course, time: number, value: unknown): void {
  const last = points.at(-1);
  if (typeof value !== "number" || (last && last[0] >= time)) return;
  points.push([time, value]);
  if (points.length > LONGEST_COURSE) points.shift();
}

function milliseconds(time: string | null | undefined): number {
  return time ? new Date(time).getTime() : 0;
}

/** All rows of a network. `version` rises when others may have to be shown, or in another order. */
export class Rows {
  readonly version: Signal<number> = signal(0);
  readonly all = new Map<string, Row>();

  /** Take what was read. Rows that are there stay, with what events have told. */
  take(sensors: Sensor[], latest: Latest[], alerts: Alert[]): void {
    batch(() => {
      const gone = new Set(this.all.keys());
      for (const sensor of sensors) {
        const row = this.all.get(sensor.sensor_identifier);
        gone.delete(sensor.sensor_identifier);
        if (row) row.take(sensor);
        else this.all.set(sensor.sensor_identifier, new Row(sensor));
      }
      for (const identifier of gone) this.all.delete(identifier);
      for (const { sensor_identifier, attributes } of latest) {
        const row = this.all.get(sensor_identifier);
        for (const [name, { value, timestamp }] of Object.entries(attributes)) {
          const time = milliseconds(timestamp);
          const before = row?.values.get(name);
          if (!before || before.time <= time) row?.values.set(name, { value, time });
        }
      }
      for (const row of this.all.values()) {
        row.alerts.clear();
        row.version.value += 1;
      }
      for (const alert of alerts) {
        this.all.get(alert.sensor_identifier ?? "")?.alerts.set(alert.id, alert);
      }
      this.version.value += 1;
    });
  }

  /** Take events. Return whether more has to be read: there are other sensors, or newer states. */
  change(events: Event[], now: number): boolean {
    let isMore = false;
    batch(() => {
      let isOther = false;
      const changed = new Set<Row>();
      for (const { kind, data } of events) {
        const row = this.all.get(data.sensor_identifier);
        if (!row) {
          // Of the server's own alerts there is no sensor.
          isMore ||= Boolean(data.sensor_identifier) && kind !== "alert";
          continue;
        }
        changed.add(row);
        if (kind === "alert") {
          if (data.state === "cleared") row.alerts.delete(data.id);
          else row.alerts.set(data.id, data);
          isOther = true;
        } else if (kind === "presence") {
          row.connect(data.connected);
          isOther = true;
        } else if (kind === "configuration") {
          // No event says when it has been published.
          isMore = true;
          isOther = row.configure(data.revision, data.state) || isOther;
        } else {
          isOther = row.see(now) || isOther;
          if (kind === "heartbeat") isOther = row.answer(data) || isOther;
          if (kind === "measurement") {
            row.measured = now;
            row.measure(data);
          }
        }
      }
      for (const row of changed) row.version.value += 1;
      if (isOther) this.version.value += 1;
    });
    return isMore;
  }
}
