/** A table that is too long for one request, in pieces of whole rows. */

export interface Piece {
  /** What is sent: the heading's lines, then those of the piece. */
  table: string;
  /** How many characters of the file it is of. */
  length: number;
  /** How many lines of the file are left out between the heading and these. */
  linesLeftOut: number;
}

/** Return where the last row ends that ends at `most` at the latest; 0: none does. */
function endOfRows(text: string, from: number, most: number): number {
  let isQuoted = false;
  let end = 0;
  const stop = Math.min(text.length, from + most);
  for (let at = from; at < stop; at++) {
    const code = text.charCodeAt(at);
    if (code === 34) isQuoted = !isQuoted;
    else if (code === 10 && !isQuoted) end = at + 1;
  }
  return stop === text.length ? stop : end;
}

/** Return what of a table is sent first; all of it, if that is not longer than `most`. */
export function firstPiece(text: string, most: number): string {
  return text.slice(0, endOfRows(text, 0, most) || most);
}

/**
 * Return the pieces after the first one, each of at most `most` characters beside the heading,
 * which is so many lines. Throws a `RangeError` of a row that is longer.
 */
export function* laterPieces(text: string, most: number, headingLines: number): Generator<Piece> {
  const heading = text
    .split("\n", headingLines)
    .map((line) => `${line}\n`)
    .join("");
  let from = firstPiece(text, most).length;
  let before = linesIn(text.slice(0, from));
  while (from < text.length) {
    const end = endOfRows(text, from, most);
    if (end <= from) throw new RangeError(`${before + 1}`);
    const own = text.slice(from, end);
    yield {
      table: heading + own,
      length: own.length,
      linesLeftOut: before - headingLines,
    };
    before += linesIn(own);
    from = end;
  }
}

function linesIn(text: string): number {
  let count = 0;
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) count++;
  return count;
}
