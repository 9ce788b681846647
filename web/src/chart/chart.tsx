/** One chart: lines over time, which can be zoomed and moved with a mouse, a finger and keys. */
import { type Signal, signal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { texts } from "../texts";
import { fullTime, zone } from "../time";
import { type Line, shown } from "./series";
import { offsetOf, ticks } from "./ticks";
import { moved } from "./view";

export interface Drawn {
  key: string;
  label: string;
  unit: string | undefined;
  /** Which of the colours `--chart-1` to `--chart-8`. */
  colour: number;
  line: Line;
}

/** A remark on a time, or on a span of it. */
export interface Mark {
  from: number;
  to: number | undefined;
  text: string;
}

interface Props {
  name: string;
  lines: Drawn[];
  marks: Mark[];
  window: [number, number];
  /** Show this from now on; undefined: what was shown before one zoomed. */
  zoom: (window: [number, number] | undefined) => void;
  /** Where charts are kept that a picture is made of. */
  charts: Set<uPlot>;
}

/** The time under the crosshair, of all charts of a page. */
export const crosshair: Signal<number | undefined> = signal(undefined);

/** Whether somebody drags over a chart: all charts of the page stand still meanwhile. */
const isDragged: Signal<boolean> = signal(false);

const SYNC = "heliograph";
const HEIGHT = 260;
const SHORTEST_DRAG = 6;
/** Of a mark, in pixels. */
const LONGEST_TEXT = 180;

/** Return the colour that a custom property has now. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** The key of the scale that a line is measured by: one a unit. */
function scaleOf(line: Drawn): string {
  return `y ${line.unit ?? line.label}`;
}

export function Chart(given: Props) {
  // What streams in moves the lines, and a new line makes a new chart: neither under a drag.
  const still = useRef(given);
  if (!isDragged.value) still.current = given;
  const props = { ...still.current, zoom: given.zoom };
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  // What handlers see, without a new chart for each.
  const now = useRef(props);
  now.current = props;
  const { lines, window, charts } = props;
  const structure = JSON.stringify([
    lines.map((line) => [line.key, line.label, line.unit, line.colour, Boolean(line.line.low)]),
    zone.value,
  ]);
  const data = useMemo(() => aligned(lines), [structure, ...lines.map((each) => each.line)]);

  useEffect(() => {
    const target = place.current;
    if (!target) return;
    const chart = new uPlot(
      options(target.clientWidth, now.current.lines, zone.value, () => now.current),
      data,
      target,
    );
    plot.current = chart;
    charts.add(chart);
    const endTouch = followTouch(chart, () => now.current.zoom);
    const sizes = new ResizeObserver(() => {
      if (target.clientWidth !== chart.width) {
        chart.setSize({ width: target.clientWidth, height: HEIGHT });
      }
    });
    sizes.observe(target);
    const theme = matchMedia("(prefers-color-scheme: dark)");
    const redraw = () => chart.redraw(false, true);
    theme.addEventListener("change", redraw);
    return () => {
      theme.removeEventListener("change", redraw);
      sizes.disconnect();
      endTouch();
      charts.delete(chart);
      chart.destroy();
      plot.current = undefined;
    };
  }, [structure]);

  // Data that streams in leaves the window as it is.
  useEffect(() => {
    plot.current?.batch(() => {
      plot.current?.setData(data, false);
      plot.current?.setScale("x", { min: window[0], max: window[1] });
    });
  }, [data, window[0], window[1]]);

  useEffect(() => plot.current?.redraw(false), [props.marks]);

  function onKeyDown(event: KeyboardEvent) {
    const steps: Record<string, [number, number]> = {
      ArrowLeft: [-0.25, 1],
      ArrowRight: [0.25, 1],
      "+": [0, 0.5],
      "-": [0, 2],
    };
    const step = steps[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (step) props.zoom(moved(window, ...step));
    else if (event.key === "Escape") props.zoom(undefined);
    else return;
    event.preventDefault();
  }

  return (
    <div
      class="chart"
      ref={place}
      role="img"
      tabIndex={0}
      aria-label={texts.charts.described(
        props.name,
        fullTime(window[0] * 1000),
        fullTime(window[1] * 1000),
      )}
      onKeyDown={onKeyDown}
      onPointerDown={followDrag}
    />
  );
}

/** Have the charts stand still until what was pressed is let go of. */
function followDrag({ pointerId, isPrimary, button }: PointerEvent): void {
  if (!isPrimary || button !== 0) return;
  const ending = new AbortController();
  const { signal } = ending;
  isDragged.value = true;
  const end = (event: Event) => {
    if (event instanceof PointerEvent && event.pointerId !== pointerId) return;
    ending.abort();
    // By then the mouse's own event has come, by which uPlot selects.
    setTimeout(() => {
      isDragged.value = false;
    });
  };
  for (const name of ["pointerup", "pointercancel", "blur"]) {
    addEventListener(name, end, { signal });
  }
}

/** Return the lines by common times: of buckets minimum and maximum beside the average. */
function aligned(lines: Drawn[]): uPlot.AlignedData {
  if (lines.length === 0) return [[]];
  const tables: uPlot.AlignedData[] = lines.map(({ line }) =>
    line.low && line.high
      ? [line.times, line.values, line.high, line.low]
      : [line.times, line.values],
  );
  // A gap reaches to the points around it, whatever times other lines have in between.
  const expanded = 2;
  return uPlot.join(
    tables,
    tables.map((table) => table.map(() => expanded)),
  );
}

function options(
  width: number,
  lines: Drawn[],
  timeZone: string,
  props: () => Props,
): uPlot.Options {
  const offset = offsetOf(timeZone);
  const scales = [...new Set(lines.map(scaleOf))];
  const labels = new Map<number, string>();
  const grid = { stroke: () => colour("--line"), width: 1 };
  const font = "12px system-ui, sans-serif";
  const axis = { stroke: () => colour("--quiet"), font, ticks: { ...grid, size: 4 }, gap: 4 };
  const series: uPlot.Series[] = [{}];
  const bands: uPlot.Band[] = [];
  for (const line of lines) {
    const scale = scaleOf(line);
    const stroke = () => colour(`--chart-${line.colour}`);
    series.push({
      label: line.label,
      scale,
      stroke,
      width: 1.5,
      points: { size: 5, fill: stroke },
    });
    if (line.line.low) {
      const at = series.length;
      const edge = { scale, stroke, width: 0, points: { show: false } };
      series.push({ ...edge, label: `${line.label} ↑` }, { ...edge, label: `${line.label} ↓` });
      bands.push({ series: [at, at + 1], fill: () => `${stroke()}38` });
    }
  }
  return {
    width,
    height: HEIGHT,
    series,
    bands,
    legend: { show: false },
    padding: [10, scales.length > 1 ? 0 : 24, 0, 0],
    scales: {
      x: { time: false, auto: false, min: props().window[0], max: props().window[1] },
      ...Object.fromEntries(scales.map((key) => [key, { range: roomy }])),
    },
    axes: [
      {
        ...axis,
        grid,
        size: 40,
        splits: (_, __, min, max) => {
          const found = ticks(min, max, Math.max(2, width / 84), offset);
          labels.clear();
          found.times.forEach((time, index) => labels.set(time, found.labels[index] ?? ""));
          return found.times;
        },
        values: (_, times) => times.map((time) => labels.get(time) ?? ""),
      },
      // Two scales have room for their numbers; of further ones the table tells.
      ...scales.slice(0, 2).map(
        (scale, index): uPlot.Axis => ({
          ...axis,
          scale,
          side: index === 0 ? 3 : 1,
          grid: { ...grid, show: index === 0 },
          values: (_, values) => values.map((value) => (value === null ? "" : shown(value))),
          // Charts below each other begin at the same place, whatever their numbers.
          size: (_, values) => 14 + 7 * Math.max(5, ...(values ?? []).map((text) => text.length)),
          ...(scales.length > 1 && {
            stroke: () =>
              colour(`--chart-${lines.find((line) => scaleOf(line) === scale)?.colour}`),
          }),
        }),
      ),
    ],
    cursor: {
      sync: { key: SYNC, scales: ["x", null] },
      drag: { x: true, y: false, setScale: false, dist: SHORTEST_DRAG },
      bind: {
        dblclick: () => () => {
          props().zoom(undefined);
          return null;
        },
      },
      points: { size: 7 },
      y: false,
    },
    hooks: {
      setSelect: [(chart) => select(chart, props().zoom)],
      setCursor: [
        (chart) => {
          const left = chart.cursor.left ?? -1;
          crosshair.value = left < 0 ? undefined : chart.posToVal(left, "x");
        },
      ],
      drawClear: [(chart) => drawMarks(chart, props().marks)],
      draw: [(chart) => drawTexts(chart, props().marks)],
    },
  };
}

/** Return the ends of a scale with some room; of a line that is level, with some around it. */
function roomy(_: uPlot, low: number | null, high: number | null): uPlot.Range.MinMax {
  if (low === null || high === null) return [0, 1];
  const room = (high - low || Math.abs(high) / 10 || 1) * 0.06;
  return [low - room, high + room];
}

/** Zoom to what was dragged over. A synced chart hears of it as well, and stays silent. */
function select(chart: uPlot, zoom: Props["zoom"]): void {
  const { left, width } = chart.select;
  if (width < SHORTEST_DRAG) return;
  const window: [number, number] = [chart.posToVal(left, "x"), chart.posToVal(left + width, "x")];
  chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  zoom(window);
}

function drawMarks(chart: uPlot, marks: Mark[]): void {
  const { ctx, bbox } = chart;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  for (const mark of marks) {
    const left = Math.round(chart.valToPos(mark.from, "x", true));
    const right = mark.to === undefined ? left : Math.round(chart.valToPos(mark.to, "x", true));
    ctx.fillStyle = colour("--warn-soft");
    if (right > left) ctx.fillRect(left, bbox.top, right - left, bbox.height);
    ctx.fillStyle = colour("--warn");
    ctx.fillRect(left, bbox.top, uPlot.pxRatio, bbox.height);
  }
  ctx.restore();
}

/** Write what marks say at the top, one beside the other: what has no room is in the list below. */
function drawTexts(chart: uPlot, marks: Mark[]): void {
  const { ctx, bbox } = chart;
  const ratio = uPlot.pxRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.font = `${11.5 * ratio}px system-ui, sans-serif`;
  ctx.textBaseline = "top";
  ctx.textAlign = "left";
  let free = bbox.left;
  for (const { from, text } of marks) {
    const at = chart.valToPos(from, "x", true);
    // One that began before begins at the edge.
    const left = Math.max(at, bbox.left) + 5 * ratio;
    if (left < free) continue;
    const room = Math.min(LONGEST_TEXT * ratio, bbox.left + bbox.width - left - 4 * ratio);
    const shownText = clipped(text, room, (part) => ctx.measureText(part).width);
    if (!shownText) continue;
    const width = ctx.measureText(shownText).width;
    ctx.fillStyle = colour("--surface");
    ctx.globalAlpha = 0.85;
    ctx.fillRect(left - 3 * ratio, bbox.top + 2 * ratio, width + 6 * ratio, 16 * ratio);
    ctx.globalAlpha = 1;
    ctx.fillStyle = colour("--warn");
    ctx.fillText(shownText, left, bbox.top + 4 * ratio);
    free = left + width + 6 * ratio;
  }
  ctx.restore();
}

/** Return as much of a text as has room, or nothing. */
function clipped(text: string, room: number, width: (text: string) => number): string {
  const line = text.split("\n", 1)[0] ?? "";
  if (width(line) <= room) return line;
  let length = line.length;
  while (length > 0 && width(`${line.slice(0, length)}…`) > room) length = Math.floor(length * 0.8);
  return length > 2 ? `${line.slice(0, length)}…` : "";
}

/**
 * Select by a finger that goes sideways, and leave one that goes up and down to the page: the
 * stylesheet has `touch-action: pan-y`, so that the browser takes those and cancels.
 */
function followTouch(chart: uPlot, zoom: () => Props["zoom"]): () => void {
  const { over } = chart;
  let begun: { id: number; left: number } | undefined;
  const position = (event: PointerEvent) => {
    const box = over.getBoundingClientRect();
    return Math.min(Math.max(event.clientX - box.left, 0), box.width);
  };
  const draw = (event: PointerEvent) => {
    if (begun === undefined) return;
    const left = position(event);
    const [low, high] = [Math.min(left, begun.left), Math.max(left, begun.left)];
    const height = over.clientHeight;
    chart.setSelect({ left: low, top: 0, width: high - low, height }, false);
    chart.setCursor({ left, top: 0 });
  };
  const down = (event: PointerEvent) => {
    if (event.pointerType !== "touch" || !event.isPrimary) return;
    begun = { id: event.pointerId, left: position(event) };
    chart.setCursor({ left: begun.left, top: 0 });
  };
  const move = (event: PointerEvent) => {
    if (event.pointerId === begun?.id) draw(event);
  };
  const up = (event: PointerEvent) => {
    if (event.pointerId !== begun?.id) return;
    draw(event);
    begun = undefined;
    select(chart, zoom());
  };
  const cancel = () => {
    begun = undefined;
    chart.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  };
  over.addEventListener("pointerdown", down);
  over.addEventListener("pointermove", move);
  over.addEventListener("pointerup", up);
  over.addEventListener("pointercancel", cancel);
  return () => {
    over.removeEventListener("pointerdown", down);
    over.removeEventListener("pointermove", move);
    over.removeEventListener("pointerup", up);
    over.removeEventListener("pointercancel", cancel);
  };
}

/** Return charts as one picture, with what their lines are called. */
export async function picture(
  title: string,
  charts: { chart: uPlot; names: [string, number][] }[],
): Promise<Blob> {
  const ratio = uPlot.pxRatio;
  const [margin, row] = [16 * ratio, 22 * ratio];
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(...charts.map(({ chart }) => chart.ctx.canvas.width)) + 2 * margin;
  canvas.height =
    charts.reduce((sum, { chart }) => sum + chart.ctx.canvas.height + row, 0) + row + 2 * margin;
  const context = canvas.getContext("2d");
  if (!context) throw new Error("no canvas");
  context.fillStyle = colour("--surface");
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.textBaseline = "middle";
  context.font = `600 ${13 * ratio}px system-ui, sans-serif`;
  context.fillStyle = colour("--ink");
  context.fillText(title, margin, margin + row / 2);
  context.font = `${12.5 * ratio}px system-ui, sans-serif`;
  let top = margin + row;
  for (const { chart, names } of charts) {
    let left = margin;
    for (const [name, number] of names) {
      context.fillStyle = colour(`--chart-${number}`);
      context.fillRect(left, top + row / 2 - ratio, 12 * ratio, 2 * ratio);
      context.fillStyle = colour("--ink");
      context.fillText(name, left + 18 * ratio, top + row / 2);
      left += context.measureText(name).width + 36 * ratio;
    }
    context.drawImage(chart.ctx.canvas, margin, top + row);
    top += row + chart.ctx.canvas.height;
  }
  return new Promise((done, fail) =>
    canvas.toBlob((blob) => (blob ? done(blob) : fail(new Error("no picture"))), "image/png"),
  );
}
