/** The form of a board's panel: what it shows, and where it stands. */
import { useState } from "preact/hooks";
import type { Schemas } from "../api/client";
import type { Rows } from "../network/rows";
import { texts } from "../texts";
import { Check, type Option, Select } from "./controls";
import { nameOf } from "./network-head";
import { Field, Form } from "./parts";

type Panel = Schemas["PanelRepresentation"];
type Series = Schemas["SeriesRepresentation"];

const words = texts.boards;
const MOST_SERIES = 16;
const RANGES = ["15m", "1h", "6h", "24h", "7d", "30d", "365d"];

interface Props {
  rows: Rows;
  panels: Panel[];
  /** Which panel it is; one beyond the last: a new one. */
  index: number;
  keep: (panels: Panel[]) => Promise<void>;
  cancel: () => void;
}

export function PanelForm({ rows, panels, index, keep, cancel }: Props) {
  const before = panels[index];
  const sensors = [...rows.all.values()]
    .map(({ sensor }): Option => [sensor.sensor_identifier, nameOf(sensor)])
    .sort(([, one], [, other]) => one.localeCompare(other, "en", { numeric: true }));
  const first: Series = { sensor: sensors[0]?.[0] ?? "", attribute: "" };
  const [panel, setPanel] = useState<Panel>(
    before ?? { kind: "chart", title: null, range: "24h", wide: false, series: [first] },
  );
  const change = (members: Partial<Panel>) => setPanel({ ...panel, ...members });
  const others = panels.filter((_, each) => each !== index);
  // One without an attribute is not finished.
  const series = panel.series.filter(({ attribute }) => attribute);
  const keepAt = (at: number) => keep(others.toSpliced(at, 0, { ...panel, series }));
  return (
    <Form submit={texts.save} send={() => keepAt(index)} cancel={cancel}>
      {(problems) => (
        <>
          {Object.entries(problems).map(([name, problem]) => (
            <p key={name} class="field-problem" role="alert">
              {problem}
            </p>
          ))}
          <Select
            label={words.kind}
            value={panel.kind}
            options={Object.entries(words.kinds)}
            onInput={(kind) => change({ kind })}
          />
          <Field
            label={words.panelTitle}
            value={panel.title ?? ""}
            onInput={(title) => change({ title: title || null })}
            maxLength={255}
            autocomplete="off"
          />
          {panel.kind === "chart" && (
            <Select
              label={words.range}
              value={panel.range}
              options={[...new Set([...RANGES, panel.range])].map((range) => [
                range,
                words.last(range),
              ])}
              onInput={(range) => change({ range })}
            />
          )}
          <fieldset class="panel-series">
            <legend>{words.shows}</legend>
            {panel.series.map((each, at) => (
              <One
                key={at}
                series={each}
                sensors={sensors}
                attributes={rows.all.get(each.sensor)?.names() ?? []}
                change={(series) => change({ series: panel.series.with(at, series) })}
                remove={
                  panel.series.length > 1
                    ? () => change({ series: panel.series.toSpliced(at, 1) })
                    : undefined
                }
              />
            ))}
            {panel.series.length < MOST_SERIES && (
              <button
                type="button"
                class="link"
                onClick={() =>
                  change({
                    series: [...panel.series, { ...(panel.series.at(-1) ?? first), attribute: "" }],
                  })
                }
              >
                {words.more}
              </button>
            )}
          </fieldset>
          <Check label={words.wide} value={panel.wide} onInput={(wide) => change({ wide })} />
          {before && (
            <p class="panel-order">
              {index > 0 && (
                <button type="button" class="link" onClick={() => void keepAt(index - 1)}>
                  {words.earlier}
                </button>
              )}
              {index < panels.length - 1 && (
                <button type="button" class="link" onClick={() => void keepAt(index + 1)}>
                  {words.later}
                </button>
              )}
              <button type="button" class="link" onClick={() => void keep(others)}>
                {words.removePanel}
              </button>
            </p>
          )}
        </>
      )}
    </Form>
  );
}

function One(props: {
  series: Series;
  sensors: Option[];
  attributes: string[];
  change: (series: Series) => void;
  remove: (() => void) | undefined;
}) {
  const { series, sensors, attributes, change, remove } = props;
  const known = sensors.some(([identifier]) => identifier === series.sensor);
  const names = [...new Set([series.attribute, ...attributes])];
  return (
    <div class="panel-one">
      <Select
        label={words.sensor}
        value={series.sensor}
        options={known ? sensors : [[series.sensor, words.gone], ...sensors]}
        onInput={(sensor) => change({ sensor, attribute: "" })}
      />
      <Select
        label={words.attribute}
        value={series.attribute}
        options={names.map((name) => [name, name || words.choose])}
        onInput={(attribute) => change({ ...series, attribute })}
      />
      {remove && (
        <button type="button" class="link" onClick={remove}>
          {words.removeSeries}
        </button>
      )}
    </div>
  );
}
