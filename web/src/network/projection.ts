/** A plain projection of places: true to scale at its middle, which is enough for a network. */

export interface Place {
  latitude: number;
  longitude: number;
}

/** Metres east and north of the middle of all places. */
export interface Point {
  east: number;
  north: number;
}

const METRES_PER_DEGREE = 111_320;

/** Return places in metres around the middle of them all. */
export function projected(places: Place[]): Point[] {
  const longitudes = unwrapped(places.map(({ longitude }) => longitude));
  const middle = middleOf(places.map(({ latitude }) => latitude));
  const meridian = middleOf(longitudes);
  const narrowing = Math.max(Math.cos((middle * Math.PI) / 180), 0.01);
  return places.map(({ latitude }, index) => ({
    east: ((longitudes[index] ?? 0) - meridian) * METRES_PER_DEGREE * narrowing,
    north: (latitude - middle) * METRES_PER_DEGREE,
  }));
}

function middleOf(values: number[]): number {
  return (Math.min(...values) + Math.max(...values)) / 2;
}

/** Return longitudes without the jump at 180°, where places lie on both sides of it. */
function unwrapped(longitudes: number[]): number[] {
  const sorted = [...longitudes].sort((one, other) => one - other);
  let first = sorted[0] ?? 0;
  let widest = first + 360 - (sorted.at(-1) ?? first);
  sorted.slice(1).forEach((longitude, index) => {
    const gap = longitude - (sorted[index] ?? longitude);
    if (gap > widest) [widest, first] = [gap, longitude];
  });
  return longitudes.map((longitude) => (longitude < first ? longitude + 360 : longitude));
}

/** Return pixels a metre at which all points fit. One point alone gets 200 metres around it. */
export function fitting(points: Point[], width: number, height: number): number {
  const reach = (values: number[]) => Math.max(...values.map(Math.abs), 100) * 2;
  return Math.min(
    width / reach(points.map(({ east }) => east)),
    height / reach(points.map(({ north }) => north)),
  );
}

/** Return the longest round length in metres that takes at most so many pixels. */
export function scaleLength(pixelsPerMetre: number, most: number): number {
  const longest = most / pixelsPerMetre;
  const power = 10 ** Math.floor(Math.log10(longest));
  return ([5, 2, 1].find((step) => step * power <= longest) ?? 1) * power;
}
