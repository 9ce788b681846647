/** When a sensor gave signs of life. Times are seconds since 1970. */

/** Longer than so many times what is usual is a gap, where no interval is expected. */
const UNUSUAL = 3;

export interface Stretch {
  from: number;
  to: number;
}

export interface Presence {
  /** From one sign of life to the next, as long as none is late. */
  alive: Stretch[];
  /** Without a sign for too long; the last one may go on until now. */
  gaps: Stretch[];
}

/**
 * Return when signs came as they should: at most three times as long after one another as usual,
 * or as the sensor is `expected` to be silent, which other messages end too.
 */
export function presenceOf(signs: number[], now: number, expected: number | null): Presence {
  const times = [...signs].sort((a, b) => a - b);
  const lengths = times.slice(1).map((time, index) => time - (times[index] ?? time));
  const usual = [...lengths].sort((a, b) => a - b)[lengths.length >> 1];
  const longest = Math.max(1, expected ?? 0, (usual ?? Number.POSITIVE_INFINITY) * UNUSUAL);
  const presence: Presence = { alive: [], gaps: [] };
  let stretch: Stretch | undefined;
  for (const time of times) {
    if (stretch && time - stretch.to <= longest) {
      stretch.to = time;
    } else {
      if (stretch) presence.gaps.push({ from: stretch.to, to: time });
      stretch = { from: time, to: time };
      presence.alive.push(stretch);
    }
  }
  if (stretch && now - stretch.to > longest) presence.gaps.push({ from: stretch.to, to: now });
  return presence;
}
