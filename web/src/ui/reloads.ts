/** Reading again what a sensor's page shows when the sensor says something new. */
import { useCallback, useEffect, useRef } from "preact/hooks";
import { type Kind, useEvents } from "../live";

const MILLISECONDS = 1000;

/** Read again on events of a sensor: at most once a second, whatever the rate. */
export function useReloads(kinds: Kind[], sensor: string | undefined, reload: () => void): void {
  const waiting = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const isMissed = useRef(false);
  const latest = useRef(reload);
  latest.current = reload;
  useEvents(
    kinds,
    useCallback(
      (events) => {
        // The sensor of the page may not be read yet.
        if (sensor === undefined) isMissed.current = true;
        if (!events.some(({ data }) => data.sensor_identifier === sensor)) return;
        waiting.current ??= setTimeout(() => {
          waiting.current = undefined;
          latest.current();
        }, MILLISECONDS);
      },
      [sensor],
    ),
  );
  useEffect(() => {
    if (sensor !== undefined && isMissed.current) latest.current();
    isMissed.current = false;
  }, [sensor]);
  useEffect(() => () => clearTimeout(waiting.current), []);
}
