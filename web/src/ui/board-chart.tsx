/** A chart on a board: how attributes of sensors went, up to now, live. */

import { useMemo, useState } from "preact/hooks";
import type uPlot from "uplot";
import type { Schemas } from "../api/client";
import { Chart, type Drawn } from "../chart/chart";
import { keyOf, useLines } from "../chart/lines";
import { NO_LINE, shown, summary } from "../chart/series";
import { labelOf, type Rows } from "../network/rows";
import "../styles/chart.css";
import { texts } from "../texts";
import { now, zone } from "../time";
import { nameOf } from "./network-head";
import { Notice } from "./parts";

type Panel = Schemas["PanelRepresentation"];

const words = texts.boards;
const COLOURS = 8;
/** A chart moves on so many times in its range, and at most once a second. */
const TURNS = 1000;
const SECONDS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };
/** As many buckets as a panel has room for, and a wide one. */
const [WIDTH, WIDE] = [600, 1000];

export function BoardChart({ panel, rows, title }: { panel: Panel; rows: Rows; title: string }) {
  const [zoomed, zoom] = useState<[number, number]>();
  const charts = useMemo(() => new Set<uPlot>(), []);
  const length = Number.parseInt(panel.range, 10) * (SECONDS[panel.range.at(-1) ?? ""] ?? 1);
  const step = Math.max(length / TURNS, 1);
  const end = Math.ceil(now.value / 1000 / step) * step;
  const window = zoomed ?? ([end - length, end] as [number, number]);
  const series = panel.series.map(({ sensor, attribute }) => {
    const row = rows.all.get(sensor);
    return { row, wanted: { sensor, attribute, expected: row?.sensor.expected_interval } };
  });
  const { lines, isReading, failure } = useLines(
    // Of a sensor that is gone nothing can be read.
    series.flatMap(({ row, wanted }) => (row ? [wanted] : [])),
    window,
    { isFollowing: !zoomed, width: panel.wide ? WIDE : WIDTH, zone: zone.value },
  );
  const drawn: Drawn[] = series.map(({ row, wanted }, index) => ({
    key: keyOf(wanted),
    label: row ? `${nameOf(row.sensor)} ${labelOf(row, wanted.attribute)}` : words.gone,
    unit: row?.sensor.attributes[wanted.attribute]?.unit ?? undefined,
    colour: (index % COLOURS) + 1,
    line: lines.get(keyOf(wanted)) ?? NO_LINE,
  }));
  return (
    <div aria-busy={isReading}>
      {failure && <Notice kind="error">{failure.sentence}</Notice>}
      {drawn.some(({ line }) => line.isDamaged) && (
        <Notice kind="warning">{texts.charts.damaged}</Notice>
      )}
      <Chart name={title} lines={drawn} marks={[]} window={window} zoom={zoom} charts={charts} />
      <table class="board-legend">
        <thead class="hidden">
          <tr>
            <th scope="col">{words.line}</th>
            <th scope="col">{words.newest}</th>
            <th scope="col">{words.span}</th>
          </tr>
        </thead>
        <tbody>
          {drawn.map(({ key, label, unit, colour, line }) => {
            const { last, low, high } = summary(line, window);
            return (
              <tr key={key}>
                <th scope="row">
                  <span class={`board-key chart-${colour}`}>{label}</span>
                </th>
                <td class="number">{last !== undefined && `${shown(last)} ${unit ?? ""}`}</td>
                <td class="number quiet">
                  {last !== undefined && `${shown(low)} – ${shown(high)}`}
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
