/** Whether the server can be reached, and how to come back after an outage. */
import { signal } from "@preact/signals";

export const isReachable = signal(true);

/** Rises when what is shown may be old: the server is back, or events were missed. */
export const epoch = signal(0);

const LONGEST_SECONDS = 10;
let seconds = 0;

/** Note that the server did not answer, and look for it until it does. */
export function unreached(): void {
  if (!isReachable.value) return;
  isReachable.value = false;
  seconds = 1;
  void probe();
}

/** Note that the server has answered. */
export function reached(): void {
  if (isReachable.value) return;
  isReachable.value = true;
  epoch.value += 1;
}

/** Look whether the server answers. */
export async function look(): Promise<void> {
  const url = new URL("../api/v1/ping", document.baseURI);
  const response = await fetch(url, { cache: "no-store" }).catch(() => undefined);
  if (response?.ok) reached();
  else unreached();
}

async function probe(): Promise<void> {
  while (!isReachable.value) {
    await pause(seconds);
    seconds = Math.min(seconds * 2, LONGEST_SECONDS);
    await look();
  }
}

/** Return after so many seconds and up to a quarter more, so that not all tabs come at once. */
export function pause(seconds: number): Promise<void> {
  return new Promise((done) => setTimeout(done, seconds * 1000 * (1 + Math.random() / 4)));
}
