/** What a sensor's charts show: which sensors, which time, in which zone, how wide. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { api, ask } from "../api/client";
import { type View, windowOf } from "../chart/view";
import { useLoad } from "../load";
import { now, zone } from "../time";
import type { Sensor } from "../ui/network-head";
import { MOST_OTHERS } from "./comparison";

/** Show times in the URL's zone while the page is shown. */
export function useZone(name: string | undefined): void {
  useEffect(() => {
    if (!name) return;
    const before = zone.value;
    try {
      Intl.DateTimeFormat("en", { timeZone: name });
      zone.value = name;
    } catch {
      // There is no such zone: it stays as it was.
    }
    return () => {
      zone.value = before;
    };
  }, [name]);
}

export function useOthers(identifiers: string[]): Sensor[] {
  const found = useLoad(`others ${identifiers}`, async (signal) => {
    const all = await Promise.all(
      identifiers
        .slice(0, MOST_OTHERS)
        .map((identifier) =>
          ask(
            api.GET("/api/v1/sensors/{identifier}", { params: { path: { identifier } }, signal }),
          ).catch(() => undefined),
        ),
    );
    return all.filter((each) => each !== undefined);
  });
  return found.data ?? [];
}

/** Return when the first measurement of sensors was, in seconds. */
export function useFirst(sensors: Sensor[]): number | undefined {
  const found = useLoad(`first ${sensors.map((each) => each.sensor_identifier)}`, (signal) =>
    Promise.all(
      sensors.map((each) =>
        ask(
          api.GET("/api/v1/sensors/{identifier}/measurements", {
            params: {
              path: { identifier: each.sensor_identifier },
              query: { direction: "next", limit: 1 },
            },
            signal,
          }),
        ),
      ),
    ),
  );
  if (sensors.length === 0 || !found.data) return undefined;
  const times = found.data.flatMap((rows) => rows.slice(0, 1).map((row) => row.creation_timestamp));
  return times.length > 0 ? Math.min(...times) : now.value / 1000;
}

/** Return the window that is shown; one that follows moves each second, a long one more seldom. */
export function useWindow(view: View, first: number | undefined): [number, number] | undefined {
  const isAll = view.range === "all" && !view.zoom;
  if (isAll && first === undefined) return undefined;
  if (view.zoom) return view.zoom;
  const present = now.value / 1000;
  const [begin] = windowOf(view, present, first);
  // A thousandth of it is a pixel or two.
  const step = Math.max(1, Math.floor((present - begin) / 1000));
  return windowOf(view, Math.ceil(present / step) * step, first);
}

export function useWidth(): [(element: HTMLDivElement | null) => void, number] {
  const [width, setWidth] = useState(0);
  const sizes = useRef<ResizeObserver | undefined>(undefined);
  const place = useCallback((element: HTMLDivElement | null) => {
    sizes.current?.disconnect();
    if (!element) return;
    setWidth(element.clientWidth);
    sizes.current = new ResizeObserver(() => setWidth(element.clientWidth));
    sizes.current.observe(element);
  }, []);
  return [place, width];
}
