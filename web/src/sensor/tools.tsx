/** What a sensor's charts show, chosen: range, zone, one chart or several, and what to do with it. */
import { moved, RANGES, type View } from "../chart/view";
import { texts } from "../texts";
import { zone, zoneOfBrowser } from "../time";

export function ChartTools(props: {
  view: View;
  window: [number, number] | undefined;
  change: (part: Partial<View>) => void;
  compare: () => void;
  /** undefined: one may not. */
  annotate: (() => void) | undefined;
  /** What is saved once it is read. */
  asked: "csv" | "png" | undefined;
  save: (what: "csv" | "png") => void;
}) {
  const { view, window, change } = props;
  const zoom = (to: [number, number] | undefined) => change({ zoom: to });
  return (
    <div class="chart-tools">
      <div class="segments" role="group" aria-label={texts.charts.range}>
        {RANGES.map((range) => (
          <button
            key={range}
            type="button"
            aria-pressed={!view.zoom && view.range === range}
            onClick={() => change({ range, zoom: undefined })}
          >
            {texts.charts.ranges[range]}
          </button>
        ))}
      </div>
      <div class="segments" role="group" aria-label={texts.charts.move}>
        {(
          [
            ["←", texts.charts.earlier, -0.5, 1],
            ["→", texts.charts.later, 0.5, 1],
            ["−", texts.charts.longer, 0, 2],
            ["+", texts.charts.shorter, 0, 0.5],
          ] as const
        ).map(([sign, label, by, length]) => (
          <button
            key={sign}
            type="button"
            aria-label={label}
            title={label}
            onClick={() => window && zoom(moved(window, by, length))}
          >
            {sign}
          </button>
        ))}
        <button type="button" disabled={!view.zoom} onClick={() => zoom(undefined)}>
          {texts.charts.back}
        </button>
      </div>
      <ZoneChoice chosen={view.zone} choose={(name) => change({ zone: name })} />
      <div class="chart-actions">
        <label class="check">
          <input
            type="checkbox"
            checked={view.isOneChart}
            onChange={(event) => change({ isOneChart: event.currentTarget.checked })}
          />
          {texts.charts.one}
        </label>
        {props.annotate && (
          <button type="button" class="link" onClick={props.annotate}>
            {texts.annotations.annotate}
          </button>
        )}
        <button type="button" class="link" onClick={props.compare}>
          {texts.charts.compare}
        </button>
        {(["csv", "png"] as const).map((what) => (
          <button
            key={what}
            type="button"
            class="link"
            aria-busy={props.asked === what}
            onClick={() => props.save(what)}
          >
            {what.toUpperCase()}
          </button>
        ))}
      </div>
    </div>
  );
}

function ZoneChoice(props: { chosen: string | undefined; choose: (name: string) => void }) {
  const known = [...new Set([zone.value, zoneOfBrowser, "UTC"])];
  const all = Intl.supportedValuesOf("timeZone").filter((name) => !known.includes(name));
  return (
    <label class="zone-choice">
      <span class="hidden">{texts.account.zone}</span>
      <select value={zone.value} onChange={(event) => props.choose(event.currentTarget.value)}>
        {known.concat(all).map((name) => (
          <option key={name} value={name}>
            {name.replaceAll("_", " ")}
          </option>
        ))}
      </select>
    </label>
  );
}
