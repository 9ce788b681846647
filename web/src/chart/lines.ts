/** The lines that are shown: read for a window, and extended by what comes. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { api, askWhole, Failure } from "../api/client";
import { epoch } from "../connection";
import { useEvents } from "../live";
import { useOpening } from "../load";
import {
  broken,
  bucketFor,
  extended,
  from,
  type Line,
  NO_LINE,
  numberOf,
  POINTS,
  valueAt,
} from "./series";

/** An attribute of a sensor. */
export interface Wanted {
  sensor: string;
  attribute: string;
  /** In seconds; what is further apart is broken. */
  expected: number | null | undefined;
}

export const keyOf = (wanted: Wanted) => `${wanted.sensor} ${wanted.attribute}`;

/** Return what is to be drawn of an attribute in a window. Throws a `Failure`. */
export async function readLine(
  wanted: Wanted,
  [begin, end]: [number, number],
  width: number,
  zone: string,
  signal: AbortSignal,
): Promise<Line> {
  const path = { identifier: wanted.sensor };
  // A point on each side, so that lines go on to the edge.
  const margin = (end - begin) / 50;
  const [start, stop] = [Math.max(0, begin - margin), end + margin];
  const bucket = bucketFor(stop - start, width);
  if (bucket) {
    const [name, length] = bucket;
    const query = {
      ...{ attribute: [wanted.attribute], bucket: name, tz: zone, start, end: stop },
      function: ["avg", "min", "max", "count"] as ("avg" | "min" | "max" | "count")[],
    };
    const { found, isDamaged } = await askWhole(
      api.GET("/api/v1/sensors/{identifier}/aggregates", { params: { path, query }, signal }),
    );
    const buckets = found[wanted.attribute] ?? [];
    const counts = buckets.map((each) => each.count ?? 0);
    // What is rare is shown as it is.
    if (counts.reduce((sum, count) => sum + count, 0) > POINTS) {
      return {
        times: buckets.map((each) => Date.parse(each.start) / 1000),
        values: buckets.map((each) => each.avg ?? null),
        low: buckets.map((each) => each.min ?? null),
        high: buckets.map((each) => each.max ?? null),
        counts,
        length,
        isWhole: true,
        isDamaged,
      };
    }
  }
  const query = { attribute: [wanted.attribute], points: POINTS, start, end: stop };
  const { found: rows, isDamaged } = await askWhole(
    api.GET("/api/v1/sensors/{identifier}/measurements", { params: { path, query }, signal }),
  );
  const line: Line = { times: [], values: [], isWhole: rows.length < POINTS, isDamaged };
  for (const row of rows) {
    const value = numberOf(valueAt(row.measurement, wanted.attribute));
    // uPlot takes rising times only.
    if (value === undefined || row.creation_timestamp === line.times.at(-1)) continue;
    line.times.push(row.creation_timestamp);
    line.values.push(value);
  }
  return line;
}

export interface Lines {
  /** By key; broken where there are gaps. */
  lines: ReadonlyMap<string, Line>;
  isReading: boolean;
  failure: Failure | undefined;
}

/** Read lines when the window is another one, and extend them as measurements come. */
export function useLines(
  wanted: Wanted[],
  window: [number, number] | undefined,
  options: { isFollowing: boolean; width: number; zone: string },
): Lines {
  const { isFollowing, width, zone } = options;
  const raw = useRef(new Map<string, Line>());
  const [state, setState] = useState<Lines>({
    lines: new Map(),
    isReading: true,
    failure: undefined,
  });
  // While it follows it reads again when much has moved out, and not with each second.
  const read = useRef<{ window: [number, number]; key: string } | undefined>(undefined);
  const [opening, noted] = useOpening();
  const known = [epoch.value, opening];
  const key = JSON.stringify([wanted, isFollowing, Math.ceil(width / 200), zone, known]);
  const isRead =
    window !== undefined &&
    read.current?.key === key &&
    (isFollowing
      ? near(read.current.window, window)
      : read.current.window[0] === window[0] && read.current.window[1] === window[1]);
  const turn = useRef(0);
  if (window && !isRead) {
    read.current = { window, key };
    turn.current++;
  }

  const show = useCallback(() => {
    const lines = new Map<string, Line>();
    for (const each of wanted) {
      const line = raw.current.get(keyOf(each));
      if (line) lines.set(keyOf(each), broken(line, each.expected));
    }
    setState((old) => ({ ...old, lines }));
  }, [key]);

  useEffect(() => {
    if (!window || width === 0) return;
    const ending = new AbortController();
    setState((old) => ({ ...old, isReading: true }));
    const later: [string, number, number][] = [];
    arrived.current = later;
    Promise.all(
      wanted.map((each) =>
        readLine(each, window, width, zone, ending.signal).catch((error: unknown) => {
          // Another sensor has no such attribute.
          if (error instanceof Failure && error.code === "ATTRIBUTE_NOT_FOUND") return NO_LINE;
          throw error;
        }),
      ),
    ).then(
      (found) => {
        if (ending.signal.aborted) return;
        noted();
        raw.current = new Map(wanted.map((each, index) => [keyOf(each), found[index] ?? NO_LINE]));
        for (const event of later) extend(raw.current, event);
        arrived.current = undefined;
        setState((old) => ({ ...old, isReading: false, failure: undefined }));
        show();
      },
      (error: unknown) => {
        if (ending.signal.aborted) return;
        if (!(error instanceof Failure)) throw error;
        setState((old) => ({ ...old, isReading: false, failure: error }));
      },
    );
    return () => ending.abort();
  }, [turn.current, width === 0]);

  const arrived = useRef<[string, number, number][] | undefined>(undefined);
  const end = isFollowing ? Number.POSITIVE_INFINITY : (window?.[1] ?? 0);
  const begin = window?.[0] ?? 0;
  useEvents(
    ["measurement"],
    useCallback(
      (events) => {
        let isChanged = false;
        for (const { data } of events) {
          for (const each of wanted) {
            if (each.sensor !== data.sensor_identifier) continue;
            const value = numberOf(valueAt(data.measurement, each.attribute));
            const time = Number(data.creation_timestamp);
            if (value === undefined || time > end || time < begin) continue;
            const event: [string, number, number] = [keyOf(each), time, value];
            arrived.current?.push(event);
            isChanged = extend(raw.current, event) || isChanged;
          }
        }
        if (!isChanged) return;
        if (isFollowing) {
          for (const [name, line] of raw.current) raw.current.set(name, from(line, begin));
        }
        show();
      },
      [show, begin, end],
    ),
  );
  return state;
}

function extend(lines: Map<string, Line>, [key, time, value]: [string, number, number]): boolean {
  const line = lines.get(key);
  const longer = line && extended(line, time, value);
  if (!longer || longer === line) return false;
  lines.set(key, longer);
  return true;
}

/** Whether what was read for one window still serves another one that has moved on. */
function near(read: [number, number], window: [number, number]): boolean {
  const span = read[1] - read[0];
  return (
    Math.abs(window[1] - window[0] - span) < span / 10 && Math.abs(window[1] - read[1]) < span / 4
  );
}
