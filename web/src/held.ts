/** A list that keeps its place while more comes: nothing moves under the finger. */

interface Listed {
  id: string;
}

export interface Held<T> {
  /** What is shown, in its order. */
  rows: T[];
  /** What has come before them since, and waits until somebody asks for it. */
  fresh: T[];
  /** The ids of those that were read no more. They stay where they were. */
  gone: Set<string>;
}

/**
 * Return the list after it was read again, the newest first, up to `limit` rows.
 *
 * What is further down than all that is shown joins it there. `left` are the ids of those that
 * need no longer stay once they are gone, since whoever looks has sent them away.
 */
export function hold<T extends Listed>(
  before: Held<T> | undefined,
  read: T[],
  limit: number,
  left: ReadonlySet<string>,
): Held<T> {
  const found = new Map(read.map((row) => [row.id, row]));
  const known = new Set(before?.rows.map((row) => row.id));
  const lowest = read.findLastIndex((row) => known.has(row.id));
  // Nothing that is shown is there any more: so nothing can be moved.
  if (!before || lowest < 0) return { rows: read, fresh: [], gone: new Set() };
  const isWhole = read.length < limit;
  const isGone = (id: string, place: number) =>
    !found.has(id) &&
    // Those that have come may have pushed what is furthest down off the page.
    (isWhole || before.gone.has(id) || before.rows.slice(place).some((row) => found.has(row.id)));
  const gone = new Set(
    before.rows.filter(({ id }, place) => isGone(id, place)).map(({ id }) => id),
  );
  return {
    rows: [
      ...before.rows
        .filter(({ id }) => !gone.has(id) || !left.has(id))
        .map((row) => found.get(row.id) ?? row),
      ...read.slice(lowest + 1),
    ],
    fresh: read.slice(0, lowest).filter((row) => !known.has(row.id)),
    gone,
  };
}
