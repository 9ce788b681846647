/** A sensor's newest values, which are chosen here for its charts. */
import { api, ask, type Schemas } from "../api/client";
import { numberOf, shown } from "../chart/series";
import { type Loaded, useLoad } from "../load";
import { texts } from "../texts";
import { Ago } from "../ui/parts";

const COLOURS = 8;

export type Latest = Schemas["Latest"];

/** Read a sensor's newest values. */
export function useLatest(identifier: string): Loaded<Latest> {
  const path = { identifier };
  return useLoad(`latest ${identifier}`, (signal) =>
    ask(api.GET("/api/v1/sensors/{identifier}/latest", { params: { path }, signal })),
  );
}

/** Return the attributes that are numbers now: those that can be drawn. */
export function numericOf(latest: Latest): string[] {
  return Object.keys(latest.attributes).filter(
    (name) => numberOf(latest.attributes[name]?.value) !== undefined,
  );
}

/** Return what people call an attribute. */
export function labelOf(latest: Latest, name: string): string {
  return latest.labels[name]?.display_name ?? name;
}

/** Return the colour of the attribute at a place among those that are numbers. */
export function colourAt(index: number): number {
  return (index % COLOURS) + 1;
}

export function NewestValues(props: {
  latest: Latest;
  chosen: string[];
  choose: (names: string[]) => void;
}) {
  const { latest, chosen, choose } = props;
  const numeric = numericOf(latest);
  function toggle(name: string, isOn: boolean) {
    choose(
      isOn
        ? Object.keys(latest.attributes).filter((each) => each === name || chosen.includes(each))
        : chosen.filter((each) => each !== name),
    );
  }
  return (
    <section class="values" aria-label={texts.sensor.latest}>
      <table class="table">
        <thead>
          <tr>
            <th scope="col">{texts.sensor.attribute}</th>
            <th scope="col" class="number">
              {texts.sensor.value}
            </th>
            <th scope="col" class="number">
              {texts.sensor.time}
            </th>
          </tr>
        </thead>
        <tbody>
          {Object.entries(latest.attributes).map(([name, { value, timestamp }]) => {
            const number = numberOf(value);
            const index = numeric.indexOf(name);
            const unit = latest.labels[name]?.unit;
            return (
              <tr key={name}>
                <td>
                  {number === undefined ? (
                    <span class="value-name value-plain">{labelOf(latest, name)}</span>
                  ) : (
                    <label class={`value-name chart-${colourAt(index)}`}>
                      <input
                        type="checkbox"
                        checked={chosen.includes(name)}
                        onChange={(event) => toggle(name, event.currentTarget.checked)}
                      />
                      {labelOf(latest, name)}
                    </label>
                  )}
                </td>
                <td
                  class="number value-now"
                  title={number === undefined ? asText(value) : undefined}
                >
                  {typeof value === "number" ? shown(value) : asText(value)}
                  {unit && <span class="quiet"> {unit}</span>}
                </td>
                <td class="number quiet value-time">
                  <Ago time={timestamp} />
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </section>
  );
}

function asText(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
