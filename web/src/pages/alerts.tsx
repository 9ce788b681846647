/** Alerts, open and past, of all networks. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { api, askList, type Schemas } from "../api/client";
import { type Held, hold } from "../held";
import { useEvents } from "../live";
import { useLoad } from "../load";
import { texts } from "../texts";
import { AlertActions } from "../ui/alert-actions";
import { Filter, Search } from "../ui/controls";
import { Ago, Empty, Show } from "../ui/parts";
import {
  More,
  NetworkFilter,
  type Rights,
  SectionHead,
  Severity,
  useFilter,
  useRights,
} from "../ui/section";

type Alert = Schemas["AlertRepresentation"];

const PAGE = 100;
/** Reads again at most so often, however many alerts come. */
const PAUSE_MILLISECONDS = 500;

export default function AlertsPage() {
  const rights = useRights();
  const [state, setState] = useFilter("state");
  const [severity, setSeverity] = useFilter("severity");
  const [network, setNetwork] = useFilter("network");
  const [search, setSearch] = useState("");
  const [limit, setLimit] = useState(PAGE);
  const isPast = state === "past";
  const alerts = useLoad(`alerts ${state} ${severity} ${network} ${limit}`, (signal) =>
    askList(
      api.GET("/api/v1/alerts", {
        params: {
          query: {
            state: isPast ? "cleared" : "open",
            ...(severity && { severity: severity as "info" }),
            ...(network && { network_identifier: network }),
            limit,
          },
        },
        signal,
      }),
    ),
  );
  useEvents(["alert"], useSoon(alerts.reload));
  const list = useHeld(`${state} ${severity} ${network}`, alerts.data?.rows, limit);
  const wanted = search.trim().toLowerCase();
  return (
    <>
      <SectionHead section="alerts" title={texts.alerts.title} />
      <div class="tools">
        <fieldset class="choice">
          <legend class="hidden">{texts.alerts.which}</legend>
          {(["", "past"] as const).map((value) => (
            <label key={value}>
              <input
                type="radio"
                name="state"
                checked={state === value}
                onChange={() => setState(value)}
              />
              <span>{value ? texts.alerts.past : texts.alerts.open}</span>
            </label>
          ))}
        </fieldset>
        <Filter
          label={texts.alerts.severity}
          value={severity}
          options={[["", texts.alerts.anySeverity], ...Object.entries(texts.severities)]}
          onInput={setSeverity}
        />
        <NetworkFilter rights={rights} value={network} onInput={setNetwork} />
        <Search label={texts.alerts.search} value={search} onInput={setSearch} />
      </div>
      <Show loaded={alerts}>
        {({ rows, total }) => {
          const matches = (alert: Alert) =>
            [
              alert.name,
              alert.summary,
              alert.sensor_name,
              alert.device_id,
              alert.sensor_identifier,
            ].some((text) => text?.toLowerCase().includes(wanted));
          const shown = list.rows.filter(matches);
          const fresh = list.fresh.filter(matches).length;
          if (shown.length === 0 && fresh === 0) {
            return <Nothing isPast={isPast} isFiltered={Boolean(wanted || severity || network)} />;
          }
          return (
            <>
              <p class="fresh quiet" role="status">
                {texts.alerts.count(total)}
                {fresh > 0 && (
                  <button type="button" class="button button-primary" onClick={list.take}>
                    {texts.alerts.fresh(fresh)}
                  </button>
                )}
              </p>
              <ul class="rows">
                {shown.map((alert) => (
                  <Row
                    key={alert.id}
                    alert={alert}
                    isGone={list.gone.has(alert.id)}
                    rights={rights}
                    done={() => {
                      list.leave(alert.id);
                      alerts.reload();
                    }}
                  />
                ))}
              </ul>
              <More shown={rows.length} total={total} more={() => setLimit(limit + PAGE)} />
            </>
          );
        }}
      </Show>
    </>
  );
}

interface HeldList extends Held<Alert> {
  /** Show what has come, and no more what is gone. */
  take: () => void;
  /** Say that one may be gone when it is read next: whoever looks has done something about it. */
  leave: (id: string) => void;
}

/** Keep what is shown in its place while it is read again; `key` says what is read. */
function useHeld(key: string, read: Alert[] | undefined, limit: number): HeldList {
  const held = useRef<{ key: string; read: Alert[]; list: Held<Alert> }>();
  const left = useRef(new Set<string>());
  const [, setTurn] = useState(0);
  if (read && (held.current?.key !== key || held.current.read !== read)) {
    const before = held.current?.key === key ? held.current.list : undefined;
    held.current = { key, read, list: hold(before, read, limit, left.current) };
    left.current.clear();
  }
  return {
    ...(held.current?.list ?? { rows: [], fresh: [], gone: new Set() }),
    take() {
      held.current = undefined;
      scrollTo({ top: 0 });
      setTurn((turn) => turn + 1);
    },
    leave: (id) => left.current.add(id),
  };
}

function Nothing({ isPast, isFiltered }: { isPast: boolean; isFiltered: boolean }) {
  if (isFiltered) return <Empty title={texts.alerts.noneMatch} />;
  if (isPast) return <Empty title={texts.alerts.nonePast} />;
  return (
    <Empty title={texts.alerts.noneOpen}>
      <p>{texts.alerts.noneOpenHint}</p>
      <Link class="button" href="/alerts/rules">
        {texts.alerts.rules}
      </Link>
    </Empty>
  );
}

function Row(props: { alert: Alert; isGone: boolean; rights: Rights; done: () => void }) {
  const { alert, isGone, rights, done } = props;
  const isPast = isGone || Boolean(alert.cleared_at);
  return (
    <li class={`row row-${isPast ? "past" : alert.severity}`}>
      <div class="row-mark">
        <Severity severity={alert.severity} />
      </div>
      <div class="row-main">
        <Link href={`/alerts/${alert.id}`} class="row-link">
          {alert.name}
        </Link>
        <p>{alert.summary}</p>
        <p class="row-facts quiet">
          {alert.sensor_identifier && (
            <Link href={`/networks/${alert.network_identifier}/sensors/${alert.sensor_identifier}`}>
              {alert.sensor_name ?? alert.device_id ?? alert.sensor_identifier}
            </Link>
          )}
          <span>{rights.nameOf(alert.network_identifier)}</span>
          {isGone && <span>{texts.alerts.cleared}</span>}
          {alert.count > 1 && <span>{texts.alerts.times(alert.count)}</span>}
          {alert.silenced && <span>{texts.alerts.silenced}</span>}
          {alert.acknowledged_by && (
            <span>
              {texts.alerts.acknowledged} {texts.alerts.by(alert.acknowledged_by)}
              {alert.comment && `: ${alert.comment}`}
            </span>
          )}
        </p>
      </div>
      <div class="row-time">
        <Ago time={alert.cleared_at ?? alert.raised_at} />
      </div>
      {!isPast && rights.mayEdit(alert.network_identifier) && (
        <div class="row-do">
          <AlertActions alert={alert} done={done} />
        </div>
      )}
    </li>
  );
}

/** Return a function that has something done soon, and once however often it is called until then. */
export function useSoon(act: () => void): () => void {
  const timer = useRef<ReturnType<typeof setTimeout>>();
  useEffect(() => () => clearTimeout(timer.current), []);
  return useCallback(() => {
    timer.current ??= setTimeout(() => {
      timer.current = undefined;
      act();
    }, PAUSE_MILLISECONDS);
  }, [act]);
}
