/** What a `User-Agent` says, as people would: browser and system, or the program's name. */
import { texts } from "./texts";

// Each browser calls itself those that come after it as well.
const BROWSERS: [RegExp, string][] = [
  [/\bEdg(e|A|iOS)?\//, "Edge"],
  [/\bOPR\//, "Opera"],
  [/\bSamsungBrowser\//, "Samsung Internet"],
  [/\b(Firefox|FxiOS)\//, "Firefox"],
  [/\b(Chrome|Chromium|CriOS|HeadlessChrome)\//, "Chrome"],
  [/\bVersion\/.*\bSafari\//, "Safari"],
];
const SYSTEMS: [RegExp, string][] = [
  [/\bAndroid\b/, "Android"],
  [/\b(iPhone|iPad|iPod)\b/, "iOS"],
  [/\bCrOS\b/, "ChromeOS"],
  [/\bWindows\b/, "Windows"],
  [/\bMac OS X\b/, "macOS"],
  [/\bLinux\b/, "Linux"],
];

/** Return `Firefox, Linux` or `curl/8.5.0`. */
export function clientName(agent: string | null): string {
  if (!agent) return texts.account.unnamed;
  const nameIn = (names: [RegExp, string][]) => names.find(([sign]) => sign.test(agent))?.[1];
  const browser = nameIn(BROWSERS);
  if (!browser) return agent.split(" ")[0] ?? agent;
  return [browser, nameIn(SYSTEMS)].filter(Boolean).join(", ");
}
