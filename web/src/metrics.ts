/** What `/metrics` tells, as Prometheus writes it. */

/** All samples of one answer, by name and labels as they are written. */
export type Samples = Map<string, number>;

const LINE = /^([a-zA-Z_:][\w:]*)(\{.*\})? ([-+\w.]+)$/;

export function parseMetrics(text: string): Samples {
  const samples: Samples = new Map();
  for (const line of text.split("\n")) {
    const found = LINE.exec(line);
    if (found) samples.set(`${found[1]}${found[2] ?? ""}`, Number(found[3]));
  }
  return samples;
}

/** Return the sum of all samples of a name, whatever their labels. */
export function total(samples: Samples, name: string): number {
  let sum = 0;
  for (const [key, value] of samples) {
    if (key === name || key.startsWith(`${name}{`)) sum += value;
  }
  return sum;
}

/** Return which worker has answered, where there are several. */
export function workerOf(samples: Samples): string {
  for (const key of samples.keys()) {
    const found = /[{,]worker="([^"]*)"/.exec(key);
    if (found) return found[1] ?? "";
  }
  return "";
}

/**
 * Return the quantile of what a histogram has counted between two answers, in its unit, as the upper
 * bound of the bucket in which it lies; null: nothing was counted.
 */
export function quantile(
  before: Samples,
  after: Samples,
  name: string,
  share: number,
): number | null {
  const buckets = new Map<number, number>();
  for (const [key, value] of after) {
    if (!key.startsWith(`${name}_bucket{`)) continue;
    const bound = /le="([^"]+)"/.exec(key)?.[1];
    if (!bound) continue;
    const at = bound === "+Inf" ? Number.POSITIVE_INFINITY : Number(bound);
    buckets.set(at, (buckets.get(at) ?? 0) + value - (before.get(key) ?? 0));
  }
  const bounds = [...buckets.keys()].sort((one, other) => one - other);
  const count = buckets.get(Number.POSITIVE_INFINITY) ?? 0;
  if (count <= 0) return null;
  return bounds.find((bound) => (buckets.get(bound) ?? 0) >= share * count) ?? null;
}
