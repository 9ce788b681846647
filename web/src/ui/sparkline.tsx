/** A small course without axes: it shows the shape, the number beside it the size. */
const WIDTH = 100;
const HEIGHT = 24;
const PADDING = 2;
/** So many times the usual distance between two points is a gap. */
const GAP = 5;

/** Draw points by their time; what the line says has to be said beside it as well. */
export function Sparkline({ points }: { points: [time: number, value: number][] }) {
  const first = points[0];
  const last = points.at(-1);
  if (!first || !last || points.length < 2) return <span class="sparkline" aria-hidden="true" />;
  let lowest = first[1];
  let highest = first[1];
  for (const [, value] of points) {
    lowest = Math.min(lowest, value);
    highest = Math.max(highest, value);
  }
  const span = highest - lowest;
  const length = last[0] - first[0] || 1;
  const longest = GAP * usualDistance(points);
  const path = points.map(([time, value], index) => {
    const x = ((time - first[0]) / length) * WIDTH;
    const part = span ? (value - lowest) / span : 0.5;
    const y = HEIGHT - PADDING - part * (HEIGHT - 2 * PADDING);
    const before = points[index - 1];
    const isJoined = before && time - before[0] <= longest;
    return `${isJoined ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
  });
  return (
    <svg
      class="sparkline"
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      preserveAspectRatio="none"
      aria-hidden="true"
    >
      <path d={path.join("")} />
    </svg>
  );
}

function usualDistance(points: [time: number, value: number][]): number {
  const distances = points.slice(1).map(([time], index) => time - (points[index]?.[0] ?? time));
  return distances.sort((one, other) => one - other)[distances.length >> 1] ?? 0;
}
