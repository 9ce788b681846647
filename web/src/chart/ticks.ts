/** Where a time axis has its marks, and what stands there: by the clocks of a time zone. */

// All in seconds since 1970, as charts have them.
const MINUTE = 60;
const HOUR = 3600;
const DAY = 86_400;
/** Lengths between marks below a month. */
const STEPS = [
  ...[1, 2, 5, 10, 15, 30],
  ...[1, 2, 5, 10, 15, 30].map((count) => count * MINUTE),
  ...[1, 2, 3, 6, 12].map((count) => count * HOUR),
  ...[1, 2, 4, 7, 14].map((count) => count * DAY),
];
const MONTH_STEPS = [1, 2, 3, 6, 12, 24, 60, 120];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun"].concat([
  "Jul",
  "Aug",
  "Sep",
  "Oct",
  "Nov",
  "Dec",
]);

/** How far a zone's clocks are ahead of UTC at a time, in seconds. */
export type Offset = (time: number) => number;

/** Return the offsets of a zone. Throws a RangeError if there is none of that name. */
export function offsetOf(timeZone: string): Offset {
  const format = Intl.DateTimeFormat("en-US", {
    timeZone,
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric",
    second: "numeric",
  });
  const known = new Map<number, number>();
  return (time) => {
    // Clocks are changed at full quarters of an hour only.
    const quarter = Math.floor(time / 900) * 900;
    let offset = known.get(quarter);
    if (offset === undefined) {
      const at: Record<string, number> = {};
      for (const { type, value } of format.formatToParts(quarter * 1000)) at[type] = Number(value);
      const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = at;
      offset = Date.UTC(year, month - 1, day, hour, minute, second) / 1000 - quarter;
      if (known.size > 10_000) known.clear();
      known.set(quarter, offset);
    }
    return offset;
  };
}

/** Return the time at which clocks first show `wall` (as if it were UTC), undefined if never. */
function timeOf(wall: number, offset: Offset): number | undefined {
  for (const near of [wall - DAY, wall + DAY]) {
    const time = wall - offset(near);
    if (time + offset(time) === wall) return time;
  }
  return undefined;
}

export interface Ticks {
  times: number[];
  labels: string[];
}

/** Return at most about `count` marks from `from` to `to`, with what stands there, in two lines. */
export function ticks(from: number, to: number, count: number, offset: Offset): Ticks {
  const least = (to - from) / Math.max(count, 1);
  const step = STEPS.find((length) => length >= least);
  const times =
    step === undefined || step > 14 * DAY
      ? monthly(from, to, least, offset)
      : step <= HOUR
        ? even(from, to, step, offset)
        : daily(from, to, step, offset);
  return { times, labels: labelled(times, step, offset) };
}

/** Marks that are evenly apart: an hour that clocks show twice has them twice. */
function even(from: number, to: number, step: number, offset: Offset): number[] {
  const times: number[] = [];
  let time = Math.ceil(from);
  while (time <= to) {
    const beyond = (((time + offset(time)) % step) + step) % step;
    if (beyond !== 0) time += step - beyond;
    else {
      times.push(time);
      time += step;
    }
  }
  return times;
}

/** Marks at the same hours of each day, or at midnights, whatever clocks are changed between. */
function daily(from: number, to: number, step: number, offset: Offset): number[] {
  const times: number[] = [];
  // Weeks begin on Mondays; 1970 began on a Thursday.
  const origin = step % (7 * DAY) === 0 ? 4 * DAY : 0;
  const first = Math.floor((from + offset(from) - origin) / step) * step + origin;
  for (let wall = first; ; wall += step) {
    const time = timeOf(wall, offset);
    if ((time ?? wall - offset(wall)) > to) return times;
    if (time !== undefined && time >= from) times.push(time);
  }
}

function monthly(from: number, to: number, least: number, offset: Offset): number[] {
  const months = least / (30.4 * DAY);
  const step = MONTH_STEPS.find((length) => length >= months) ?? Math.ceil(months / 120) * 120;
  const local = new Date((from + offset(from)) * 1000);
  const begin = local.getUTCFullYear() * 12 + local.getUTCMonth();
  const times: number[] = [];
  for (let month = Math.floor(begin / step) * step; ; month += step) {
    const wall = Date.UTC(Math.floor(month / 12), month % 12) / 1000;
    const time = timeOf(wall, offset) ?? wall - offset(wall);
    if (time > to) return times;
    if (time >= from) times.push(time);
  }
}

function labelled(times: number[], step: number | undefined, offset: Offset): string[] {
  let shown = "";
  return times.map((time) => {
    const local = new Date((time + offset(time)) * 1000);
    const two = (number: number) => String(number).padStart(2, "0");
    const day = `${local.getUTCDate()} ${MONTHS[local.getUTCMonth()]}`;
    const year = String(local.getUTCFullYear());
    let [above, below] = [day, year];
    if (step === undefined) {
      const isYears = times.every(
        (each) => new Date((each + offset(each)) * 1000).getUTCMonth() === 0,
      );
      [above, below] = isYears ? [year, ""] : [MONTHS[local.getUTCMonth()] ?? "", year];
    } else if (step < DAY) {
      const clock = `${two(local.getUTCHours())}:${two(local.getUTCMinutes())}`;
      [above, below] = [step < MINUTE ? `${clock}:${two(local.getUTCSeconds())}` : clock, day];
    }
    // The day, or the year, stands where it begins to be so.
    const isNew = below !== shown;
    shown = below;
    return isNew && below ? `${above}\n${below}` : above;
  });
}
