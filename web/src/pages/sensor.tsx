/** A sensor's newest values, and how they went. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type uPlot from "uplot";
import { useSearchParams } from "wouter-preact";
import { Chart, type Drawn, type Mark, picture } from "../chart/chart";
import { keyOf, useLines, type Wanted } from "../chart/lines";
import { NO_LINE, wideCsv } from "../chart/series";
import { queryOf, type View, viewOf } from "../chart/view";
import type { PageProps } from "../pages";
import { ActivityStrip } from "../sensor/activity-strip";
import {
  type Annotation,
  AnnotationDialog,
  AnnotationList,
  type Draft,
  marksOf,
  useAnnotations,
} from "../sensor/annotations";
import { Comparison } from "../sensor/comparison";
import {
  colourAt,
  type Latest,
  labelOf,
  NewestValues,
  numericOf,
  useLatest,
} from "../sensor/newest";
import { useFirst, useOthers, useWidth, useWindow, useZone } from "../sensor/shown";
import { SummaryTable, Values } from "../sensor/tables";
import { ChartTools } from "../sensor/tools";
import "../styles/chart.css";
import { texts } from "../texts";
import { fullTime, zone } from "../time";
import {
  mayEdit,
  nameOf,
  type Sensor,
  SensorHead,
  useNetwork,
  useSensor,
} from "../ui/network-head";
import { Dialog, Empty, Notice, Show } from "../ui/parts";
import { useReloads } from "../ui/reloads";

/** What is shown until one chooses. */
const FIRST = 4;

export default function SensorPage({ params }: PageProps) {
  const identifier = params.sensor ?? "";
  const network = useNetwork(params.network ?? "");
  const sensor = useSensor(identifier);
  const latest = useLatest(identifier);
  // The path may hold the name in place of it.
  const own = sensor.data?.sensor_identifier;
  useReloads(["measurement"], own, latest.reload);
  return (
    <>
      <SensorHead network={network.data} sensor={sensor} />
      <Show loaded={sensor.failure ? { ...latest, failure: sensor.failure } : latest}>
        {(found) =>
          Object.keys(found.attributes).length === 0 ? (
            <Empty title={texts.sensor.empty}>
              <p>{texts.sensor.emptyHint}</p>
            </Empty>
          ) : (
            sensor.data && (
              <Charts sensor={sensor.data} latest={found} isEditor={mayEdit(network.data)} />
            )
          )
        }
      </Show>
    </>
  );
}

function Charts(props: { sensor: Sensor; latest: Latest; isEditor: boolean }) {
  const { sensor, latest, isEditor } = props;
  const [query, setQuery] = useSearchParams();
  const view = useMemo(() => viewOf(query), [query.toString()]);
  const change = (part: Partial<View>) => setQuery(queryOf({ ...view, ...part }));
  useZone(view.zone);
  const numeric = numericOf(latest);
  const attributes = view.attributes ?? numeric.slice(0, FIRST);
  const others = useOthers(view.others);
  const sensors = [sensor, ...others];
  const first = useFirst(view.range === "all" && !view.zoom ? sensors : []);
  const window = useWindow(view, first);
  const [place, width] = useWidth();
  const wanted: Wanted[] = sensors.flatMap((each) =>
    attributes.map((attribute) => ({
      sensor: each.sensor_identifier,
      attribute,
      expected: each.expected_interval,
    })),
  );
  const { lines, isReading, failure } = useLines(wanted, window, {
    isFollowing: view.zoom === undefined,
    width,
    zone: zone.value,
  });
  const drawn: Drawn[] = sensors.flatMap((each, index) =>
    attributes.map((name, at) => {
      const number = numeric.indexOf(name);
      return {
        key: keyOf({ sensor: each.sensor_identifier, attribute: name, expected: null }),
        label:
          others.length > 0 ? `${nameOf(each)} · ${labelOf(latest, name)}` : labelOf(latest, name),
        unit: latest.labels[name]?.unit ?? each.attributes[name]?.unit ?? undefined,
        colour: colourAt((number < 0 ? at : number) + index * 3),
        line: lines.get(`${each.sensor_identifier} ${name}`) ?? NO_LINE,
      };
    }),
  );
  const groups = view.isOneChart
    ? [{ name: texts.charts.all, lines: drawn }]
    : grouped(
        drawn,
        (each) => each.unit ?? each.key.split(" ").slice(1).join(" "),
        (name) => labelOf(latest, name),
      );
  const charts = useRef(new Set<uPlot>()).current;
  const [isComparing, setComparing] = useState(false);
  const zoom = (to: [number, number] | undefined) => change({ zoom: to });
  const annotations = useAnnotations(sensor.sensor_identifier, window);
  // What is selected next is annotated, and not zoomed to.
  const [isAnnotating, setAnnotating] = useState(false);
  const [draft, setDraft] = useState<Draft>();
  function select(to: [number, number] | undefined) {
    if (!isAnnotating || !to) return zoom(to);
    setAnnotating(false);
    setDraft({ from: to[0], to: to[1] });
  }

  const file = `${nameOf(sensor)} ${fileTime(window?.[0])}`;
  function saveCsv() {
    const all = drawn.map(({ label, line }) => ({ name: label, line }));
    save(new Blob([wideCsv(all)], { type: "text/csv" }), `${file}.csv`);
  }
  async function savePng() {
    const pictured = [...charts].map((chart, index) => ({
      chart,
      names: (groups[index]?.lines ?? []).map((each): [string, number] => [
        each.unit ? `${each.label} (${each.unit})` : each.label,
        each.colour,
      ]),
    }));
    const title = `${nameOf(sensor)}   ${spanText(window)}`;
    if (pictured.length > 0) save(await picture(title, pictured), `${file}.png`);
  }
  // What is pressed while a chart is read is saved once it is there.
  const [asked, setAsked] = useState<"csv" | "png">();
  useEffect(() => {
    if (!asked || isReading) return;
    setAsked(undefined);
    if (failure) return;
    if (asked === "csv") saveCsv();
    else void savePng();
  }, [asked, isReading]);

  return (
    <div class="sensor-page">
      <div class="sensor-side">
        <NewestValues
          latest={latest}
          chosen={attributes}
          choose={(names) => change({ attributes: names })}
        />
        <ActivityStrip
          sensor={sensor.sensor_identifier}
          attributes={numeric}
          show={(from, to) => zoom([from, to])}
        />
      </div>
      <section class="charts" aria-label={texts.charts.title}>
        <ChartTools
          view={view}
          window={window}
          change={change}
          compare={() => setComparing(true)}
          annotate={isEditor && window ? () => setAnnotating(true) : undefined}
          asked={asked}
          save={setAsked}
        />
        {isAnnotating && window && (
          <div class="notice notice-done annotating" role="status">
            <p>{texts.annotations.select}</p>
            <button
              type="button"
              class="link"
              onClick={() => {
                setAnnotating(false);
                setDraft({ from: window[0], to: window[1] });
              }}
            >
              {texts.annotations.enter}
            </button>
            <button type="button" class="link" onClick={() => setAnnotating(false)}>
              {texts.cancel}
            </button>
          </div>
        )}
        <p class="chart-span" aria-live="off">
          {spanText(window)}
          <span class="quiet"> {kindText(drawn, isReading)}</span>
        </p>
        {failure && (
          <Notice kind="error">
            <p>{failure.sentence}</p>
          </Notice>
        )}
        {drawn.some(({ line }) => line.isDamaged) && (
          <Notice kind="warning">
            <p>{texts.charts.damaged}</p>
          </Notice>
        )}
        <div ref={place}>
          {attributes.length === 0 && (
            <Empty title={texts.charts.none}>
              <p>{texts.charts.noneHint}</p>
            </Empty>
          )}
          {window &&
            groups.map((group) => (
              <ChartBox
                key={group.name}
                sensor={sensor.sensor_identifier}
                lines={group.lines}
                annotations={annotations.shown}
                window={window}
                zoom={select}
                charts={charts}
              />
            ))}
        </div>
        <p class="hint wide-only">{texts.charts.hint}</p>
        <AnnotationList
          annotations={annotations.shown}
          edit={isEditor ? (annotation) => setDraft({ annotation }) : undefined}
        />
      </section>
      {draft && (
        <AnnotationDialog
          sensor={sensor.sensor_identifier}
          attributes={Object.keys(latest.attributes).map((name) => [name, labelOf(latest, name)])}
          draft={draft}
          close={() => setDraft(undefined)}
          done={() => {
            setDraft(undefined);
            annotations.reload();
          }}
        />
      )}
      {isComparing && (
        <Dialog title={texts.charts.compareTitle} close={() => setComparing(false)}>
          <Comparison
            sensor={sensor}
            chosen={view.others}
            choose={(identifiers) => change({ others: identifiers })}
          />
        </Dialog>
      )}
    </div>
  );
}

/** A chart, with what it shows in numbers. */
function ChartBox(props: {
  sensor: string;
  lines: Drawn[];
  annotations: Annotation[];
  window: [number, number];
  zoom: (window: [number, number] | undefined) => void;
  charts: Set<uPlot>;
}) {
  const { sensor, lines, annotations, window } = props;
  const keys = lines.map((line) => line.key).join("\n");
  const marks = useMemo(
    (): Mark[] =>
      marksOf(annotations, (attribute) =>
        keys.split("\n").includes(keyOf({ sensor, attribute, expected: null })),
      ),
    [annotations, keys, sensor],
  );
  return (
    <figure class="chart-box">
      <Chart
        name={lines.map((line) => line.label).join(", ")}
        lines={lines}
        marks={marks}
        window={window}
        zoom={props.zoom}
        charts={props.charts}
      />
      <figcaption>
        <SummaryTable lines={lines} window={window} />
        <Values lines={lines} window={window} />
      </figcaption>
    </figure>
  );
}

function grouped(lines: Drawn[], by: (line: Drawn) => string, nameFor: (key: string) => string) {
  const groups = new Map<string, Drawn[]>();
  for (const line of lines) groups.set(by(line), [...(groups.get(by(line)) ?? []), line]);
  return [...groups].map(([key, members]) => ({ name: nameFor(key), lines: members }));
}

function kindText(lines: Drawn[], isReading: boolean): string {
  const length = Math.max(0, ...lines.map(({ line }) => line.length ?? 0));
  if (isReading && lines.every(({ line }) => line.times.length === 0)) return texts.loading;
  if (length > 0) return texts.charts.buckets(lengthText(length));
  return lines.every(({ line }) => line.isWhole) ? texts.charts.whole : texts.charts.selected;
}

function lengthText(seconds: number): string {
  if (seconds > 2_000_000) return texts.charts.length(1, "month");
  for (const [length, unit] of [
    [604_800, "week"],
    [86_400, "day"],
    [3600, "hour"],
    [60, "minute"],
  ] as const) {
    const count = seconds / length;
    if (count >= 1) return texts.charts.length(count, unit);
  }
  return texts.charts.length(seconds, "second");
}

function spanText(window: [number, number] | undefined): string {
  if (!window) return texts.loading;
  return `${fullTime(window[0] * 1000)} – ${fullTime(window[1] * 1000)}`;
}

function fileTime(time: number | undefined): string {
  return new Date((time ?? 0) * 1000).toISOString().slice(0, 16).replaceAll(":", "");
}

function save(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
