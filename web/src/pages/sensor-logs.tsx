/** What a sensor has logged: newest first, live, and how often what went wrong. */
import { useState } from "preact/hooks";
import { api, ask, type Schemas } from "../api/client";
import { useLoad } from "../load";
import type { PageProps } from "../pages";
import { texts } from "../texts";
import { fullTime } from "../time";
import { Filter } from "../ui/controls";
import { SensorHead, useNetwork, useSensor } from "../ui/network-head";
import { Ago, Empty, Show } from "../ui/parts";
import { useReloads } from "../ui/reloads";
import { useFilter } from "../ui/section";

type Entry = Schemas["LogEntry"];

const PAGE = 100;
const MOST = 1000;
const SEVERITIES = ["debug", "info", "warning", "error"];
const STATES: Record<string, string> = { warning: "state-late", error: "state-bad" };

export default function SensorLogsPage({ params }: PageProps) {
  const words = texts.logs;
  const identifier = params.sensor ?? "";
  const path = { identifier };
  const [least, setLeast] = useFilter("severity");
  const [limit, setLimit] = useState(PAGE);
  const network = useNetwork(params.network ?? "");
  const sensor = useSensor(identifier);
  const logs = useLoad(`logs ${identifier} ${limit}`, (signal) =>
    ask(
      api.GET("/api/v1/sensors/{identifier}/logs", { params: { path, query: { limit } }, signal }),
    ),
  );
  const often = useLoad(`log counts ${identifier}`, (signal) =>
    ask(api.GET("/api/v1/sensors/{identifier}/logs/aggregates", { params: { path }, signal })),
  );
  useReloads(["log"], sensor.data?.sensor_identifier, () => {
    logs.reload();
    often.reload();
  });
  // What stands above comes first: it would push down what is below.
  const isRead = often.data !== undefined || often.failure !== undefined;
  return (
    <>
      <SensorHead network={network.data} sensor={sensor} />
      {often.data && often.data.length > 0 && <Often entries={often.data} />}
      {isRead && (
        <div class="tools">
          <Filter
            label={words.severity}
            value={least}
            options={[["", words.any], ...SEVERITIES.slice(1).map((each) => atLeast(each))]}
            onInput={setLeast}
          />
        </div>
      )}
      <Show loaded={isRead ? logs : { ...logs, data: undefined }}>
        {(list) => {
          const from = SEVERITIES.indexOf(least);
          const entries = list
            .filter((each) => SEVERITIES.indexOf(each.severity) >= from)
            .sort((a, b) => b.creation_timestamp - a.creation_timestamp);
          return (
            <>
              {entries.length === 0 ? (
                <Empty title={list.length > 0 ? words.noneSuch : words.empty}>
                  <p>{list.length > 0 ? words.noneSuchHint(list.length) : words.emptyHint}</p>
                </Empty>
              ) : (
                <ul class="rows">
                  {entries.map((entry, index) => (
                    <Row key={`${entry.creation_timestamp} ${index}`} entry={entry} />
                  ))}
                </ul>
              )}
              {list.length >= limit && limit < MOST && (
                <p class="more">
                  <button
                    type="button"
                    class="button"
                    onClick={() => setLimit(Math.min(MOST, limit * 3))}
                  >
                    {texts.audit.older}
                  </button>
                </p>
              )}
            </>
          );
        }}
      </Show>
    </>
  );
}

function atLeast(severity: string): readonly [string, string] {
  return [severity, texts.logs.atLeast(severity)];
}

function Row({ entry }: { entry: Entry }) {
  return (
    <li class="row">
      <span class={`row-mark state ${STATES[entry.severity] ?? "state-off"}`}>
        {texts.logs.severities[entry.severity] ?? entry.severity}
      </span>
      <div class="row-main">
        <p>{entry.subject}</p>
        {entry.details && <p class="quiet">{entry.details}</p>}
        <p class="row-facts quiet">
          <span>{fullTime(entry.creation_timestamp * 1000)}</span>
          {entry.revision !== null && <span>{texts.logs.revision(entry.revision)}</span>}
        </p>
      </div>
      <span class="row-time">
        <Ago time={entry.creation_timestamp * 1000} />
      </span>
    </li>
  );
}

/** Warnings and errors, counted by what they are about. */
function Often({ entries }: { entries: Schemas["LogAggregateEntry"][] }) {
  const words = texts.logs;
  return (
    <table class="table">
      <caption class="hidden">{words.often}</caption>
      <thead>
        <tr>
          <th scope="col" colSpan={2}>
            {words.subject}
          </th>
          <th scope="col" class="number">
            {words.count}
          </th>
          <th scope="col" class="wide-only">
            {words.first}
          </th>
          <th scope="col">{words.last}</th>
        </tr>
      </thead>
      <tbody>
        {entries.map((entry) => (
          <tr key={`${entry.severity} ${entry.subject}`}>
            <td>
              <span class={`state ${STATES[entry.severity] ?? "state-off"}`}>
                {words.severities[entry.severity] ?? entry.severity}
              </span>
            </td>
            <td>{entry.subject}</td>
            <td class="number">{entry.count}</td>
            <td class="wide-only">
              <Ago time={entry.min_creation_timestamp * 1000} />
            </td>
            <td>
              <Ago time={entry.max_creation_timestamp * 1000} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}
