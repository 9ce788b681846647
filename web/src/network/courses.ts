/** Reads the courses of the rows that are seen, a few at a time, the last one asked for first. */
import { api, ask, Failure } from "../api/client";
import type { Row } from "./rows";

const AT_ONCE = 4;
const VALUES = 64;

let underWay = 0;
const wanted = new Set<Row>();

/** Read the course of a row's first number, unless it is known. Return what gives it up. */
export function wantCourse(row: Row): () => void {
  if (!row.course && courseOf(row)) {
    wanted.add(row);
    void readNext();
  }
  return () => wanted.delete(row);
}

/** The attribute whose course is shown: the first one that is a number. */
export function courseOf(row: Row): string | undefined {
  return row.names().find((name) => typeof row.values.get(name)?.value === "number");
}

async function readNext(): Promise<void> {
  const row = [...wanted].at(-1);
  if (!row || underWay >= AT_ONCE) return;
  wanted.delete(row);
  const attribute = courseOf(row);
  if (!attribute) return;
  underWay += 1;
  // What comes meanwhile is kept.
  row.course = { attribute, points: [] };
  try {
    const page = await ask(
      api.GET("/api/v1/sensors/{identifier}/measurements", {
        params: {
          path: { identifier: row.sensor.sensor_identifier },
          query: { limit: VALUES, attribute: [attribute] },
        },
      }),
    );
    // It would be text as CSV.
    if (typeof page !== "string") row.takeCourse(attribute, page);
  } catch (error) {
    // The next time that the row is seen it is tried again.
    if (!(error instanceof Failure)) throw error;
    row.course = undefined;
  } finally {
    underWay -= 1;
    void readNext();
  }
}
