/** A new sensor: its form, its key, code that sends, and the first message. */
import { useCallback, useEffect, useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { api, ask, root, type Schemas } from "../api/client";
import { useEvents } from "../live";
import { useLoad } from "../load";
import { snippets } from "../network/snippets";
import { attributesOf, shownValue } from "../network/values";
import type { PageProps } from "../pages";
import "../styles/network.css";
import { texts } from "../texts";
import { Copied } from "../ui/copied";
import { mayEdit, NetworkHead, useNetwork } from "../ui/network-head";
import { Ago, Field, Form, Icon, Notice, Show } from "../ui/parts";

type Created = Schemas["CreatedDevice"];
type Message = Schemas["MessageRepresentation"];

const REJECTED_MILLISECONDS = 3000;
const words = texts.addSensor;

export default function AddSensorPage({ params }: PageProps) {
  const network = useNetwork(params.network ?? "");
  const [created, setCreated] = useState<Created>();
  return (
    <>
      <NetworkHead network={network} />
      <Show loaded={network}>
        {(found) =>
          created ? (
            <FirstMessage created={created} />
          ) : mayEdit(found) ? (
            <section class="panel">
              <h2>{words.title}</h2>
              <NewSensor network={found.network_identifier} done={setCreated} />
            </section>
          ) : (
            <Notice kind="warning">{words.forbidden}</Notice>
          )
        }
      </Show>
    </>
  );
}

function NewSensor({ network, done }: { network: string; done: (created: Created) => void }) {
  const [name, setName] = useState("");
  const [device, setDevice] = useState("");
  async function send() {
    const body = {
      ...{ device_id: device, network_identifier: network, packing: true },
      ...(name && { name }),
    };
    done(await ask(api.POST("/api/v1/devices", { body })));
  }
  return (
    <Form submit={words.submit} send={send}>
      {(problems) => (
        <>
          <Field
            label={words.device}
            hint={words.deviceHint}
            value={device}
            onInput={setDevice}
            problem={problems.device_id}
            pattern="[A-Za-z0-9_\-]{1,64}"
            autocomplete="off"
            autocapitalize="none"
            spellcheck={false}
            required
            autoFocus
          />
          <Field
            label={words.name}
            hint={words.nameHint}
            value={name}
            onInput={setName}
            problem={problems.name}
            maxLength={255}
            autocomplete="off"
          />
        </>
      )}
    </Form>
  );
}

function FirstMessage({ created }: { created: Created }) {
  const status = useLoad("status", (signal) => ask(api.GET("/api/v1/status", { signal })));
  const device = created.device_id ?? created.sensor_identifier;
  return (
    <div class="add">
      <section class="panel">
        <h2>{words.key}</h2>
        <Notice kind="warning">{words.keyHint}</Notice>
        <Copied text={created.api_key} />
      </section>
      <section class="panel">
        <h2>{words.send}</h2>
        <Show loaded={status}>
          {({ mqtt_hostname: host, mqtt_port: port }) => (
            <Code
              list={snippets({ url: location.origin + root, host, port }, device, created.api_key)}
            />
          )}
        </Show>
      </section>
      <section class="panel" aria-live="polite">
        <h2>{words.first}</h2>
        <Waiting created={created} />
      </section>
    </div>
  );
}

function Code({ list }: { list: ReturnType<typeof snippets> }) {
  const [name, setName] = useState(list[0]?.name);
  const shown = list.find((each) => each.name === name);
  return (
    <>
      <div class="add-ways" role="group" aria-label={words.way}>
        {list.map((each) => (
          <button
            key={each.name}
            type="button"
            class="add-way"
            aria-pressed={each.name === name}
            onClick={() => setName(each.name)}
          >
            {each.name}
          </button>
        ))}
      </div>
      {name && <p class="quiet small">{words.ways[name]}</p>}
      {shown && <Copied text={shown.code} />}
    </>
  );
}

function Waiting({ created }: { created: Created }) {
  const identifier = created.sensor_identifier;
  const [first, setFirst] = useState<{ time: number; measurement: unknown }>();
  const rejected = useLoad(`rejected ${identifier}`, (signal) =>
    ask(
      api.GET("/api/v1/messages", {
        params: { query: { sensor: identifier, kind: ["rejected"], limit: 5 } },
        signal,
      }),
    ),
  );
  useEvents(
    ["measurement"],
    useCallback(
      (events) => {
        const found = events.find(({ data }) => data.sensor_identifier === identifier);
        if (found) setFirst({ time: Date.now(), measurement: found.data.measurement });
      },
      [identifier],
    ),
  );
  const { reload } = rejected;
  useEffect(() => {
    // No event tells of what was rejected.
    const timer = setInterval(reload, REJECTED_MILLISECONDS);
    return () => clearInterval(timer);
  }, [reload]);
  const messages = rejected.data?.messages ?? [];
  return (
    <>
      {first ? (
        <>
          <Notice kind="done">
            <span>
              {words.arrived} <Ago time={first.time} />
            </span>
          </Notice>
          <dl class="facts">
            {attributesOf(first.measurement).map(([name, value]) => (
              <>
                <dt key={name}>{name}</dt>
                <dd>{shownValue(value)}</dd>
              </>
            ))}
          </dl>
          <Link
            class="button button-primary"
            href={`/networks/${created.network_identifier}/sensors/${identifier}`}
          >
            {words.open}
          </Link>
        </>
      ) : (
        <p class="waiting">
          <Icon name="networks" />
          {words.waiting}
        </p>
      )}
      {messages.length > 0 && <Rejected messages={messages} />}
    </>
  );
}

function Rejected({ messages }: { messages: Message[] }) {
  return (
    <div class="rejected">
      <h3>{words.rejected}</h3>
      <ul>
        {messages.map((message) => (
          <li key={message.id}>
            <strong>{message.detail ?? message.reason}</strong>
            <span class="quiet small">
              {message.topic} · <Ago time={message.receipt_timestamp} />
            </span>
          </li>
        ))}
      </ul>
    </div>
  );
}
