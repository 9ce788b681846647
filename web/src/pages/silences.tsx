/** Silences: whose alerts nobody is told of. */
import { useState } from "preact/hooks";
import { api, ask, askList, type Schemas } from "../api/client";
import { useLoad } from "../load";
import { texts } from "../texts";
import { fullTime, now } from "../time";
import { Check, type Option, Select } from "../ui/controls";
import { Dialog, Empty, Form, Icon, Show } from "../ui/parts";
import { More, NetworkFilter, type Rights, SectionHead, useFilter, useRights } from "../ui/section";
import { SilenceForm } from "../ui/silence-form";

type Silence = Schemas["SilenceRepresentation"];

const PAGE = 100;
const EVERYTHING = "*";

export default function SilencesPage() {
  const rights = useRights();
  const [network, setNetwork] = useFilter("network");
  const [ended, setEnded] = useState(false);
  const [limit, setLimit] = useState(PAGE);
  const [dialog, setDialog] = useState<"new" | Silence>();
  const close = () => setDialog(undefined);
  const query = { ...(network && { network_identifier: network }), ended, limit };
  const silences = useLoad(`silences ${network} ${ended} ${limit}`, (signal) =>
    askList(api.GET("/api/v1/silences", { params: { query }, signal })),
  );
  const rules = useLoad("names of rules", (signal) => ask(api.GET("/api/v1/rules", { signal })));
  const names: Names = new Map((rules.data ?? []).map((rule) => [rule.id, rule.name]));
  function done() {
    close();
    silences.reload();
  }
  const mayMake = rights.networks.some((each) => rights.mayEdit(each.network_identifier));
  const add = mayMake && (
    <button type="button" class="button button-primary" onClick={() => setDialog("new")}>
      <Icon name="plus" />
      {texts.silences.create}
    </button>
  );
  return (
    <>
      <SectionHead section="alerts" title={texts.silences.title}>
        {add}
      </SectionHead>
      <div class="tools">
        <NetworkFilter rights={rights} value={network} onInput={setNetwork} />
        <Check label={texts.silences.showEnded} value={ended} onInput={setEnded} />
      </div>
      <Show loaded={silences}>
        {({ rows, total }) =>
          rows.length === 0 ? (
            <Empty title={texts.silences.empty}>
              <p>{texts.silences.emptyHint}</p>
            </Empty>
          ) : (
            <>
              <ul class="rows">
                {rows.map((silence) => (
                  <Row
                    key={silence.id}
                    silence={silence}
                    names={names}
                    rights={rights}
                    end={setDialog}
                  />
                ))}
              </ul>
              <More shown={rows.length} total={total} more={() => setLimit(limit + PAGE)} />
            </>
          )
        }
      </Show>
      {dialog === "new" && (
        <Dialog title={texts.silences.create} close={close}>
          <New rights={rights} network={network} done={done} cancel={close} />
        </Dialog>
      )}
      {dialog && dialog !== "new" && (
        <Dialog title={texts.silences.end} close={close}>
          <End silence={dialog} names={names} done={done} cancel={close} />
        </Dialog>
      )}
    </>
  );
}

/** What rules are called, by their ids. */
type Names = ReadonlyMap<string, string>;

function aboutOf(silence: Silence, names: Names): string {
  const parts = [
    silence.sensor_identifier &&
      texts.silences.ofSensor(
        silence.sensor_name ?? silence.device_id ?? silence.sensor_identifier,
      ),
    silence.tag && texts.silences.ofTag(silence.tag),
    silence.rule && texts.silences.ofRule(names.get(silence.rule) ?? silence.rule),
  ].filter(Boolean);
  if (parts.length > 0) return parts.join(", ");
  return silence.network_identifier ? texts.silences.whole : texts.silences.everything;
}

function Row(props: {
  silence: Silence;
  names: Names;
  rights: Rights;
  end: (silence: Silence) => void;
}) {
  const { silence, names, rights } = props;
  const isOver = Date.parse(silence.ends_at) <= now.value;
  const isPlanned = Date.parse(silence.starts_at) > now.value;
  const [name, text] = isOver
    ? ["off", texts.silences.over]
    : isPlanned
      ? ["info", texts.silences.planned]
      : ["ok", texts.silences.active];
  return (
    <li class="row">
      <div class="row-mark">
        <span class={`state state-${name}`}>{text}</span>
      </div>
      <div class="row-main">
        <strong>{aboutOf(silence, names)}</strong>
        {silence.comment && <p>{silence.comment}</p>}
        <p class="row-facts quiet">
          <span>{rights.nameOf(silence.network_identifier)}</span>
          <span>
            {fullTime(silence.starts_at)} – {fullTime(silence.ends_at)}
          </span>
          {silence.author && <span>{texts.alerts.by(silence.author)}</span>}
        </p>
      </div>
      {!isOver && rights.mayEdit(silence.network_identifier) && (
        <div class="row-do">
          <button
            type="button"
            class="button button-small"
            aria-label={texts.silences.endOf(aboutOf(silence, names))}
            onClick={() => props.end(silence)}
          >
            {texts.silences.end}
          </button>
        </div>
      )}
    </li>
  );
}

function New(props: { rights: Rights; network: string; done: () => void; cancel: () => void }) {
  const options: Option[] = props.rights.networks
    .filter((each) => props.rights.mayEdit(each.network_identifier))
    .map((each): Option => [each.network_identifier, each.network_name]);
  if (props.rights.isAdmin) options.push([EVERYTHING, texts.silences.everything]);
  const [network, setNetwork] = useState(props.network || (options[0]?.[0] ?? ""));
  return (
    <div class="form">
      <Select
        label={texts.sections.network}
        value={network}
        options={options}
        onInput={setNetwork}
      />
      <SilenceForm
        key={network}
        network={network === EVERYTHING ? null : network}
        done={props.done}
        cancel={props.cancel}
      />
    </div>
  );
}

function End(props: { silence: Silence; names: Names; done: () => void; cancel: () => void }) {
  async function send() {
    const path = { silence_id: props.silence.id };
    await ask(api.DELETE("/api/v1/silences/{silence_id}", { params: { path } }));
    props.done();
  }
  return (
    <Form submit={texts.silences.end} send={send} cancel={props.cancel}>
      {() => <p>{aboutOf(props.silence, props.names)}</p>}
    </Form>
  );
}
