/** What a sensor logs in with: a new key, shown once, or none any more. */
import { useState } from "preact/hooks";
import { api, ask, root, type Schemas } from "../api/client";
import { useLoad } from "../load";
import type { PageProps } from "../pages";
import { texts } from "../texts";
import { fullTime } from "../time";
import { Copied } from "../ui/copied";
import {
  mayEdit,
  mayManage,
  type Sensor,
  SensorHead,
  useNetwork,
  useSensor,
} from "../ui/network-head";
import { Dialog, Form, Notice, Show } from "../ui/parts";

const words = texts.access;
const ENTRIES = 20;

export default function SensorAccessPage({ params }: PageProps) {
  const identifier = params.sensor ?? "";
  const network = useNetwork(params.network ?? "");
  const sensor = useSensor(identifier);
  const [turn, setTurn] = useState(0);
  const changed = () => {
    sensor.reload();
    setTurn(turn + 1);
  };
  return (
    <>
      <SensorHead network={network.data} sensor={sensor} />
      <Show loaded={sensor}>
        {(found) => (
          <>
            <LogIn sensor={found} />
            {network.data && !mayEdit(network.data) && (
              <Notice kind="warning">
                <p>{words.nobody}</p>
              </Notice>
            )}
            {mayEdit(network.data) && (
              <Key sensor={found} isOwner={mayManage(network.data)} changed={changed} />
            )}
            {mayManage(network.data) && <History sensor={found} turn={turn} />}
          </>
        )}
      </Show>
    </>
  );
}

function LogIn({ sensor }: { sensor: Sensor }) {
  const status = useLoad("status", (signal) => ask(api.GET("/api/v1/status", { signal })));
  return (
    <section class="panel">
      <dl class="facts facts-long">
        <dt>{words.state}</dt>
        <dd>
          <span class={`state ${sensor.is_active ? "state-ok" : "state-off"}`}>
            {sensor.is_active ? words.active : words.inactive}
          </span>
        </dd>
        <dt>{words.key}</dt>
        <dd>
          <span class={`state ${sensor.has_key ? "state-ok" : "state-off"}`}>
            {sensor.has_key ? words.hasKey : words.noKey}
          </span>
        </dd>
        <dt>{words.device}</dt>
        <dd>
          <code>{sensor.device_id ?? sensor.sensor_identifier}</code>
        </dd>
        <dt>{words.uuid}</dt>
        <dd>
          <code>{sensor.sensor_identifier}</code>
        </dd>
        <dt>{words.http}</dt>
        <dd>
          <code>{`${location.origin}${root}`}</code>
          <div class="quiet small">{words.header}</div>
        </dd>
        <dt>{words.mqtt}</dt>
        <dd>
          <code>{status.data ? `${status.data.mqtt_hostname}:${status.data.mqtt_port}` : "…"}</code>
        </dd>
      </dl>
    </section>
  );
}

type Asked = "rotate" | "revoke" | "deactivate";

function Key(props: { sensor: Sensor; isOwner: boolean; changed: () => void }) {
  const { sensor, isOwner, changed } = props;
  const [asked, setAsked] = useState<Asked>();
  const [key, setKey] = useState<string>();
  const path = { device_id: sensor.sensor_identifier };
  const close = () => setAsked(undefined);
  async function rotate() {
    const made = await ask(api.POST("/api/v1/devices/{device_id}/key", { params: { path } }));
    setKey(made.api_key);
    close();
    changed();
  }
  async function revoke() {
    await ask(api.DELETE("/api/v1/devices/{device_id}/key", { params: { path } }));
    setKey(undefined);
    close();
    changed();
  }
  async function deactivate() {
    await ask(api.DELETE("/api/v1/devices/{device_id}", { params: { path } }));
    close();
    changed();
  }
  async function activate() {
    await ask(
      api.PATCH("/api/v1/devices/{device_id}", { params: { path }, body: { is_active: true } }),
    );
    changed();
  }
  return (
    <section class="panel">
      <h2>{words.key}</h2>
      <p class="quiet" role="status">
        {sensor.has_key ? words.keyHint : words.noKeyHint}
      </p>
      {key && (
        <Notice kind="done">
          <p>{words.shown}</p>
          <Copied text={key} />
        </Notice>
      )}
      {sensor.is_active ? (
        <div class="form-actions">
          <button type="button" class="button" onClick={() => setAsked("rotate")}>
            {words.rotate}
          </button>
          {sensor.has_key && (
            <button type="button" class="button" onClick={() => setAsked("revoke")}>
              {words.revoke}
            </button>
          )}
          {isOwner && (
            <button
              type="button"
              class="button button-danger"
              onClick={() => setAsked("deactivate")}
            >
              {words.deactivate}
            </button>
          )}
        </div>
      ) : (
        <Form submit={words.activate} send={activate}>
          {() => null}
        </Form>
      )}
      {asked === "rotate" && (
        <Dialog title={words.rotate} close={close}>
          <Form submit={words.rotate} send={rotate} cancel={close}>
            {() => <p>{words.rotateHint}</p>}
          </Form>
        </Dialog>
      )}
      {asked === "revoke" && (
        <Dialog title={words.revoke} close={close}>
          <Form submit={words.revoke} isDanger send={revoke} cancel={close}>
            {() => <p>{words.revokeHint}</p>}
          </Form>
        </Dialog>
      )}
      {asked === "deactivate" && (
        <Dialog title={words.deactivate} close={close}>
          <Form submit={words.deactivate} isDanger send={deactivate} cancel={close}>
            {() => <p>{words.deactivateHint}</p>}
          </Form>
        </Dialog>
      )}
    </section>
  );
}

/** Who has changed it, as the audit log has it, which owners may read. */
function History({ sensor, turn }: { sensor: Sensor; turn: number }) {
  const query = { resource: sensor.sensor_identifier, limit: ENTRIES };
  const entries = useLoad(`history ${sensor.sensor_identifier} ${turn}`, (signal) =>
    ask(api.GET("/api/v1/audit", { params: { query }, signal })),
  );
  return (
    <section class="panel">
      <h2>{words.history}</h2>
      <Show loaded={entries}>
        {(list) => (
          <ol class="events">
            {list.map((entry) => (
              <li key={entry.id}>
                <time dateTime={entry.timestamp} class="quiet">
                  {fullTime(entry.timestamp)}
                </time>
                <span>{told(entry)}</span>
              </li>
            ))}
          </ol>
        )}
      </Show>
    </section>
  );
}

function told(entry: Schemas["AuditRepresentation"]): string {
  const action = words.actions[entry.action] ?? entry.action;
  const members = Object.keys(entry.changes).join(", ");
  const what = entry.action === "sensor.change" && members ? `${action}: ${members}` : action;
  return `${what}, ${texts.alerts.by(entry.actor)}`;
}
