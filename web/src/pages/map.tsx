/** A map of a network's sensors: a plain projection with a scale, drawn without anything from elsewhere. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { worst } from "../network/chosen";
import { fitting, type Point, projected, scaleLength } from "../network/projection";
import type { Row, Rows } from "../network/rows";
import { useRows } from "../network/use-rows";
import { shownValue } from "../network/values";
import type { PageProps } from "../pages";
import "../styles/map.css";
import { texts } from "../texts";
import { now } from "../time";
import { NetworkHead, nameOf, useNetwork } from "../ui/network-head";
import { Ago, Empty, Show } from "../ui/parts";

const words = texts.map;
const MARGIN = 36;
const LONGEST_SCALE = 120;
const STEP = 1.6;
const STATES = ["unknown", "ok", "late", "alert"] as const;
type State = (typeof STATES)[number];

export default function MapPage({ params }: PageProps) {
  const network = useNetwork(params.network ?? "");
  const { rows, loaded } = useRows(params.network ?? "");
  return (
    <>
      <NetworkHead network={network} />
      <Show loaded={network.failure ? { ...loaded, failure: network.failure } : loaded}>
        {() => <Placed rows={rows} />}
      </Show>
    </>
  );
}

function Placed({ rows }: { rows: Rows }) {
  const version = rows.version.value;
  const placed = useMemo(
    () =>
      [...rows.all.values()].filter(
        ({ sensor }) => sensor.latitude !== null && sensor.longitude !== null,
      ),
    [rows, version],
  );
  if (placed.length === 0) {
    return (
      <Empty title={words.empty}>
        <p>{words.emptyHint}</p>
      </Empty>
    );
  }
  return (
    <>
      <Plan placed={placed} />
      <p class="quiet map-note">{words.placed(placed.length, rows.all.size - placed.length)}</p>
    </>
  );
}

function Plan({ placed }: { placed: Row[] }) {
  const place = useRef<HTMLDivElement>(null);
  const [[width, height], setSize] = useState([0, 0]);
  const [zoom, setZoom] = useState(1);
  const [centre, setCentre] = useState<Point>({ east: 0, north: 0 });
  const [chosen, setChosen] = useState<Row>();
  useEffect(() => {
    const target = place.current;
    if (!target) return;
    const sizes = new ResizeObserver(() => setSize([target.clientWidth, target.clientHeight]));
    sizes.observe(target);
    return () => sizes.disconnect();
  }, []);
  const points = useMemo(
    () =>
      projected(
        placed.map(({ sensor }) => ({
          latitude: sensor.latitude ?? 0,
          longitude: sensor.longitude ?? 0,
        })),
      ),
    [placed],
  );
  const fit = fitting(points, Math.max(width - 2 * MARGIN, 1), Math.max(height - 2 * MARGIN, 1));
  const scale = fit * zoom;
  const length = scaleLength(scale, LONGEST_SCALE);
  const drag = useDrag((x, y) =>
    setCentre(({ east, north }) => ({ east: east - x / scale, north: north + y / scale })),
  );
  return (
    <div class="map">
      <div class="map-plan" ref={place} {...drag}>
        <ul aria-label={words.title}>
          {width > 0 &&
            placed.map((row, index) => {
              const point = points[index];
              if (!point) return null;
              return (
                <Dot
                  key={row.sensor.sensor_identifier}
                  row={row}
                  x={width / 2 + (point.east - centre.east) * scale}
                  y={height / 2 - (point.north - centre.north) * scale}
                  isChosen={row === chosen}
                  choose={setChosen}
                />
              );
            })}
        </ul>
        <div class="map-scale">
          <span>{length < 1000 ? `${length} m` : `${length / 1000} km`}</span>
          <i style={{ width: `${length * scale}px` }} />
        </div>
        <span class="map-north" title={words.north}>
          N ↑
        </span>
        <div class="map-tools">
          <button
            type="button"
            class="button"
            aria-label={words.closer}
            onClick={() => {
              setZoom(zoom * STEP);
              // A finger, which scrolls the page, moves the map by choosing.
              const point = chosen && points[placed.indexOf(chosen)];
              if (point) setCentre(point);
            }}
          >
            +
          </button>
          <button
            type="button"
            class="button"
            aria-label={words.farther}
            onClick={() => setZoom(zoom / STEP)}
          >
            −
          </button>
          <button
            type="button"
            class="button"
            onClick={() => {
              setZoom(1);
              setCentre({ east: 0, north: 0 });
            }}
          >
            {words.all}
          </button>
        </div>
      </div>
      <aside class="map-card" aria-live="polite">
        {chosen ? <Card row={chosen} /> : <p class="quiet">{words.choose}</p>}
        <ul class="map-key">
          {STATES.map((state) => (
            <li key={state}>
              <i class={`map-mark map-${state}`} />
              {words.states[state]}
            </li>
          ))}
        </ul>
      </aside>
    </div>
  );
}

function stateOf(row: Row): State {
  if (worst(row) > 0) return "alert";
  if (row.isLate(now.value)) return "late";
  return row.sensor.connected || row.sensor.late === false ? "ok" : "unknown";
}

function Dot(props: {
  row: Row;
  x: number;
  y: number;
  isChosen: boolean;
  choose: (row: Row) => void;
}) {
  const { row, x, y, isChosen, choose } = props;
  const state = stateOf(row);
  return (
    <li
      class={isChosen ? "map-dot map-chosen" : "map-dot"}
      style={{ transform: `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px)` }}
    >
      <button
        type="button"
        class={`map-mark map-${state}`}
        aria-label={`${nameOf(row.sensor)}, ${words.states[state]}`}
        aria-pressed={isChosen}
        onClick={() => choose(row)}
        onFocus={() => choose(row)}
        onPointerEnter={(event) => event.pointerType === "mouse" && choose(row)}
      />
      {isChosen && <span class="map-name">{nameOf(row.sensor)}</span>}
    </li>
  );
}

function Card({ row }: { row: Row }) {
  // The row is changed in place.
  void row.version.value;
  const { sensor } = row;
  return (
    <>
      <h2>
        <Link href={`/networks/${sensor.network_identifier}/sensors/${sensor.sensor_identifier}`}>
          {nameOf(sensor)}
        </Link>
      </h2>
      {sensor.place && <p class="quiet">{sensor.place}</p>}
      <dl class="facts">
        {row.names().map((name) => (
          <div class="map-fact" key={name}>
            <dt>{sensor.attributes[name]?.display_name ?? name}</dt>
            <dd class="number">
              {shownValue(row.values.get(name)?.value)} {sensor.attributes[name]?.unit}
            </dd>
          </div>
        ))}
      </dl>
      <p class="quiet">
        {texts.sensors.seen}: <Ago time={row.seen || undefined} otherwise={texts.sensors.never} />
      </p>
      {[...row.alerts.values()].map((alert) => (
        <p key={alert.id}>
          <Link href={`/alerts/${alert.id}`}>{alert.name}</Link>
        </p>
      ))}
    </>
  );
}

/** Return handlers that follow a drag by its steps in pixels. */
function useDrag(move: (x: number, y: number) => void) {
  const last = useRef<[number, number]>();
  return {
    onPointerDown(event: PointerEvent & { currentTarget: HTMLElement }) {
      // Buttons keep their clicks; a finger scrolls the page.
      if (event.target instanceof HTMLButtonElement || event.pointerType === "touch") return;
      last.current = [event.clientX, event.clientY];
      event.currentTarget.setPointerCapture(event.pointerId);
    },
    onPointerMove(event: PointerEvent) {
      if (!last.current) return;
      move(event.clientX - last.current[0], event.clientY - last.current[1]);
      last.current = [event.clientX, event.clientY];
    },
    onPointerUp() {
      last.current = undefined;
    },
    onPointerCancel() {
      last.current = undefined;
    },
  };
}
