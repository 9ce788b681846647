/** How the server does: whether it takes data, how much, how fast, and what is to be mended. */
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { api, ask, root, type Schemas } from "../api/client";
import { useLoad } from "../load";
import { parseMetrics, quantile, type Samples, total, workerOf } from "../metrics";
import { bytes, count } from "../numbers";
import { duration } from "../rule-draft";
import { session } from "../session";
import { texts } from "../texts";
import { PackedText, usePacked } from "../ui/packed";
import { Ago, Notice, Show } from "../ui/parts";
import { SectionHead } from "../ui/section";

/** Its open members, as docs/guide/operations.md tells them. */
type Readiness = Omit<Schemas["Readiness"], "mqtt" | "instance"> & {
  mqtt: {
    listening: boolean;
    connections: number;
    broker?: { connected: boolean; dropped_messages: number; waiting_messages: number };
  };
  instance: { number: number; others: number[]; duties: string[] };
};

const MILLISECONDS = 2_000;
/** The first rates are of a shorter time, so that there are some soon. */
const FIRST_MILLISECONDS = 500;
const POINTS = 60;

export default function SystemPage() {
  const words = texts.system;
  const isAdmin = session.value.account?.is_admin ?? false;
  const ready = useLoad("readyz", async (signal) => {
    // What is not ready is told with 503, in the same form.
    const { data, error } = await api.GET("/api/v1/readyz", { signal });
    return (data ?? error) as unknown as Readiness;
  });
  const status = useLoad("status", (signal) => ask(api.GET("/api/v1/status", { signal })));
  const { reload } = ready;
  useEffect(() => {
    const timer = setInterval(() => {
      if (!document.hidden) reload();
    }, 2 * MILLISECONDS);
    return () => clearInterval(timer);
  }, [reload]);
  return (
    <>
      <SectionHead section="system" title={words.title} />
      <Show loaded={ready}>
        {(state) => (
          <>
            {state.reasons.map((reason) => (
              <Notice key={reason} kind="error">
                {reason}
              </Notice>
            ))}
            {state.warnings.map((warning) => (
              <Notice key={warning} kind="warning">
                {warning}
              </Notice>
            ))}
            {isAdmin && <Rates state={state} />}
            <div class="split">
              <section class="panel">
                <h2>{words.parts}</h2>
                <Parts state={state} />
              </section>
              <section class="panel">
                <h2>{words.server}</h2>
                <dl class="facts">
                  <dt>{words.version}</dt>
                  <dd>
                    {status.data?.version}
                    {status.data?.commit_sha && ` (${status.data.commit_sha.slice(0, 8)})`}
                  </dd>
                  <dt>{words.environment}</dt>
                  <dd>{status.data?.environment}</dd>
                  <dt>{words.started}</dt>
                  <dd>
                    {status.data && (
                      <Ago time={new Date(status.data.start_timestamp * 1000).toISOString()} />
                    )}
                  </dd>
                  <dt>{words.instance}</dt>
                  <dd>{instanceOf(state)}</dd>
                  <dt>{words.duties}</dt>
                  <dd>{state.instance.duties.join(", ") || "–"}</dd>
                </dl>
              </section>
            </div>
          </>
        )}
      </Show>
      {/* What takes longest stands last: it would push down what is below. */}
      {isAdmin && (ready.data || ready.failure) && (
        <>
          <section class="panel">
            <h2>{words.backups}</h2>
            <p class="quiet">{words.backupsHint}</p>
            <pre class="code-line">heliograph backup heliograph.backup</pre>
          </section>
          <Doctor />
        </>
      )}
    </>
  );
}

function instanceOf({ instance }: Readiness): string {
  const { others } = instance;
  const own = String(instance.number);
  return others.length > 0 ? texts.system.besides(own, others.join(", ")) : own;
}

function Parts({ state }: { state: Readiness }) {
  const words = texts.system;
  const { mqtt } = state;
  const { used, budget } = state.disk;
  const packed = usePacked();
  const good = (is: boolean, text: string) => (
    <span class={`state state-${is ? "ok" : "critical"}`}>{text}</span>
  );
  return (
    <dl class="facts">
      <dt>{words.intake}</dt>
      <dd>{good(state.ready, state.ready ? words.ready : words.notReady)}</dd>
      <dt>{words.database}</dt>
      <dd>
        {good(state.database === "available", words.states[state.database] ?? state.database)}
        <span class="quiet"> {words.revision(state.migrations.current ?? "–")}</span>
      </dd>
      <dt>{words.disk}</dt>
      <dd>
        {used === null || used === undefined ? "–" : bytes(used)}
        {budget ? (
          <>
            {" "}
            {words.of(bytes(budget))}
            <meter class="meter" min={0} max={budget} high={0.9 * budget} value={used ?? 0}>
              {used ?? 0}
            </meter>
          </>
        ) : (
          <span class="quiet"> {words.noBudget}</span>
        )}
      </dd>
      <dt>{texts.packed.label}</dt>
      <dd>
        <PackedText packed={packed.data} />
      </dd>
      <dt>{words.listener}</dt>
      <dd>
        {mqtt.listening ? good(true, words.connections(mqtt.connections)) : words.notListening}
      </dd>
      {mqtt.broker && (
        <>
          <dt>{words.broker}</dt>
          <dd>
            {good(
              mqtt.broker.connected,
              mqtt.broker.connected ? words.connected : words.disconnected,
            )}{" "}
            <span class="quiet">
              {words.ofBroker(mqtt.broker.waiting_messages, mqtt.broker.dropped_messages)}
            </span>
          </dd>
        </>
      )}
      <dt>{words.last}</dt>
      <dd>
        {state.last_message_age_seconds === null
          ? words.noneSinceStart
          : words.ago(duration(Math.round(state.last_message_age_seconds)))}
      </dd>
    </dl>
  );
}

interface Rate {
  rows: number;
  rejected: number;
  requests: number;
  cpu: number;
  wait: number | null;
  request: number | null;
}

/** Rates and latencies, from what was counted between two answers of the same worker. */
function Rates({ state }: { state: Readiness }) {
  const words = texts.system;
  const [rates, setRates] = useState<Rate[]>([]);
  const [memory, setMemory] = useState<number>();
  const [viewers, setViewers] = useState<number>();
  useEffect(() => {
    const ending = new AbortController();
    const before = new Map<string, { at: number; samples: Samples }>();
    async function read() {
      if (document.hidden) return;
      try {
        const answer = await fetch(`${root}/metrics`, { signal: ending.signal });
        if (!answer.ok) return;
        const samples = parseMetrics(await answer.text());
        const at = performance.now() / 1000;
        const worker = workerOf(samples);
        const old = before.get(worker);
        before.set(worker, { at, samples });
        setMemory(total(samples, "process_resident_memory_bytes"));
        setViewers(total(samples, "heliograph_live_viewers"));
        if (old) {
          const rate = rateOf(old.samples, samples, at - old.at);
          setRates((list) => [...list, rate].slice(-POINTS));
        }
      } catch {
        // The frame says that the server is away.
      }
    }
    void read();
    const first = setTimeout(() => void read(), FIRST_MILLISECONDS);
    const timer = setInterval(() => void read(), MILLISECONDS);
    return () => {
      ending.abort();
      clearTimeout(first);
      clearInterval(timer);
    };
  }, []);
  const last = rates.at(-1);
  const shown = (value: number | undefined, digits = 0) =>
    value === undefined
      ? "–"
      : value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : digits });
  const wait = rates.findLast((rate) => rate.wait !== null)?.wait;
  const request = rates.findLast((rate) => rate.request !== null)?.request;
  return (
    <section class="figures" aria-label={words.rates} aria-busy={rates.length === 0}>
      <Figure label={words.rows} value={shown(last?.rows)} unit={words.perSecond}>
        <Spark values={rates.map((rate) => rate.rows)} />
      </Figure>
      <Figure label={words.wait} value={milliseconds(wait)} unit={words.milliseconds} />
      <Figure
        label={words.queue}
        value={count(state.queue_depth)}
        unit={bytes(state.bytes_in_flight)}
      />
      <Figure label={words.rejected} value={shown(last?.rejected)} unit={words.perSecond} />
      <Figure label={words.requests} value={shown(last?.requests)} unit={words.perSecond}>
        <Spark values={rates.map((rate) => rate.requests)} />
      </Figure>
      <Figure label={words.request} value={milliseconds(request)} unit={words.milliseconds} />
      <Figure label={words.cpu} value={shown(last && 100 * last.cpu)} unit={words.ofOneCore} />
      <Figure
        label={words.memory}
        value={memory === undefined ? "–" : bytes(memory)}
        unit={viewers === undefined ? "" : words.viewers(viewers)}
      />
    </section>
  );
}

function rateOf(before: Samples, after: Samples, seconds: number): Rate {
  const grown = (name: string) => Math.max(0, total(after, name) - total(before, name)) / seconds;
  return {
    rows: grown("heliograph_ingest_rows_total"),
    rejected: grown("heliograph_ingest_rejected_total"),
    requests: grown("heliograph_http_requests_total"),
    cpu: grown("process_cpu_seconds_total"),
    wait: quantile(before, after, "heliograph_ingest_wait_seconds", 0.95),
    request: quantile(before, after, "heliograph_http_request_duration_seconds", 0.95),
  };
}

function milliseconds(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined) return "–";
  return Number.isFinite(seconds)
    ? `≤ ${(seconds * 1000).toLocaleString("en", { maximumFractionDigits: 1 })}`
    : "> 10,000";
}

function Figure(props: {
  label: string;
  value: string;
  unit: string;
  children?: ComponentChildren;
}) {
  return (
    <div class="figure">
      <span class="quiet">{props.label}</span>
      <p>
        <strong>{props.value}</strong> <span class="quiet">{props.unit}</span>
      </p>
      {props.children}
    </div>
  );
}

/** The course of a number over the last two minutes; what it is now stands beside it. */
function Spark({ values }: { values: number[] }) {
  const most = Math.max(1e-9, ...values);
  const points = values
    .map(
      (value, index) =>
        `${POINTS - values.length + index},${(23 - (22 * value) / most).toFixed(1)}`,
    )
    .join(" ");
  return (
    <svg
      class="spark"
      viewBox={`0 0 ${POINTS - 1} 24`}
      preserveAspectRatio="none"
      aria-hidden="true"
    >
      <polyline points={points} />
    </svg>
  );
}

function Doctor() {
  const words = texts.system;
  const found = useLoad("doctor", (signal) => ask(api.GET("/api/v1/doctor", { signal })));
  const marks: Record<string, string> = { ok: "ok", warning: "warning", failure: "critical" };
  return (
    <section>
      <div class="tools">
        <h2>{words.findings}</h2>
        <button type="button" class="button button-small" onClick={found.reload}>
          {words.examine}
        </button>
      </div>
      <Show loaded={found}>
        {({ findings }) => (
          <ul class="rows">
            {findings.map((finding, index) => (
              <li class="row" key={index}>
                <div class="row-mark">
                  <span class={`state state-${marks[finding.state] ?? "off"}`}>
                    {words.findingStates[finding.state] ?? finding.state}
                  </span>
                </div>
                <div class="row-main">
                  <strong>{finding.check}</strong>
                  <p>{finding.found}</p>
                  {finding.advice && <p class="quiet">{finding.advice}</p>}
                </div>
              </li>
            ))}
          </ul>
        )}
      </Show>
    </section>
  );
}
