/** Values of measurements: their attributes, and how people read them. */

/**
 * Return the attributes of a value as the server names them: dotted paths, in which `.` and `\` of
 * keys have a `\` before them; a value that is no object is the attribute `value`.
 */
export function attributesOf(value: unknown): [string, unknown][] {
  if (!isObject(value)) return [["value", value]];
  const found: [string, unknown][] = [];
  gather(value, "", found);
  return found;
}

function gather(value: Record<string, unknown>, prefix: string, found: [string, unknown][]): void {
  for (const [key, inner] of Object.entries(value)) {
    const name = prefix + key.replace(/[\\.]/g, "\\$&");
    if (isObject(inner)) gather(inner, `${name}.`, found);
    else found.push([name, inner]);
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const LARGEST = 1e9;
const SMALLEST = 1e-4;

/** Return a value as people read it: a number to four digits, never less than its whole part. */
export function shownValue(value: unknown): string {
  if (typeof value === "string") return value;
  if (typeof value !== "number") return JSON.stringify(value) ?? "–";
  const size = Math.abs(value);
  if (size !== 0 && (size >= LARGEST || size < SMALLEST)) return value.toExponential(3);
  return Number.isInteger(value) || size >= 1000 ? whole.format(value) : fine.format(value);
}
