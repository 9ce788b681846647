/** One stream of events a tab, shared by all that is shown. */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { root } from "./api/client";
import { epoch, isReachable, look, pause } from "./connection";
import { findSession } from "./session";

export type Kind =
  | "activity"
  | "measurement"
  | "log"
  | "heartbeat"
  | "configuration"
  | "presence"
  | "alert"
  | "rule";

/** docs/guide/live.md says what each kind holds. */
export type Event = { kind: Kind; data: any };
type Listener = (events: Event[]) => void;

export type LiveState = "off" | "connecting" | "live" | "interrupted";
export const liveState = signal<LiveState>("off");
/** Whether the stream of what is shown is open: what is read earlier may miss an event. */
export const isOpen = signal(false);

const KINDS: Kind[] = [
  "activity",
  "measurement",
  "log",
  "heartbeat",
  "configuration",
  "presence",
  "alert",
  "rule",
];
/** What is followed where no page shows a network: what concerns people. */
const WITHOUT_NETWORK: Kind[] = ["alert", "presence"];
const LONGEST_SECONDS = 15;
/** A browser has six connections to a server: a tab that nobody sees leaves its own to others. */
const HIDDEN_MILLISECONDS = 10_000;

const listeners = new Set<{ kinds: ReadonlySet<Kind>; listen: Listener }>();
const networks: string[] = [];
let source: EventSource | undefined;
let url = "";
let lastId = "";
let seconds = 1;
let waiting: Event[] = [];
let isResting = false;
let leaving: ReturnType<typeof setTimeout> | undefined;

/** Hear of events, gathered once a frame. The stream is that of the network that is shown. */
export function useEvents(kinds: Kind[], listen: Listener): void {
  // The names stand for the array.
  useEffect(() => {
    const entry = { kinds: new Set(kinds), listen };
    listeners.add(entry);
    return () => {
      listeners.delete(entry);
    };
  }, [kinds.join(), listen]);
}

/** Follow a network while the caller is shown; "": none, though the path names one. */
export function useNetworkEvents(network: string): void {
  useEffect(() => {
    networks.push(network);
    follow();
    return () => {
      networks.splice(networks.indexOf(network), 1);
      // The next page may follow the same one, and is fetched first.
      setTimeout(() => follow(networkOfPath()));
    };
  }, [network]);
}

/** Begin to follow, after a log-in. */
export function startLive(): void {
  liveState.value = "connecting";
  follow(networkOfPath());
}

/** Stop following, after a log-out. */
export function stopLive(): void {
  source?.close();
  source = undefined;
  url = lastId = "";
  isResting = isOpen.value = false;
  liveState.value = "off";
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(leaving);
  if (document.hidden) leaving = setTimeout(rest, HIDDEN_MILLISECONDS);
  else wake();
});
// Browsers keep the page that is left for the way back, for a minute with its connections.
addEventListener("pagehide", rest);
addEventListener("pageshow", ({ persisted }) => persisted && wake());

/** Let go of the stream until the page is seen again. */
function rest(): void {
  if (liveState.value === "off") return;
  source?.close();
  source = undefined;
  isResting = true;
  liveState.value = "interrupted";
}

function wake(): void {
  if (!isResting) return;
  isResting = false;
  open();
}

/** Return the network that the page of this path is about to follow. */
function networkOfPath(): string | undefined {
  return /\/dashboard\/networks\/([^/]+)/.exec(location.pathname)?.[1];
}

function follow(expected?: string): void {
  if (liveState.value === "off") return;
  const network = networks.at(-1) ?? expected;
  const wanted = network
    ? `${root}/api/v1/streams/${network}`
    : `${root}/api/v1/events?${WITHOUT_NETWORK.map((kind) => `kind=${kind}`).join("&")}`;
  if (wanted === url) return;
  url = wanted;
  lastId = "";
  open();
}

function open(): void {
  if (isResting || document.hidden) {
    rest();
    return;
  }
  source?.close();
  isOpen.value = false;
  const asked = url;
  const query = lastId ? `${asked.includes("?") ? "&" : "?"}last_event_id=${lastId}` : "";
  const opened = new EventSource(asked + query);
  source = opened;
  opened.onopen = () => {
    seconds = 1;
    // What has no id may have been missed meanwhile.
    if (liveState.value === "interrupted") epoch.value += 1;
    liveState.value = "live";
    isOpen.value = true;
  };
  opened.onerror = () => {
    if (source !== opened) return;
    liveState.value = "interrupted";
    void look();
    // Unless it was refused, EventSource comes again by itself, with the last id.
    if (opened.readyState === EventSource.CLOSED) void reopen(asked);
  };
  opened.addEventListener("reset", () => {
    epoch.value += 1;
  });
  opened.addEventListener("lagged", () => {
    epoch.value += 1;
  });
  for (const kind of KINDS) {
    opened.addEventListener(kind, (message: MessageEvent<string>) => {
      if (message.lastEventId) lastId = message.lastEventId;
      if (waiting.length === 0) requestAnimationFrame(deliver);
      waiting.push({ kind, data: JSON.parse(message.data) });
    });
  }
}

async function reopen(asked: string): Promise<void> {
  await pause(seconds);
  seconds = Math.min(seconds * 2, LONGEST_SECONDS);
  if (asked !== url) return;
  // The stream does not say why it was refused: the session may have ended.
  await findSession().catch(() => {});
  if (asked !== url) return;
  // What is shown may be forbidden by now, or not be there; what can't be followed is read again.
  if (isReachable.value) epoch.value += 1;
  follow();
  if (asked === url) open();
}

function deliver(): void {
  const events = waiting;
  waiting = [];
  for (const { kinds, listen } of listeners) {
    const wanted = events.filter(({ kind }) => kinds.has(kind));
    if (wanted.length > 0) listen(wanted);
  }
}
