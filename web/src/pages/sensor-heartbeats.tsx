/** Whether a sensor lives: its connection, its signs of life over time, and each heartbeat. */
import { useMemo, useState } from "preact/hooks";
import { api, ask, type Schemas } from "../api/client";
import { useLoad } from "../load";
import { hasSentSince } from "../network/rows";
import type { PageProps } from "../pages";
import { presenceOf } from "../sensor/presence";
import "../styles/sensor.css";
import { texts } from "../texts";
import { fullTime, now, span } from "../time";
import { type Sensor, SensorHead, useNetwork, useSensor } from "../ui/network-head";
import { Ago, Empty, Show } from "../ui/parts";
import { useReloads } from "../ui/reloads";

type Entry = Schemas["HeartbeatEntry"];

const PAGE = 200;
const MOST = 1000;
const MOST_GAPS = 5;
const WIDTH = 1000;
const words = texts.heartbeats;

export default function SensorHeartbeatsPage({ params }: PageProps) {
  const identifier = params.sensor ?? "";
  const path = { identifier };
  const [limit, setLimit] = useState(PAGE);
  const network = useNetwork(params.network ?? "");
  const sensor = useSensor(identifier);
  const heartbeats = useLoad(`heartbeats ${identifier} ${limit}`, async (signal) => {
    const list = await ask(
      api.GET("/api/v1/sensors/{identifier}/heartbeats", {
        params: { path, query: { limit } },
        signal,
      }),
    );
    return list.sort((a, b) => b.creation_timestamp - a.creation_timestamp);
  });
  const own = sensor.data?.sensor_identifier;
  // What stands above comes first: it would push down what is below.
  const isRead = sensor.data !== undefined || sensor.failure !== undefined;
  useReloads(["heartbeat"], own, heartbeats.reload);
  useReloads(["heartbeat", "presence", "measurement", "log"], own, sensor.reload);
  return (
    <>
      <SensorHead network={network.data} sensor={sensor} />
      {sensor.data && <State sensor={sensor.data} />}
      <Show loaded={isRead ? heartbeats : { ...heartbeats, data: undefined }}>
        {(list) =>
          list.length === 0 ? (
            <Empty title={words.empty}>
              <p>{words.emptyHint}</p>
            </Empty>
          ) : (
            <>
              <Course list={list} expected={sensor.data?.expected_interval ?? null} />
              <ul class="rows">
                {list.map((entry, index) => (
                  <Row key={`${entry.creation_timestamp} ${index}`} entry={entry} />
                ))}
              </ul>
              {list.length >= limit && limit < MOST && (
                <p class="more">
                  <button type="button" class="button" onClick={() => setLimit(MOST)}>
                    {texts.audit.older}
                  </button>
                </p>
              )}
            </>
          )
        }
      </Show>
    </>
  );
}

function State({ sensor }: { sensor: Sensor }) {
  const { connected, connected_changed_at: changed } = sensor;
  const hasOwn = connected || (connected === false && !hasSentSince(sensor));
  return (
    <section class="panel">
      <dl class="facts">
        <dt>{words.connection}</dt>
        <dd>
          {!hasOwn ? (
            <span class="quiet">{sensor.last_seen_at ? words.noOwn : words.neverSaid}</span>
          ) : (
            <>
              <span class={`state ${connected ? "state-ok" : "state-off"}`}>
                {connected ? texts.sensors.connected : texts.sensors.disconnected}
              </span>
              {changed && <span class="quiet"> {words.since(fullTime(changed))}</span>}
            </>
          )}
        </dd>
        <dt>{words.seen}</dt>
        <dd>
          {sensor.last_seen_at ? fullTime(sensor.last_seen_at) : words.never}
          {sensor.late && <span class="state state-late late-mark">{words.late}</span>}
        </dd>
        <dt>{words.expected}</dt>
        <dd>
          {sensor.expected_interval === null ? (
            <span class="quiet">{words.noInterval}</span>
          ) : (
            words.every(span(sensor.expected_interval))
          )}
        </dd>
      </dl>
    </section>
  );
}

/** When signs of life came, as a bar, and the longest gaps between them in words. */
function Course({ list, expected }: { list: Entry[]; expected: number | null }) {
  const minute = Math.floor(now.value / 60_000) * 60;
  const { alive, gaps } = useMemo(
    () =>
      presenceOf(
        list.map((each) => each.creation_timestamp),
        minute,
        expected,
      ),
    [list, minute, expected],
  );
  const first = alive[0]?.from ?? minute;
  const end = Math.max(minute, alive.at(-1)?.to ?? minute);
  const length = Math.max(1, end - first);
  const at = (time: number) => ((time - first) / length) * WIDTH;
  const longest = gaps.toSorted((a, b) => b.to - b.from - (a.to - a.from)).slice(0, MOST_GAPS);
  const label = words.courseOf(list.length, fullTime(first * 1000));
  return (
    <section class="panel presence">
      <h2>{words.course}</h2>
      <svg
        class="presence-bar"
        viewBox={`0 0 ${WIDTH} 20`}
        preserveAspectRatio="none"
        role="img"
        aria-label={label}
      >
        {alive.map(({ from, to }) => (
          <rect key={from} x={at(from)} y={0} width={Math.max(2, at(to) - at(from))} height={20} />
        ))}
      </svg>
      <p class="quiet small">{label}</p>
      {longest.length === 0 ? (
        <p class="quiet small">{words.noGaps}</p>
      ) : (
        <>
          <h3>{words.gaps}</h3>
          <ul class="presence-gaps">
            {longest.map(({ from, to }) => (
              <li key={from}>
                <strong>{words.gap(span(to - from))}</strong>
                <span class="quiet">
                  {fullTime(from * 1000)} – {to === minute ? words.ongoing : fullTime(to * 1000)}
                </span>
              </li>
            ))}
          </ul>
        </>
      )}
    </section>
  );
}

function Row({ entry }: { entry: Entry }) {
  const [state, label] =
    entry.success === null
      ? ["state-off", words.alive]
      : entry.success
        ? ["state-ok", words.applied]
        : ["state-bad", words.failed];
  return (
    <li class="row">
      <span class={`row-mark state ${state}`}>{label}</span>
      <div class="row-main">
        {entry.details && <p class="code-line">{JSON.stringify(entry.details)}</p>}
        <p class="row-facts quiet">
          <span>{fullTime(entry.creation_timestamp * 1000)}</span>
          {entry.revision !== null && <span>{words.revision(entry.revision)}</span>}
          {entry.flagged && <span>{words.flagged}</span>}
        </p>
      </div>
      <span class="row-time">
        <Ago time={entry.creation_timestamp * 1000} />
      </span>
    </li>
  );
}
