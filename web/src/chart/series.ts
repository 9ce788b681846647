/** What a line is drawn of: points, or buckets with their minimum, average and maximum. */

export interface Line {
  /** Seconds since 1970, rising. */
  times: number[];
  /** Values, or the averages of buckets; null where the line is broken. */
  values: (number | null)[];
  /** Of buckets the minima and maxima, as long as `values`; of points none. */
  low?: (number | null)[];
  high?: (number | null)[];
  /** Of buckets how many values each counts. */
  counts?: number[];
  /** How long a bucket is, in seconds. */
  length?: number;
  /** Points are all that there are, and not a selection. */
  isWhole: boolean;
  /** Damaged chunks are missing from it. */
  isDamaged?: boolean;
}

export const NO_LINE: Line = { times: [], values: [], isWhole: true };

/** As many points of one line as are drawn. */
export const POINTS = 2000;
/** Beyond this length buckets are asked for: reading every value would take too long. */
const LONGEST_POINTS_SECONDS = 6 * 3600;

const BUCKETS: [string, number][] = [
  ["30s", 30],
  ["1m", 60],
  ["2m", 120],
  ["5m", 300],
  ["10m", 600],
  ["15m", 900],
  ["30m", 1800],
  ["1h", 3600],
  ["2h", 7200],
  ["3h", 10_800],
  ["6h", 21_600],
  ["12h", 43_200],
  ["1d", 86_400],
  ["1w", 604_800],
  ["1mo", 2_629_800],
];

/** Return the bucket for a window so many pixels wide, with its seconds; undefined: points. */
export function bucketFor(seconds: number, width: number): [string, number] | undefined {
  if (seconds <= LONGEST_POINTS_SECONDS) return undefined;
  const most = Math.min(Math.max(width, 200), 1000);
  return BUCKETS.find(([, length]) => seconds / length <= most) ?? BUCKETS.at(-1);
}

/** Return the number that a chart shows of a value: booleans are 0 and 1. */
export function numberOf(value: unknown): number | undefined {
  if (typeof value === "boolean") return Number(value);
  return typeof value === "number" ? value : undefined;
}

/** Return an attribute of a measurement, by its name as the server writes it. */
export function valueAt(measurement: unknown, name: string): unknown {
  const isObject = typeof measurement === "object" && measurement !== null;
  if (!isObject || Array.isArray(measurement)) return name === "value" ? measurement : undefined;
  let found: unknown = measurement;
  for (const key of keysOf(name)) {
    if (typeof found !== "object" || found === null || Array.isArray(found)) return undefined;
    found = Object.hasOwn(found, key) ? (found as Record<string, unknown>)[key] : undefined;
  }
  return found;
}

/** Return the keys of a dotted path, in which a backslash takes its meaning from what follows. */
function keysOf(name: string): string[] {
  const keys = [""];
  for (let at = 0; at < name.length; at++) {
    const sign = name[at] ?? "";
    if (sign === ".") keys.push("");
    else keys[keys.length - 1] += sign === "\\" ? (name[++at] ?? "") : sign;
  }
  return keys;
}

/** Return a line with an empty point in each gap: where it is far longer than usual to the next. */
export function broken(line: Line, expected: number | null | undefined): Line {
  const { times } = line;
  if (times.length < 3) return line;
  const apart = times.slice(1).map((time, index) => time - (times[index] ?? time));
  const usual = [...apart].sort((a, b) => a - b)[Math.floor(apart.length * 0.9)] ?? 0;
  const longest = line.length
    ? 1.6 * Math.max(usual, line.length)
    : 3 * Math.max(usual, expected ?? 0);
  const gaps = apart.flatMap((length, index) => (length > longest && length > 0 ? [index] : []));
  if (gaps.length === 0) return line;
  const insert = <T>(list: T[], made: (index: number) => T): T[] => {
    const found: T[] = [];
    let done = 0;
    for (const index of gaps) {
      found.push(...list.slice(done, index + 1), made(index));
      done = index + 1;
    }
    return found.concat(list.slice(done));
  };
  const none = () => null;
  return {
    ...line,
    times: insert(times, (index) => ((times[index] ?? 0) + (times[index + 1] ?? 0)) / 2),
    values: insert(line.values, none),
    ...(line.low && { low: insert(line.low, none) }),
    ...(line.high && { high: insert(line.high, none) }),
    ...(line.counts && { counts: insert(line.counts, () => 0) }),
  };
}

/** Return a line with a value that has just been measured; the same one if it changes nothing. */
export function extended(line: Line, time: number, value: number): Line {
  const last = line.times.at(-1);
  if (line.length && line.low && line.high && line.counts) {
    if (last === undefined || time < last) return line;
    const start = last + Math.floor((time - last) / line.length) * line.length;
    if (start > last) {
      return {
        ...line,
        times: [...line.times, start],
        values: [...line.values, value],
        low: [...line.low, value],
        high: [...line.high, value],
        counts: [...line.counts, 1],
      };
    }
    const count = line.counts.at(-1) ?? 0;
    const average = line.values.at(-1) ?? value;
    return {
      ...line,
      values: line.values.with(-1, average + (value - average) / (count + 1)),
      low: line.low.with(-1, Math.min(line.low.at(-1) ?? value, value)),
      high: line.high.with(-1, Math.max(line.high.at(-1) ?? value, value)),
      counts: line.counts.with(-1, count + 1),
    };
  }
  // What comes late goes where it belongs.
  let at = line.times.length;
  while (at > 0 && (line.times[at - 1] ?? 0) > time) at--;
  if (line.times[at - 1] === time) return line;
  return {
    ...line,
    times: line.times.toSpliced(at, 0, time),
    values: line.values.toSpliced(at, 0, value),
  };
}

/** Return a line without what is more than a point before a time. */
export function from(line: Line, time: number): Line {
  const first = line.times.findIndex((each) => each >= time) - 1;
  if (first < 1) return line;
  return {
    ...line,
    times: line.times.slice(first),
    values: line.values.slice(first),
    ...(line.low && { low: line.low.slice(first) }),
    ...(line.high && { high: line.high.slice(first) }),
    ...(line.counts && { counts: line.counts.slice(first) }),
  };
}

export interface Summary {
  last: number | undefined;
  low: number | undefined;
  average: number | undefined;
  high: number | undefined;
}

/** Return what a line comes to in a window. */
export function summary(line: Line, [begin, end]: [number, number]): Summary {
  let [sum, count] = [0, 0];
  let last: number | undefined;
  let low: number | undefined;
  let high: number | undefined;
  line.values.forEach((value, index) => {
    const time = line.times[index] ?? 0;
    if (value === null || time + (line.length ?? 0) < begin || time > end) return;
    const weight = line.counts?.[index] ?? 1;
    sum += value * weight;
    count += weight;
    last = value;
    low = Math.min(low ?? value, line.low?.[index] ?? value);
    high = Math.max(high ?? value, line.high?.[index] ?? value);
  });
  // A selection has more of what is uncommon.
  const isKnown = count > 0 && (line.isWhole || line.counts !== undefined);
  return { last, low, high, average: isKnown ? sum / count : undefined };
}

/** Return an average to a thousandth of what values differ by: further digits say nothing. */
export function rounded(average: number | undefined, { low, high }: Summary): number | undefined {
  if (low === undefined || high === undefined || average === undefined) return average;
  if (high === low) return average;
  const digits = 3 - Math.ceil(Math.log10(high - low));
  return digits > 0 && digits < 100 ? Number(average.toFixed(digits)) : average;
}

/** Return the value that a line shows at a time: of the nearest point, if that is near. */
export function valueNear(line: Line, time: number, tolerance: number): number | undefined {
  let [low, high] = [0, line.times.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((line.times[middle] ?? 0) < time) low = middle + 1;
    else high = middle;
  }
  let best: number | undefined;
  let nearest = Math.max(tolerance, line.length ?? 0);
  for (const index of [low - 1, low]) {
    const distance = Math.abs((line.times[index] ?? Number.NaN) - time);
    const value = line.values[index];
    if (distance <= nearest && value !== null && value !== undefined) {
      nearest = distance;
      best = value;
    }
  }
  return best;
}

const numbers = new Intl.NumberFormat("en", { maximumSignificantDigits: 6, useGrouping: false });

/** Return a number for people. */
export function shown(value: number | undefined): string {
  if (value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e9 || size < 1e-4))
    return value.toExponential(3).replaceAll("-", "−");
  return numbers.format(value).replace("-", "−");
}

/** Return lines as wide CSV: a row a time, a column a line; of buckets three. */
export function wideCsv(lines: { name: string; line: Line }[]): string {
  const rows = new Map<number, (number | null)[]>();
  const heading = ["timestamp"];
  for (const { name, line } of lines) {
    const columns: [string, (number | null)[]][] =
      line.low && line.high
        ? [
            [`${name} avg`, line.values],
            [`${name} min`, line.low],
            [`${name} max`, line.high],
          ]
        : [[name, line.values]];
    for (const [title, values] of columns) {
      const column = heading.push(title) - 2;
      line.times.forEach((time, index) => {
        const value = values[index] ?? null;
        if (value === null) return;
        const row = rows.get(time) ?? [];
        rows.set(time, row);
        row[column] = value;
      });
    }
  }
  const quoted = (text: string) =>
    /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  const body = [...rows]
    .sort(([a], [b]) => a - b)
    .map(([time, row]) =>
      [rfc3339(time), ...heading.slice(1).map((_, column) => String(row[column] ?? ""))].join(","),
    );
  return `${[heading.map(quoted).join(","), ...body].join("\r\n")}\r\n`;
}

/** Return a time in UTC, to the microsecond. */
function rfc3339(time: number): string {
  const micros = Math.round(time * 1e6);
  const seconds = Math.floor(micros / 1e6);
  const rest = String(micros - seconds * 1e6).padStart(6, "0");
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}.${rest}Z`;
}
