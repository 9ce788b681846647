/** A network's sensors: newest values, courses, presence and alerts, live. */
import { useComputed } from "@preact/signals";
import { useEffect, useMemo, useState } from "preact/hooks";
import { Link, useSearchParams } from "wouter-preact";
import { type Choice, choiceOf, chosen, isOfTime, type Sort, worst } from "../network/chosen";
import { courseOf, wantCourse } from "../network/courses";
import type { Row, Rows } from "../network/rows";
import { useRows } from "../network/use-rows";
import { shownValue } from "../network/values";
import type { PageProps } from "../pages";
import "../styles/network.css";
import { texts } from "../texts";
import { now } from "../time";
import { mayEdit, NetworkHead, nameOf, useNetwork } from "../ui/network-head";
import { Ago, Empty, Icon, Show } from "../ui/parts";
import { Sparkline } from "../ui/sparkline";
import { useSeenRows } from "../ui/virtual";

const NARROW = "(max-width: 719px)";
const HEIGHT = 54;
const HEIGHT_NARROW = 116;
const SHOWN_VALUES = 3;

export default function SensorsPage({ params }: PageProps) {
  const identifier = params.network ?? "";
  const network = useNetwork(identifier);
  const { rows, loaded } = useRows(identifier);
  return (
    <>
      <NetworkHead network={network}>
        {mayEdit(network.data) && (
          <Link class="button" href={`/networks/${identifier}/add`}>
            <Icon name="plus" />
            {texts.sensors.add}
          </Link>
        )}
      </NetworkHead>
      <Show loaded={network.failure ? { ...loaded, failure: network.failure } : loaded}>
        {() =>
          rows.all.size === 0 ? (
            <Empty title={texts.sensors.empty}>
              <p>{texts.sensors.emptyHint}</p>
              {mayEdit(network.data) && (
                <Link class="button button-primary" href={`/networks/${identifier}/add`}>
                  {texts.sensors.add}
                </Link>
              )}
            </Empty>
          ) : (
            <Chosen rows={rows} />
          )
        }
      </Show>
    </>
  );
}

function Chosen({ rows }: { rows: Rows }) {
  const [query, setQuery] = useSearchParams();
  const choice = choiceOf(query);
  // What is typed is seen at once; the URL may follow.
  const change = (name: string, value: string) =>
    setQuery(
      (before) => {
        const after = new URLSearchParams(before);
        if (value) after.set(name, value);
        else after.delete(name);
        return after;
      },
      { replace: true },
    );
  const version = rows.version.value;
  const moment = isOfTime(choice) ? now.value : 0;
  const key = JSON.stringify(choice);
  const shown = useMemo(
    () => chosen(rows.all.values(), choice, Date.now()),
    [rows, version, moment, key],
  );
  const tags = useMemo(() => tagsOf(rows), [rows, version]);
  return (
    <>
      <Tools choice={choice} tags={tags} change={change} shown={shown.length} all={rows.all.size} />
      {shown.length === 0 ? (
        <Empty title={texts.sensors.none}>
          <p>{texts.sensors.noneHint}</p>
          <button
            type="button"
            class="button"
            onClick={() => setQuery(new URLSearchParams(), { replace: true })}
          >
            {texts.sensors.all}
          </button>
        </Empty>
      ) : (
        <Table shown={shown} choice={choice} change={change} />
      )}
    </>
  );
}

function tagsOf(rows: Rows): string[] {
  const tags = new Set<string>();
  for (const { sensor } of rows.all.values()) for (const tag of sensor.tags) tags.add(tag);
  return [...tags].sort();
}

type Change = (name: string, value: string) => void;

function Tools(props: {
  choice: Choice;
  tags: string[];
  change: Change;
  shown: number;
  all: number;
}) {
  const { choice, tags, change, shown, all } = props;
  return (
    <div class="tools">
      <label class="search">
        <Icon name="search" />
        <span class="hidden">{texts.sensors.search}</span>
        <input
          type="search"
          placeholder={texts.sensors.searchHint}
          value={choice.text}
          onInput={(event) => change("text", event.currentTarget.value)}
        />
      </label>
      <label class="rows-choice">
        <span class="hidden">{texts.sensors.show}</span>
        <select
          value={choice.presence}
          onChange={(event) => change("show", event.currentTarget.value)}
        >
          {Object.entries(texts.sensors.presences).map(([name, text]) => (
            <option key={name} value={name}>
              {text}
            </option>
          ))}
        </select>
      </label>
      {tags.length > 0 && (
        <label class="rows-choice">
          <span class="hidden">{texts.sensors.tag}</span>
          <select value={choice.tag} onChange={(event) => change("tag", event.currentTarget.value)}>
            <option value="">{texts.sensors.anyTag}</option>
            {tags.map((tag) => (
              <option key={tag} value={tag}>
                {tag}
              </option>
            ))}
          </select>
        </label>
      )}
      <label class="rows-choice rows-sort">
        <span class="hidden">{texts.sensors.sort}</span>
        <select value={choice.sort} onChange={(event) => change("sort", event.currentTarget.value)}>
          {Object.entries(texts.sensors.sorts).map(([name, text]) => (
            <option key={name} value={name}>
              {`${texts.sensors.sort}: ${text}`}
            </option>
          ))}
        </select>
      </label>
      <span class="quiet" role="status">
        {texts.sensors.count(shown, all)}
      </span>
    </div>
  );
}

function useMedia(query: string): boolean {
  const [matches, setMatches] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const media = matchMedia(query);
    const listen = () => setMatches(media.matches);
    media.addEventListener("change", listen);
    return () => media.removeEventListener("change", listen);
  }, [query]);
  return matches;
}

function Table({ shown, choice, change }: { shown: Row[]; choice: Choice; change: Change }) {
  const isNarrow = useMedia(NARROW);
  const height = isNarrow ? HEIGHT_NARROW : HEIGHT;
  const seen = useSeenRows(shown.length, height);
  const head = (sort: Sort) => <Head sort={sort} choice={choice} change={change} />;
  return (
    <div
      class="rows"
      role="table"
      aria-label={texts.sensors.title}
      aria-rowcount={shown.length + 1}
    >
      <div role="rowgroup">
        <div class="rows-row rows-head" role="row" aria-rowindex={1}>
          {head("name")}
          <span role="columnheader" class="rows-newest">
            {texts.sensors.newest}
          </span>
          <span role="columnheader" class="rows-course" title={texts.sensors.courseHint}>
            {texts.sensors.course}
          </span>
          {head("presence")}
          {head("configuration")}
          {head("seen")}
          {head("alerts")}
        </div>
      </div>
      <div
        class="rows-body"
        role="rowgroup"
        ref={seen.holder}
        style={{ height: `${seen.height}px` }}
      >
        {seen.items.map(({ index, start }) => {
          const row = shown[index];
          return (
            row && (
              <Line
                key={row.sensor.sensor_identifier}
                row={row}
                index={index}
                top={start - seen.margin}
              />
            )
          );
        })}
      </div>
    </div>
  );
}

function Head({ sort, choice, change }: { sort: Sort; choice: Choice; change: Change }) {
  const isSorted = choice.sort === sort;
  const order = isSorted ? (choice.isDescending ? "descending" : "ascending") : undefined;
  const label = sort === "name" ? texts.sensors.name : texts.sensors.sorts[sort];
  const next = isSorted && !choice.isDescending ? `-${sort}` : sort;
  return (
    <span role="columnheader" aria-sort={order} class={`rows-${sort}`}>
      <button type="button" class="sort" onClick={() => change("sort", next)}>
        {label}
        <span class="sort-mark" aria-hidden="true">
          {isSorted ? (choice.isDescending ? "↓" : "↑") : ""}
        </span>
      </button>
    </span>
  );
}

function Line({ row, index, top }: { row: Row; index: number; top: number }) {
  // The row is changed in place.
  const version = row.version.value;
  const { sensor } = row;
  const hasNumber = courseOf(row) !== undefined;
  useEffect(() => wantCourse(row), [row, hasNumber, row.course === undefined]);
  const where = [sensor.place, ...sensor.tags].filter(Boolean).join(" · ");
  return (
    <div
      class="rows-row"
      role="row"
      aria-rowindex={index + 2}
      style={{ transform: `translateY(${top}px)` }}
      data-version={version}
    >
      <div role="cell" class="rows-name">
        <Link
          href={`/networks/${sensor.network_identifier}/sensors/${sensor.sensor_identifier}`}
          class="row-link clip"
          title={nameOf(sensor)}
        >
          {nameOf(sensor)}
        </Link>
        <div class="quiet small clip" title={where}>
          {where || sensor.device_id}
        </div>
      </div>
      <div role="cell" class="rows-newest">
        <Values row={row} />
      </div>
      <div role="cell" class="rows-course">
        <Sparkline points={row.course?.points ?? []} />
      </div>
      <div role="cell" class="rows-presence">
        <Presence row={row} />
      </div>
      <div role="cell" class="rows-configuration">
        <Configuration sensor={sensor} />
      </div>
      <div role="cell" class="rows-seen">
        <Ago time={row.seen || undefined} otherwise={texts.sensors.never} />
      </div>
      <div role="cell" class="rows-alerts">
        <Alerts row={row} />
      </div>
    </div>
  );
}

function Values({ row }: { row: Row }) {
  const names = row.names();
  if (names.length === 0) return <span class="quiet">{texts.sensors.noValues}</span>;
  const more = names.length - SHOWN_VALUES;
  return (
    <ul class="newest">
      {names.slice(0, SHOWN_VALUES).map((name) => {
        const label = row.sensor.attributes[name];
        const text = shownValue(row.values.get(name)?.value);
        return (
          <li key={name}>
            <span class="newest-value clip" title={text}>
              {text}
              {label?.unit && <span class="unit"> {label.unit}</span>}
            </span>
            <span class="quiet small clip" title={name}>
              {label?.display_name ?? name}
            </span>
          </li>
        );
      })}
      {more > 0 && <li class="quiet small newest-more">{texts.sensors.more(more)}</li>}
    </ul>
  );
}

/** Whether it is connected, if it has a connection of its own; and whether it is late. */
function Presence({ row }: { row: Row }) {
  const isLate = useComputed(() => row.isLate(now.value)).value;
  const { sensor, connection, seen } = row;
  if (!sensor.is_active) return <span class="state state-off">{texts.sensors.inactive}</span>;
  return (
    <>
      {connection !== null && (
        <span class={`state ${connection ? "state-ok" : "state-off"}`}>
          {connection ? texts.sensors.connected : texts.sensors.disconnected}
        </span>
      )}
      {isLate ? (
        <span class="state state-late">{texts.sensors.late}</span>
      ) : connection !== null ? null : !seen ? (
        <span class="quiet">–</span>
      ) : sensor.expected_interval !== null ? (
        <span class="state state-ok">{texts.sensors.onTime}</span>
      ) : (
        <span class="quiet">
          {texts.sensors.seenAgo} <Ago time={seen} />
        </span>
      )}
    </>
  );
}

const STATES: Record<string, string> = { acknowledged: "state-ok", failed: "state-bad" };

/** How far the newest configuration has come. */
function Configuration({ sensor }: { sensor: Row["sensor"] }) {
  const { configuration_state: state, revision } = sensor;
  if (state === null || revision === null) return <span class="quiet">–</span>;
  const title = `${texts.configuration.revision(revision)}: ${texts.configuration.states[state]}`;
  return (
    <span class={`state ${STATES[state] ?? "state-late"}`} title={title}>
      {texts.sensors.configurations[state] ?? state}
    </span>
  );
}

function Alerts({ row }: { row: Row }) {
  if (row.alerts.size === 0) return <span class="quiet">–</span>;
  const severity = texts.sensors.severities[worst(row)];
  const names = [...row.alerts.values()].map(({ name, summary }) => `${name}: ${summary}`);
  return (
    <span class={`badge badge-${severity}`} title={names.join("\n")}>
      {texts.sensors.openAlerts(row.alerts.size)}
      <span class="hidden">, {severity}</span>
    </span>
  );
}
