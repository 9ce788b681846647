/** All that came from a sensor, as it was sent; what was rejected with its reason, to submit again. */
import { useState } from "preact/hooks";
import { api, ask, Failure, root, type Schemas } from "../api/client";
import { useLoad } from "../load";
import { bytes, count } from "../numbers";
import type { PageProps } from "../pages";
import "../styles/sensor.css";
import { texts } from "../texts";
import { fullTime } from "../time";
import { Filter } from "../ui/controls";
import { mayEdit, SensorHead, useNetwork, useSensor } from "../ui/network-head";
import { Ago, Dialog, Empty, Form, Notice, Show } from "../ui/parts";
import { useReloads } from "../ui/reloads";
import { useFilter } from "../ui/section";

type Message = Schemas["MessageRepresentation"];
type Kind = "measurement" | "log" | "heartbeat" | "packet" | "rejected";

const PAGE = 100;
const DAY_SECONDS = 86_400;
/** As long as the text of a message is shown at once. */
const LINE = 160;
const words = texts.messages;

export default function SensorMessagesPage({ params }: PageProps) {
  const identifier = params.sensor ?? "";
  const [kind, setKind] = useFilter("kind");
  const [range, setRange] = useFilter("days");
  const [cursor, setCursor] = useState("");
  const [isResubmitting, setResubmitting] = useState(false);
  const days = range in words.ranges ? Number(range) : 1;
  const network = useNetwork(params.network ?? "");
  const sensor = useSensor(identifier);
  const messages = useLoad(`messages ${identifier} ${kind} ${days} ${cursor}`, (signal) =>
    ask(
      api.GET("/api/v1/messages", {
        params: {
          query: {
            sensor: identifier,
            limit: PAGE,
            start_time: Date.now() / 1000 - days * DAY_SECONDS,
            ...(kind && { kind: [kind as Kind] }),
            ...(cursor && { cursor }),
          },
        },
        signal,
      }),
    ),
  );
  // Older ones stay as they are; of what was rejected no event tells.
  const reload = () => {
    if (!cursor) messages.reload();
  };
  useReloads(["measurement", "log", "heartbeat"], sensor.data?.sensor_identifier, reload);
  const isEditor = mayEdit(network.data);
  const choose = (set: (value: string) => void) => (value: string) => {
    setCursor("");
    set(value);
  };
  return (
    <>
      <SensorHead network={network.data} sensor={sensor} />
      <div class="tools">
        <Filter
          label={words.kind}
          value={kind}
          options={[["", words.any], ...Object.entries(words.kinds)]}
          onInput={choose(setKind)}
        />
        <Filter
          label={words.range}
          value={String(days)}
          options={Object.entries(words.ranges)}
          onInput={choose(setRange)}
        />
        {isEditor && kind === "rejected" && (
          <button type="button" class="button" onClick={() => setResubmitting(true)}>
            {words.resubmitAll}
          </button>
        )}
      </div>
      <Show loaded={messages}>
        {(found) => (
          <>
            {found.messages.length === 0 && !found.cursor ? (
              <Empty title={kind === "rejected" ? words.noneRejected : words.empty}>
                <p>{kind === "rejected" ? words.noneRejectedHint : words.emptyHint}</p>
              </Empty>
            ) : (
              <>
                <p class="quiet small count-line">
                  {words.count(count(found.total_count), found.total_is_lower_bound)}
                </p>
                <ul class="rows">
                  {found.messages.map((message) => (
                    <Row
                      key={message.id}
                      message={message}
                      isEditor={isEditor}
                      done={messages.reload}
                    />
                  ))}
                </ul>
              </>
            )}
            <p class="more">
              {cursor && (
                <button type="button" class="button" onClick={() => setCursor("")}>
                  {words.newest}
                </button>
              )}
              {found.cursor && (
                <button
                  type="button"
                  class="button"
                  onClick={() => {
                    setCursor(found.cursor ?? "");
                    scrollTo(0, 0);
                  }}
                >
                  {words.older}
                </button>
              )}
            </p>
          </>
        )}
      </Show>
      {isResubmitting && (
        <Dialog title={words.resubmitAll} close={() => setResubmitting(false)}>
          <ResubmitAll
            sensor={identifier}
            done={messages.reload}
            close={() => setResubmitting(false)}
          />
        </Dialog>
      )}
    </>
  );
}

function Row(props: { message: Message; isEditor: boolean; done: () => void }) {
  const { message, isEditor, done } = props;
  const isRejected = message.kind === "rejected";
  const text =
    typeof message.payload === "string" ? message.payload : JSON.stringify(message.payload);
  return (
    <li class="row">
      <span class={`row-mark state ${isRejected ? "state-bad" : "state-off"}`}>
        {words.kinds[message.kind] ?? message.kind}
      </span>
      <div class="row-main">
        {isRejected && <p>{message.detail ?? message.reason}</p>}
        {text.length <= LINE ? (
          <p class="code-line">{text}</p>
        ) : (
          <details>
            <summary class="code-line">{`${text.slice(0, LINE)}…`}</summary>
            <pre class="code-line payload" tabIndex={0}>
              {typeof message.payload === "string"
                ? message.payload
                : JSON.stringify(message.payload, null, 2)}
            </pre>
          </details>
        )}
        <p class="row-facts quiet">
          <span>{fullTime(message.receipt_timestamp)}</span>
          {message.topic && <span>{message.topic}</span>}
          {message.reason && <span>{message.reason}</span>}
          {message.sender && <span>{message.sender}</span>}
          {message.size !== null && message.size > 65_536 && (
            <span>{words.kept(bytes(message.size))}</span>
          )}
          {isRejected && (
            <a href={`${root}/api/v1/messages/${message.id}/payload`} download>
              {words.download}
            </a>
          )}
        </p>
      </div>
      <span class="row-time">
        <Ago time={message.receipt_timestamp} />
      </span>
      {isRejected && isEditor && <Resubmit message={message} done={done} />}
    </li>
  );
}

function Resubmit({ message, done }: { message: Message; done: () => void }) {
  const [isSending, setSending] = useState(false);
  const [problem, setProblem] = useState<string>();
  async function send() {
    if (isSending) return;
    setSending(true);
    setProblem(undefined);
    try {
      const told = await ask(
        api.POST("/api/v1/messages/{message_id}/resubmit", {
          params: { path: { message_id: message.id } },
        }),
      );
      if (told.stored) done();
      else setProblem(told.rejected.map(({ detail }) => detail).join("; "));
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      setProblem(error.sentence);
    } finally {
      setSending(false);
    }
  }
  return (
    <div class="row-do resubmit">
      <button
        type="button"
        class="button button-small"
        aria-disabled={isSending}
        onClick={() => void send()}
      >
        {words.resubmit}
      </button>
      {problem !== undefined && (
        <p class="field-problem" role="alert">
          {words.still}
          {problem && `: ${problem}`}
        </p>
      )}
    </div>
  );
}

function ResubmitAll(props: { sensor: string; done: () => void; close: () => void }) {
  const { sensor, done, close } = props;
  const [told, setTold] = useState<{ stored: number; kept: number }>();
  async function send() {
    let cursor: string | null = null;
    let [stored, kept] = [0, 0];
    do {
      const part: Schemas["ResubmittedMessages"] = await ask(
        api.POST("/api/v1/messages/resubmit", {
          body: { sensor, limit: 1000, ...(cursor && { cursor }) },
        }),
      );
      stored += part.stored;
      kept += part.kept.length;
      setTold({ stored, kept });
      cursor = part.cursor;
    } while (cursor);
    done();
  }
  return (
    <Form submit={words.resubmit} send={send} cancel={close}>
      {() => (
        <>
          <p>{words.resubmitAllHint}</p>
          {told && (
            <Notice kind={told.kept > 0 ? "warning" : "done"}>
              <p>{words.storedAll(count(told.stored), count(told.kept))}</p>
            </Notice>
          )}
        </>
      )}
    </Form>
  );
}
