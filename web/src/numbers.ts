/** Numbers as people read them. */

export function count(number: number): string {
  return number.toLocaleString("en");
}

/** Return a number of bytes with its unit, by thousands: `1.7 MB`. */
export function bytes(number: number): string {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let size = number;
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  const digits = unit > 0 && size < 100 ? 1 : 0;
  return `${size.toLocaleString("en", { maximumFractionDigits: digits })} ${units[unit]}`;
}
