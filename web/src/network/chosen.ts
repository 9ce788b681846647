/** Which sensors are shown, and in which order, as the page's URL says it. */
import { nameOf } from "./name";
import type { Row } from "./rows";

export interface Choice {
  text: string;
  tag: string;
  /** "": all */
  presence: "" | (typeof PRESENCES)[number];
  sort: Sort;
  isDescending: boolean;
}

const PRESENCES = ["connected", "disconnected", "late", "alert", "configuration"] as const;
const SORTS = ["name", "seen", "alerts", "presence", "configuration"] as const;
export type Sort = (typeof SORTS)[number];

export function choiceOf(query: URLSearchParams): Choice {
  const sort = query.get("sort") ?? "";
  const isDescending = sort.startsWith("-");
  const presence = query.get("show");
  return {
    text: query.get("text") ?? "",
    tag: query.get("tag") ?? "",
    presence: PRESENCES.find((name) => name === presence) ?? "",
    sort: SORTS.find((name) => name === sort.replace("-", "")) ?? "name",
    isDescending,
  };
}

/** Whether time alone may change what is shown. */
export function isOfTime({ presence, sort }: Choice): boolean {
  return presence === "late" || sort === "seen" || sort === "presence";
}

/** Return the rows that are wanted, in the order that is wanted. */
export function chosen(rows: Iterable<Row>, choice: Choice, now: number): Row[] {
  const words = choice.text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = [...rows].filter(
    (row) =>
      (!choice.tag || row.sensor.tags.includes(choice.tag)) &&
      isPresent(row, choice.presence, now) &&
      hasAll(row, words),
  );
  const direction = choice.isDescending ? -1 : 1;
  const key = KEYS[choice.sort];
  return found.sort(
    (one, other) => direction * (key(one, now) - key(other, now)) || direction * byName(one, other),
  );
}

function isPresent(row: Row, presence: Choice["presence"], now: number): boolean {
  switch (presence) {
    case "connected":
      return row.connection === true;
    case "disconnected":
      return row.connection === false;
    case "late":
      return row.isLate(now);
    case "alert":
      return row.alerts.size > 0;
    case "configuration":
      return isUnapplied(row);
    default:
      return true;
  }
}

/** Whether the newest configuration has not been applied, or not yet. */
function isUnapplied({ sensor: { configuration_state: state } }: Row): boolean {
  return state !== null && state !== "acknowledged";
}

function hasAll({ sensor }: Row, words: string[]): boolean {
  if (words.length === 0) return true;
  const texts = [
    ...[sensor.name, sensor.sensor_name, sensor.device_id, sensor.sensor_identifier],
    ...[sensor.serial_number, sensor.manufacturer, sensor.model, sensor.modality, sensor.place],
    ...sensor.tags,
  ];
  const text = texts.join("\n").toLowerCase();
  return words.every((word) => text.includes(word));
}

const STATES = ["failed", "pending", "published", "acknowledged"];
const SEVERITIES = ["info", "warning", "critical"];

/** What rows are sorted by: at first what needs somebody most. */
const KEYS: Record<Sort, (row: Row, now: number) => number> = {
  name: () => 0,
  seen: (row) => row.seen,
  alerts: (row) => -worst(row) * 1000 - row.alerts.size,
  presence: (row, now) =>
    row.isLate(now) ? 0 : row.connection === false ? 1 : row.connection ? 3 : 2,
  configuration: ({ sensor: { configuration_state: state } }) =>
    state === null ? STATES.length : STATES.indexOf(state),
};

/** How bad the worst of a sensor's open alerts is: 0 without one, to 3. */
export function worst(row: Row): number {
  let found = 0;
  for (const { severity } of row.alerts.values()) {
    found = Math.max(found, SEVERITIES.indexOf(severity) + 1);
  }
  return found;
}

const names = new Intl.Collator("en", { numeric: true });
const byName = (one: Row, other: Row) => names.compare(nameOf(one.sensor), nameOf(other.sensor));
