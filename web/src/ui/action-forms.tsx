/** The forms of what a rule does. */
import type { Json, JsonObject } from "../rule-draft";
import { numberOf } from "../rule-draft";
import { texts } from "../texts";
import { Area, Check, type Option, Select } from "./controls";
import { Field, Icon } from "./parts";

/** An action as the form holds it. `rest` is what the form has no field for. */
export interface ActionDraft {
  type: string;
  on: string;
  text: string;
  /** Null: all channels of the network. */
  channels: string[] | null;
  remindMinutes: string;
  escalations: { minutes: string; severity: string; channels: Json | undefined }[];
  topic: string;
  url: string;
  channel: string;
  script: string;
  /** Payload, or template, as JSON. */
  payload: string;
}

const TYPES = ["alert", "sse", "mqtt", "webhook", "script"];
const OCCASIONS = ["raised", "cleared", "message"];

export function emptyAction(type = "alert"): ActionDraft {
  return {
    type,
    on: "raised",
    text: "",
    channels: null,
    remindMinutes: "",
    escalations: [],
    topic: "",
    url: "",
    channel: "",
    script: "",
    payload: "",
  };
}

export function actionDraft(document: JsonObject): ActionDraft {
  const text = (name: string) => (typeof document[name] === "string" ? document[name] : "");
  const payload = document.type === "sse" ? document.template : document.payload;
  const steps = Array.isArray(document.escalate) ? (document.escalate as JsonObject[]) : [];
  return {
    ...emptyAction(text("type")),
    on: text("on") || "raised",
    text: text("text"),
    channels: Array.isArray(document.channels) ? document.channels.map(String) : null,
    remindMinutes: document.remind_every ? String(Number(document.remind_every) / 60) : "",
    escalations: steps.map((step) => ({
      minutes: String(Number(step.after) / 60),
      severity: String(step.severity),
      channels: step.channels,
    })),
    topic: text("topic"),
    url: text("url"),
    channel: text("channel"),
    script: text("script"),
    payload: payload === undefined ? "" : JSON.stringify(payload, null, 2),
  };
}

export function actionOf(draft: ActionDraft): JsonObject {
  const { type } = draft;
  const document: JsonObject = { type };
  if (type === "alert") {
    if (draft.text) document.text = draft.text;
    if (draft.channels) document.channels = draft.channels;
    if (draft.remindMinutes.trim()) document.remind_every = secondsOf(draft.remindMinutes);
    if (draft.escalations.length > 0) {
      document.escalate = draft.escalations.map((step) => ({
        after: secondsOf(step.minutes),
        severity: step.severity,
        ...(step.channels !== undefined && { channels: step.channels }),
      }));
    }
    return document;
  }
  document.on = draft.on;
  if (type === "mqtt") document.topic = draft.topic;
  if (type === "script") document.script = draft.script;
  if (type === "webhook") {
    if (draft.channel) document.channel = draft.channel;
    else document.url = draft.url;
  }
  if (draft.payload.trim())
    document[type === "sse" ? "template" : "payload"] = payloadOf(draft.payload);
  return document;
}

function secondsOf(minutes: string): number | string {
  const number = numberOf(minutes);
  return typeof number === "number" ? number * 60 : number;
}

/** JSON, or a text where it is none. */
function payloadOf(text: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return text;
  }
}

export function ActionForms(props: {
  drafts: ActionDraft[];
  onInput: (drafts: ActionDraft[]) => void;
  channels: string[];
  isAdmin: boolean;
}) {
  const { drafts, onInput } = props;
  const words = texts.rules;
  return (
    <div class="conditions">
      {drafts.length === 0 && <p class="quiet">{words.noActions}</p>}
      {drafts.map((draft, index) => (
        <fieldset key={index}>
          <legend>{words.action(index + 1)}</legend>
          <ActionForm
            draft={draft}
            onInput={(changed) =>
              onInput(drafts.map((each, at) => (at === index ? changed : each)))
            }
            channels={props.channels}
            isAdmin={props.isAdmin}
          />
          <button
            type="button"
            class="link"
            onClick={() => onInput(drafts.filter((_, at) => at !== index))}
          >
            {words.removeAction(index + 1)}
          </button>
        </fieldset>
      ))}
      <button
        type="button"
        class="button button-small"
        onClick={() => {
          const hasAlert = drafts.some(({ type }) => type === "alert");
          onInput([...drafts, emptyAction(hasAlert ? "webhook" : "alert")]);
        }}
      >
        <Icon name="plus" />
        {words.addAction}
      </button>
    </div>
  );
}

function ActionForm(props: {
  draft: ActionDraft;
  onInput: (draft: ActionDraft) => void;
  channels: string[];
  isAdmin: boolean;
}) {
  const { draft, channels } = props;
  const words = texts.rules;
  const set = (change: Partial<ActionDraft>) => props.onInput({ ...draft, ...change });
  const types = TYPES.filter(
    (type) => type !== "script" || props.isAdmin || draft.type === "script",
  );
  return (
    <div class="condition">
      <div class="pair">
        <Select
          label={words.actionType}
          value={draft.type}
          options={types.map((type): Option => [type, words.actionTypes[type] ?? type])}
          onInput={(type) => set({ type })}
        />
        {draft.type !== "alert" && (
          <Select
            label={words.occasion}
            value={draft.on}
            options={OCCASIONS.map((on): Option => [on, words.occasions[on] ?? on])}
            onInput={(on) => set({ on })}
          />
        )}
      </div>
      {draft.type === "alert" && <AlertForm draft={draft} set={set} channels={channels} />}
      {draft.type === "mqtt" && (
        <Field
          label={words.topic}
          hint={words.topicHint}
          value={draft.topic}
          onInput={(topic) => set({ topic })}
          required
          autocomplete="off"
        />
      )}
      {draft.type === "webhook" && (
        <>
          <Select
            label={words.where}
            value={draft.channel}
            options={[
              ["", words.toUrl],
              ...withMissing(channels, draft.channel).map(
                (name): Option => [name, words.toChannel(name)],
              ),
            ]}
            onInput={(channel) => set({ channel })}
          />
          {!draft.channel && (
            <Field
              label="URL"
              type="url"
              value={draft.url}
              onInput={(url) => set({ url })}
              required
              autocomplete="off"
            />
          )}
        </>
      )}
      {draft.type === "script" && (
        <Field
          label={words.script}
          hint={words.scriptHint}
          value={draft.script}
          onInput={(script) => set({ script })}
          required
          autocomplete="off"
        />
      )}
      {draft.type !== "alert" && (
        <Area
          label={words.payload}
          hint={words.payloadHint}
          value={draft.payload}
          onInput={(payload) => set({ payload })}
          code
        />
      )}
    </div>
  );
}

function AlertForm(props: {
  draft: ActionDraft;
  set: (change: Partial<ActionDraft>) => void;
  channels: string[];
}) {
  const { draft, set } = props;
  const words = texts.rules;
  const chosen = draft.channels;
  const step = (index: number, change: Partial<ActionDraft["escalations"][number]>) =>
    set({
      escalations: draft.escalations.map((each, at) =>
        at === index ? { ...each, ...change } : each,
      ),
    });
  return (
    <>
      <Field
        label={words.text}
        hint={words.textHint}
        value={draft.text}
        onInput={(text) => set({ text })}
        placeholder="{{sensor.device_id}} has {{value.temperature}} °C"
        autocomplete="off"
      />
      <div>
        <Check
          label={words.allChannels}
          value={chosen === null}
          onInput={(all) => set({ channels: all ? null : [] })}
        />
        {chosen !== null && (
          <div class="checks">
            {withMissing(props.channels, ...chosen).map((name) => (
              <Check
                key={name}
                label={name}
                value={chosen.includes(name)}
                onInput={(is) =>
                  set({ channels: is ? [...chosen, name] : chosen.filter((each) => each !== name) })
                }
              />
            ))}
          </div>
        )}
      </div>
      <Field
        label={words.remind}
        hint={words.remindHint}
        inputMode="decimal"
        value={draft.remindMinutes}
        onInput={(remindMinutes) => set({ remindMinutes })}
        autocomplete="off"
      />
      {draft.escalations.map((each, index) => (
        <div class="pair" key={index}>
          <Field
            label={words.after}
            inputMode="decimal"
            value={each.minutes}
            onInput={(minutes) => step(index, { minutes })}
            required
            autocomplete="off"
          />
          <Select
            label={words.becomes}
            value={each.severity}
            options={Object.entries(texts.severities)}
            onInput={(severity) => step(index, { severity })}
          />
        </div>
      ))}
      <p>
        <button
          type="button"
          class="link"
          onClick={() =>
            set({
              escalations: [
                ...draft.escalations,
                { minutes: "30", severity: "critical", channels: undefined },
              ],
            })
          }
        >
          {words.escalate}
        </button>{" "}
        {draft.escalations.length > 0 && (
          <button
            type="button"
            class="link"
            onClick={() => set({ escalations: draft.escalations.slice(0, -1) })}
          >
            {words.removeEscalation}
          </button>
        )}
      </p>
    </>
  );
}

/** Names that are there, and those that are named though they are not. */
function withMissing(names: string[], ...named: string[]): string[] {
  return [...new Set([...names, ...named.filter(Boolean)])];
}
