/** What a chart shows, in numbers. */
import { useState } from "preact/hooks";
import { crosshair, type Drawn } from "../chart/chart";
import { rounded, shown, summary, valueNear } from "../chart/series";
import { texts } from "../texts";
import { fullTime } from "../time";

/** As long as a table beside a chart is at most. */
const ROWS = 500;

/** What lines come to in the window, or show under the crosshair. */
export function SummaryTable({ lines, window }: { lines: Drawn[]; window: [number, number] }) {
  const at = crosshair.value;
  const isPointed = at !== undefined && at >= window[0] && at <= window[1];
  const tolerance = (window[1] - window[0]) / 50;
  return (
    <table class="summary">
      <thead>
        <tr>
          <th scope="col">
            <span class="hidden">{texts.sensor.attribute}</span>
            <span class="summary-time">{isPointed ? fullTime(at * 1000) : ""}</span>
          </th>
          <th scope="col">{isPointed ? texts.charts.there : texts.charts.last}</th>
          <th scope="col">{texts.charts.low}</th>
          <th scope="col">{texts.charts.average}</th>
          <th scope="col">{texts.charts.high}</th>
        </tr>
      </thead>
      <tbody>
        {lines.map(({ key, label, unit, colour, line }) => {
          const found = summary(line, window);
          const value = isPointed ? valueNear(line, at, tolerance) : found.last;
          return (
            <tr key={key}>
              <th scope="row" class={`swatch chart-${colour}`}>
                {label}
                {unit && <span class="quiet"> {unit}</span>}
              </th>
              <td>{shown(line.length ? rounded(value, found) : value)}</td>
              <td>{shown(found.low)}</td>
              <td>{shown(rounded(found.average, found))}</td>
              <td>{shown(found.high)}</td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}

/** What a chart shows, as a table: for those who can't see it. */
export function Values({ lines, window }: { lines: Drawn[]; window: [number, number] }) {
  const [isOpen, setOpen] = useState(false);
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{texts.charts.table}</summary>
      {isOpen &&
        lines.map(({ key, label, unit, line }) => {
          const rows = line.times.flatMap((time, index) =>
            time >= window[0] && time <= window[1] && line.values[index] !== null
              ? [[time, index] as const]
              : [],
          );
          return (
            <div class="values-table" key={key} tabIndex={0} role="region" aria-label={label}>
              <table class="summary">
                <caption>{texts.charts.rows(Math.min(rows.length, ROWS), rows.length)}</caption>
                <thead>
                  <tr>
                    <th scope="col">{texts.sensor.time}</th>
                    <th scope="col">{unit ? `${label} ${unit}` : label}</th>
                    {line.low && (
                      <>
                        <th scope="col">{texts.charts.low}</th>
                        <th scope="col">{texts.charts.high}</th>
                      </>
                    )}
                  </tr>
                </thead>
                <tbody>
                  {rows.slice(-ROWS).map(([time, index]) => (
                    <tr key={time}>
                      <th scope="row">{fullTime(time * 1000)}</th>
                      <td>{shown(line.values[index] ?? undefined)}</td>
                      {line.low && (
                        <>
                          <td>{shown(line.low[index] ?? undefined)}</td>
                          <td>{shown(line.high?.[index] ?? undefined)}</td>
                        </>
                      )}
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          );
        })}
    </details>
  );
}
