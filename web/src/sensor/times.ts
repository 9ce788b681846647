/** Spans of time as a sensor's page reads and asks for them. Times are seconds since 1970. */
import type { Offset } from "../chart/ticks";

/** Return a span around a window, the same while the window moves inside of it. */
export function readAround([from, to]: [number, number]): [number, number] {
  const size = 2 ** Math.ceil(Math.log2(Math.max(1, to - from)));
  const begin = Math.floor(from / size) * size;
  return [begin, begin + 2 * size];
}

/** Return a time as a field for local times has it, by the clocks of a zone. */
export function inputOf(time: number, offset: Offset): string {
  const rounded = Math.round(time);
  return new Date((rounded + offset(rounded)) * 1000).toISOString().slice(0, 19);
}

/** Return the time that such a field says. Of an hour that comes twice it is the second one. */
export function timeOf(input: string, offset: Offset): number {
  const local = Date.parse(`${input}Z`) / 1000;
  // The offset that holds then is that of a time near by, once it is corrected by it.
  return local - offset(local - offset(local));
}
