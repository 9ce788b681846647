/** How much a sensor measured on each of the last days. Times are seconds since 1970. */
import type { Offset } from "../chart/ticks";

export const DAYS = 28;
const DAY = 86_400;
/** A day has so many parts, of four hours by the clocks of the zone. */
export const PARTS = 6;
const PART = DAY / PARTS;

export interface Day {
  start: number;
  end: number;
  /** How many values came in each part. */
  counts: number[];
  total: number;
}

/**
 * Return the last days, the oldest first, by the clocks of a zone. A measurement has several
 * attributes: what counts is the one with most values.
 */
export function daysOf(
  series: { start: string; count?: number | null }[][],
  now: number,
  offset: Offset,
): Day[] {
  const local = (time: number) => time + offset(time);
  const utc = (time: number) => time - offset(time - offset(time));
  const first = Math.floor(local(now) / DAY) - DAYS + 1;
  const counts = Array.from({ length: DAYS * PARTS }, () => 0);
  for (const buckets of series) {
    for (const { start, count } of buckets) {
      const at = Math.floor((local(Date.parse(start) / 1000) - first * DAY) / PART);
      if (at >= 0 && at < counts.length) counts[at] = Math.max(counts[at] ?? 0, count ?? 0);
    }
  }
  return Array.from({ length: DAYS }, (_, index) => {
    const own = counts.slice(index * PARTS, (index + 1) * PARTS);
    return {
      start: utc((first + index) * DAY),
      end: utc((first + index + 1) * DAY),
      counts: own,
      total: own.reduce((sum, count) => sum + count, 0),
    };
  });
}

/** Return how much a part is of the most: 0 for nothing, else 1 to 4. */
export function levelOf(count: number, most: number): number {
  return count === 0 ? 0 : Math.max(1, Math.ceil((count / most) * 4));
}
