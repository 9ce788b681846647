/** Times, always with their zone. */
import { computed, signal } from "@preact/signals";

const STORED = "heliograph.zone";
// Texts are English, whatever else the browser speaks.
const locale = navigator.languages.find((language) => language.startsWith("en")) ?? "en-GB";

export const zoneOfBrowser = Intl.DateTimeFormat().resolvedOptions().timeZone;
/** The zone in which times are shown. */
export const zone = signal(storedZone() ?? zoneOfBrowser);

/** Show times in this zone from now on, on this device. */
export function chooseZone(name: string): void {
  zone.value = name;
  try {
    localStorage.setItem(STORED, name);
  } catch {
    // Then it lasts as long as the tab.
  }
}

function storedZone(): string | null {
  try {
    const name = localStorage.getItem(STORED);
    if (name !== null) Intl.DateTimeFormat(locale, { timeZone: name });
    return name;
  } catch {
    return null;
  }
}

const formats = computed(() => {
  const timeZone = zone.value;
  return {
    day: Intl.DateTimeFormat(locale, { timeZone, dateStyle: "medium" }),
    full: Intl.DateTimeFormat(locale, {
      timeZone,
      hourCycle: "h23",
      year: "numeric",
      month: "short",
      day: "numeric",
      hour: "2-digit",
      minute: "2-digit",
      second: "2-digit",
      timeZoneName: "short",
    }),
  };
});

/** Return a time as day, time and zone. */
export function fullTime(time: string | number): string {
  return formats.value.full.format(new Date(time));
}

/** Return the day of a time, in the zone that is shown. */
export function day(time: string | number): string {
  return formats.value.day.format(new Date(time));
}

/** The time now in milliseconds, once a second. */
export const now = signal(Date.now());
setInterval(() => {
  if (!document.hidden) now.value = Date.now();
}, 1000);

const UNITS: [number, string][] = [
  [86_400, "d"],
  [3_600, "h"],
  [60, "min"],
];

/** Return how long ago a time was: `12 s ago`. */
export function ago(time: string | number): string {
  const seconds = Math.max(0, Math.round((now.value - new Date(time).getTime()) / 1000));
  const [length, unit] = UNITS.find(([length]) => seconds >= length) ?? [1, "s"];
  return `${Math.floor(seconds / length)} ${unit} ago`;
}

/** Return how long a time is, in its two greatest units: `3 h 12 min`. */
export function span(seconds: number): string {
  let left = Math.round(seconds);
  const parts: string[] = [];
  for (const [length, unit] of [...UNITS, [1, "s"] as [number, string]]) {
    const count = Math.floor(left / length);
    left -= count * length;
    if (count > 0) parts.push(`${count} ${unit}`);
    else if (parts.length > 0) break;
  }
  return parts.slice(0, 2).join(" ") || "0 s";
}
