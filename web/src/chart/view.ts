/** Which part of what was measured is shown, as the page's URL says it. */

export const RANGES = ["5m", "30m", "3h", "24h", "7d", "30d", "1y", "all"] as const;
export type Range = (typeof RANGES)[number];
const SECONDS: Record<Exclude<Range, "all">, number> = {
  "5m": 300,
  "30m": 1800,
  "3h": 10_800,
  "24h": 86_400,
  "7d": 604_800,
  "30d": 2_592_000,
  "1y": 31_622_400,
};
const SHORTEST_SECONDS = 0.01;

export interface View {
  /** What is shown up to now, and again when one leaves what was zoomed to. */
  range: Range;
  /** What was zoomed to, in seconds since 1970. */
  zoom: [number, number] | undefined;
  /** undefined: the first ones that there are. */
  attributes: string[] | undefined;
  /** Sensors beside the page's own. */
  others: string[];
  zone: string | undefined;
  isOneChart: boolean;
}

/** Return the view that a URL's query says; what it does not say rightly is as by default. */
export function viewOf(query: URLSearchParams): View {
  const range = RANGES.find((each) => each === query.get("range")) ?? "24h";
  const from = Date.parse(query.get("from") ?? "") / 1000;
  const to = Date.parse(query.get("to") ?? "") / 1000;
  return {
    range,
    zoom: to - from >= SHORTEST_SECONDS ? [from, to] : undefined,
    attributes: query.has("attribute") ? query.getAll("attribute").filter(Boolean) : undefined,
    others: query.getAll("with"),
    zone: query.get("zone") ?? undefined,
    isOneChart: query.get("charts") === "one",
  };
}

/** Return the query that says a view. */
export function queryOf(view: View): URLSearchParams {
  const query = new URLSearchParams({ range: view.range });
  if (view.zoom) {
    const [from, to] = view.zoom;
    query.set("from", new Date(from * 1000).toISOString());
    query.set("to", new Date(to * 1000).toISOString());
  }
  // None is said by an empty one.
  for (const name of view.attributes?.length === 0 ? [""] : (view.attributes ?? [])) {
    query.append("attribute", name);
  }
  for (const sensor of view.others) query.append("with", sensor);
  if (view.zone) query.set("zone", view.zone);
  if (view.isOneChart) query.set("charts", "one");
  return query;
}

/** Return from when to when a view shows, in seconds. `first` is when the first value was. */
export function windowOf(view: View, now: number, first: number | undefined): [number, number] {
  if (view.zoom) return view.zoom;
  if (view.range === "all") {
    const begin = Math.min(first ?? now - 86_400, now - 60);
    return [begin - (now - begin) / 100, now];
  }
  return [now - SECONDS[view.range], now];
}

/** Return a window that is so much (1: wholly) later, or so many times as long. */
export function moved([from, to]: [number, number], by: number, length = 1): [number, number] {
  const span = to - from;
  const middle = (from + to) / 2 + by * span;
  const half = Math.max((span * length) / 2, SHORTEST_SECONDS);
  return [middle - half, middle + half];
}
