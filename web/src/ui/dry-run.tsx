/** A dry run: what a rule would have done, drawn over what is stored of a sensor. */
import { useEffect, useState } from "preact/hooks";
import { api, ask, type Schemas } from "../api/client";
import { duration, type JsonObject } from "../rule-draft";
import { texts } from "../texts";
import { fullTime } from "../time";
import { type Option, Select } from "./controls";
import { Field, Form, Notice } from "./parts";

type Run = Schemas["RuleTest"];

const SHOWN_SPANS = 10;

export function DryRun(props: {
  definition: () => JsonObject;
  sensors: readonly Option[];
  sensor: string;
  chooseSensor: (sensor: string) => void;
}) {
  const words = texts.rules;
  const [range, setRange] = useState("24h");
  const [run, setRun] = useState<Run>();
  const [picture, setPicture] = useState("");
  useEffect(() => () => URL.revokeObjectURL(picture), [picture]);
  async function send() {
    setRun(undefined);
    setPicture("");
    const body = props.definition() as Schemas["RuleDefinition"];
    const query = { sensor: props.sensor, range };
    const found = await ask(api.POST("/api/v1/rules/test", { params: { query }, body }));
    // Of its two forms the chart is a text.
    if (typeof found !== "string") setRun(found);
    const drawn = await ask(
      api.POST("/api/v1/rules/test", {
        params: { query: { ...query, format: "svg" } },
        body,
        parseAs: "blob",
      }) as Promise<{ data?: Blob; response: Response }>,
    );
    setPicture(URL.createObjectURL(drawn));
  }
  return (
    <>
      <h2>{words.dryRun}</h2>
      <p class="quiet">{words.dryRunHint}</p>
      <Form submit={words.tryIt} send={send}>
        {(problems) => (
          <>
            <Problems problems={problems} />
            <div class="pair">
              {props.sensors.length > 0 ? (
                <Select
                  label={texts.alerts.sensor}
                  value={props.sensor}
                  options={props.sensors}
                  onInput={props.chooseSensor}
                />
              ) : (
                <Field
                  label={texts.alerts.sensor}
                  value={props.sensor}
                  onInput={props.chooseSensor}
                  required
                />
              )}
              <Select
                label={words.range}
                value={range}
                options={Object.entries(words.ranges)}
                onInput={setRange}
              />
            </div>
          </>
        )}
      </Form>
      {run && <Result run={run} />}
      {picture && (
        // A keyboard scrolls what is wider than the screen.
        <div class="drawing" role="region" aria-label={words.dryRun} tabIndex={0}>
          <img src={picture} width="900" height="320" alt={words.drawing} />
        </div>
      )}
    </>
  );
}

function Result({ run }: { run: Run }) {
  const words = texts.rules;
  return (
    <div role="status" class="form">
      <p>
        <strong>{words.raises(run.raises)}</strong>
        {run.raises > 0 && `, ${words.raisedFor(duration(Math.round(run.raised_seconds)))}`}.{" "}
        {run.naive_raises > run.raises && words.naive(run.naive_raises)}
      </p>
      <p class="quiet">
        {words.looked(run.messages)} {run.absent > 0 && words.absent(run.absent)}{" "}
        {run.failed > 0 && words.failed(run.failed)}
      </p>
      {!run.complete && <Notice kind="warning">{words.incomplete(fullTime(run.end))}</Notice>}
      {run.spans.length > 0 && (
        <ol class="events">
          {run.spans.slice(0, SHOWN_SPANS).map((span) => (
            <li key={span.raised_at}>
              <span>{fullTime(span.raised_at)}</span>
              <span class="quiet">
                {span.cleared_at ? words.clearedAt(fullTime(span.cleared_at)) : words.stillRaised}
              </span>
            </li>
          ))}
        </ol>
      )}
      {run.raises > SHOWN_SPANS && <p class="quiet">{words.moreSpans(run.raises - SHOWN_SPANS)}</p>}
    </div>
  );
}

/** What the server found wrong, whichever field it stands in. */
export function Problems({ problems }: { problems: Record<string, string> }) {
  const found = Object.entries(problems);
  if (found.length === 0) return null;
  return (
    <Notice kind="error">
      <ul>
        {found.map(([name, problem]) => (
          <li key={name}>
            <code>{name}</code>: {problem}
          </li>
        ))}
      </ul>
    </Notice>
  );
}
