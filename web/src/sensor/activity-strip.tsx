/** The last 28 days at a glance: when a sensor was silent. A day leads to its charts. */
import { useMemo } from "preact/hooks";
import { api, ask } from "../api/client";
import { offsetOf } from "../chart/ticks";
import { useLoad } from "../load";
import { count } from "../numbers";
import { texts } from "../texts";
import { day, now, zone } from "../time";
import { DAYS, daysOf, levelOf } from "./activity";

/** Of a sensor with more, the others go with these. */
const MOST_ATTRIBUTES = 4;
const MINUTES = 5;

export function ActivityStrip(props: {
  sensor: string;
  attributes: string[];
  show: (from: number, to: number) => void;
}) {
  const words = texts.activity;
  const attribute = props.attributes.slice(0, MOST_ATTRIBUTES);
  const turn = Math.floor(now.value / 60_000 / MINUTES);
  const path = { identifier: props.sensor };
  const loaded = useLoad(`activity ${props.sensor} ${zone.value} ${attribute}`, (signal) =>
    attribute.length === 0
      ? Promise.resolve({})
      : ask(
          api.GET("/api/v1/sensors/{identifier}/aggregates", {
            params: {
              path,
              query: {
                attribute,
                bucket: "4h",
                tz: zone.value,
                start: Date.now() / 1000 - (DAYS + 1) * 86_400,
                function: ["count"],
              },
            },
            signal,
          }),
        ),
  );
  const days = useMemo(
    () => daysOf(Object.values(loaded.data ?? {}), Date.now() / 1000, offsetOf(zone.value)),
    [loaded.data, zone.value, turn],
  );
  if (attribute.length === 0) return null;
  const most = Math.max(1, ...days.flatMap((each) => each.counts));
  return (
    <section class="activity" aria-busy={loaded.data === undefined}>
      <h2>{words.title}</h2>
      <div class="activity-days">
        {days.map(({ start, end, counts, total }) => {
          const label = words.day(day(start * 1000), count(total));
          return (
            <button
              type="button"
              key={start}
              class="activity-day"
              title={label}
              aria-label={label}
              onClick={() => props.show(start, end)}
            >
              {counts.map((each, index) => (
                <i key={index} data-level={levelOf(each, most)} />
              ))}
            </button>
          );
        })}
      </div>
      <p class="quiet small activity-ends">
        <span>{day((days[0]?.start ?? 0) * 1000)}</span>
        <span>{words.today}</span>
      </p>
    </section>
  );
}
