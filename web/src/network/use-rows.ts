/** Reads a network's rows, and has events change them. */
import { useCallback, useMemo, useRef } from "preact/hooks";
import { api, ask, askAll } from "../api/client";
import { useEvents } from "../live";
import { type Loaded, useLoad } from "../load";
import { Rows } from "./rows";

const PAGE = 10_000;

/** Read a network's rows, and have events change them. */
export function useRows(identifier: string): { rows: Rows; loaded: Loaded<Rows> } {
  const rows = useMemo(() => new Rows(), [identifier]);
  const loaded = useLoad(`sensors ${identifier}`, async (signal) => {
    const path = { network_identifier: identifier };
    const [sensors, latest, alerts] = await Promise.all([
      askAll((offset) =>
        api.GET("/api/v1/networks/{network_identifier}/sensors", {
          params: { path, query: { limit: PAGE, offset } },
          signal,
        }),
      ),
      askAll((offset) =>
        api.GET("/api/v1/networks/{network_identifier}/latest", {
          params: { path, query: { limit: PAGE, offset } },
          signal,
        }),
      ),
      ask(
        api.GET("/api/v1/alerts", {
          params: { query: { ...path, state: "open", limit: PAGE } },
          signal,
        }),
      ),
    ]);
    rows.take(sensors, latest, alerts);
    return rows;
  });
  const { reload } = loaded;
  const isAsked = useRef(false);
  useEvents(
    ["measurement", "log", "heartbeat", "configuration", "presence", "alert"],
    useCallback(
      (events) => {
        if (!rows.change(events, Date.now()) || isAsked.current) return;
        // Somebody has registered sensors, or configures them; the next ones are read with them.
        isAsked.current = true;
        setTimeout(() => {
          isAsked.current = false;
          reload();
        }, 1000);
      },
      [rows, reload],
    ),
  );
  return { rows, loaded };
}
