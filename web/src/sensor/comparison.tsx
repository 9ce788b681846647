/** Which other sensors are shown in a sensor's charts. */
import { useState } from "preact/hooks";
import { api, ask } from "../api/client";
import { useLoad } from "../load";
import { texts } from "../texts";
import { nameOf, type Sensor } from "../ui/network-head";
import { Show } from "../ui/parts";

export const MOST_OTHERS = 7;

/** Choose sensors of the same network that are shown in the same charts. */
export function Comparison(props: {
  sensor: Sensor;
  chosen: string[];
  choose: (identifiers: string[]) => void;
}) {
  const { sensor, chosen, choose } = props;
  const [search, setSearch] = useState("");
  const path = { network_identifier: sensor.network_identifier };
  const list = useLoad(`compared ${sensor.network_identifier}`, (signal) =>
    ask(
      api.GET("/api/v1/networks/{network_identifier}/sensors", {
        params: { path, query: { limit: 10_000 } },
        signal,
      }),
    ),
  );
  return (
    <div class="form">
      <label class="search">
        <span class="hidden">{texts.sensors.search}</span>
        <input
          type="search"
          placeholder={texts.sensors.search}
          value={search}
          onInput={(event) => setSearch(event.currentTarget.value)}
        />
      </label>
      <Show loaded={list}>
        {(found) => {
          const matching = found
            .filter((each) => each.sensor_identifier !== sensor.sensor_identifier)
            .filter((each) =>
              `${nameOf(each)} ${each.device_id}`
                .toLowerCase()
                .includes(search.trim().toLowerCase()),
            );
          return (
            <ul class="choices">
              {matching.slice(0, 100).map((each) => {
                const isChosen = chosen.includes(each.sensor_identifier);
                return (
                  <li key={each.sensor_identifier}>
                    <label class="check">
                      <input
                        type="checkbox"
                        checked={isChosen}
                        disabled={!isChosen && chosen.length >= MOST_OTHERS}
                        onChange={() =>
                          choose(
                            isChosen
                              ? chosen.filter((other) => other !== each.sensor_identifier)
                              : [...chosen, each.sensor_identifier],
                          )
                        }
                      />
                      {nameOf(each)}
                    </label>
                  </li>
                );
              })}
              {matching.length === 0 && <li class="quiet">{texts.sensors.none}</li>}
              {matching.length > 100 && <li class="quiet">{texts.charts.more}</li>}
            </ul>
          );
        }}
      </Show>
    </div>
  );
}
