/** What a sensor is to be: its revisions, how far each has come, and what each changes. */
import { useState } from "preact/hooks";
import { api, ask, Failure, type Schemas } from "../api/client";
import { useLoad } from "../load";
import type { PageProps } from "../pages";
import { texts } from "../texts";
import { fullTime } from "../time";
import { Area } from "../ui/controls";
import { mayEdit, SensorHead, useNetwork, useSensor } from "../ui/network-head";
import { Ago, Dialog, Empty, Form, Show } from "../ui/parts";
import { useReloads } from "../ui/reloads";

type Entry = Schemas["ConfigurationEntry"];

const REVISIONS = 100;
const STATES: Partial<Record<Schemas["ConfigurationState"], string>> = {
  acknowledged: "state-ok",
  failed: "state-bad",
  pending: "state-late",
  published: "state-late",
};

export default function SensorConfigurationPage({ params }: PageProps) {
  const words = texts.configuration;
  const identifier = params.sensor ?? "";
  const path = { identifier };
  const [isNew, setNew] = useState(false);
  const network = useNetwork(params.network ?? "");
  const sensor = useSensor(identifier);
  const revisions = useLoad(`configurations ${identifier}`, async (signal) => {
    const query = { limit: REVISIONS };
    const found = await ask(
      api.GET("/api/v1/sensors/{identifier}/configurations", { params: { path, query }, signal }),
    );
    return found.sort((a, b) => b.revision - a.revision);
  });
  // Devices answer by a heartbeat.
  useReloads(["configuration", "heartbeat"], sensor.data?.sensor_identifier, revisions.reload);
  return (
    <>
      <SensorHead network={network.data} sensor={sensor}>
        {mayEdit(network.data) && revisions.data && (
          <button type="button" class="button button-primary" onClick={() => setNew(true)}>
            {words.change}
          </button>
        )}
      </SensorHead>
      <Show loaded={revisions}>
        {(list) =>
          list.length === 0 ? (
            <Empty title={words.empty}>
              <p>{words.emptyHint}</p>
            </Empty>
          ) : (
            <ul class="rows">
              {list.map((entry, index) => (
                <Row key={entry.revision} entry={entry} before={list[index + 1]} />
              ))}
            </ul>
          )
        }
      </Show>
      {isNew && (
        <Dialog title={words.change} close={() => setNew(false)}>
          <Change
            identifier={identifier}
            now={revisions.data?.[0]?.configuration ?? {}}
            done={() => {
              setNew(false);
              revisions.reload();
            }}
          />
        </Dialog>
      )}
    </>
  );
}

function Row({ entry, before }: { entry: Entry; before: Entry | undefined }) {
  const words = texts.configuration;
  const changes = before ? differences(before.configuration, entry.configuration) : [];
  return (
    <li class={`row ${entry.state === "superseded" ? "row-past" : ""}`}>
      <span class="row-mark">{words.revision(entry.revision)}</span>
      <div class="row-main">
        <p>
          <span class={`state ${STATES[entry.state] ?? "state-off"}`}>
            {words.states[entry.state]}
          </span>
        </p>
        {changes.length > 0 && (
          <ul class="changes">
            {changes.map(([name, old, now]) => (
              <li key={name}>
                <code>{name}</code> {old ?? words.nothing} → {now ?? words.nothing}
              </li>
            ))}
          </ul>
        )}
        <p class="row-facts quiet">
          <span>{fullTime(entry.creation_timestamp * 1000)}</span>
          {entry.author && <span>{entry.author}</span>}
          {entry.receipt_timestamp && (
            <span>{words.answered(fullTime(entry.receipt_timestamp * 1000))}</span>
          )}
        </p>
        <details open={before === undefined}>
          <summary class="quiet">{words.whole}</summary>
          <pre class="code-line" tabIndex={0}>
            {JSON.stringify(entry.configuration, null, 2)}
          </pre>
        </details>
      </div>
      <span class="row-time">
        <Ago time={entry.creation_timestamp * 1000} />
      </span>
    </li>
  );
}

/** Return what differs between two configurations: names with old and new values as JSON. */
function differences(old: unknown, now: unknown) {
  const [was, is] = [leaves(old), leaves(now)];
  return [...new Set([...was.keys(), ...is.keys()])]
    .filter((name) => was.get(name) !== is.get(name))
    .map((name) => [name, was.get(name), is.get(name)] as const);
}

function leaves(value: unknown, name = ""): Map<string, string> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return new Map([[name, JSON.stringify(value)]]);
  }
  return new Map(
    Object.entries(value).flatMap(([key, inner]) => [
      ...leaves(inner, name ? `${name}.${key}` : key),
    ]),
  );
}

function Change(props: { identifier: string; now: unknown; done: () => void }) {
  const words = texts.configuration;
  const [text, setText] = useState(() => JSON.stringify(props.now, null, 2));
  const [problem, setProblem] = useState<string>();
  async function send() {
    let configuration: unknown;
    try {
      configuration = JSON.parse(text);
    } catch (error) {
      const sentence = words.notJson(error instanceof Error ? error.message : "");
      setProblem(sentence);
      throw new Failure(0, "NOT_JSON", sentence, { configuration: sentence });
    }
    const path = { identifier: props.identifier };
    await ask(
      api.POST("/api/v1/sensors/{identifier}/configurations", {
        params: { path },
        body: { configuration },
      }),
    );
    props.done();
  }
  return (
    <Form submit={words.send} send={send}>
      {(problems) => (
        <Area
          label={words.title}
          value={text}
          rows={14}
          code
          hint={words.hint}
          problem={problem ?? problems.configuration}
          onInput={(changed) => {
            setText(changed);
            setProblem(undefined);
          }}
        />
      )}
    </Form>
  );
}
