/** Channels: where alerts are told. */
import { useState } from "preact/hooks";
import { api, ask, askList, type Schemas } from "../api/client";
import { useLoad } from "../load";
import { texts } from "../texts";
import { ChannelForm } from "../ui/channel-form";
import { Dialog, Empty, Form, Icon, Notice, Show } from "../ui/parts";
import { More, NetworkFilter, type Rights, SectionHead, useFilter, useRights } from "../ui/section";

type Channel = Schemas["ChannelRepresentation"];

const PAGE = 100;

export default function ChannelsPage() {
  const words = texts.channels;
  const rights = useRights();
  const [network, setNetwork] = useFilter("network");
  const [limit, setLimit] = useState(PAGE);
  const [edited, setEdited] = useState<Channel | "new">();
  const [deleted, setDeleted] = useState<Channel>();
  const query = { ...(network && { network_identifier: network }), limit };
  const channels = useLoad(`channels ${network} ${limit}`, (signal) =>
    askList(api.GET("/api/v1/channels", { params: { query }, signal })),
  );
  function close() {
    setEdited(undefined);
    setDeleted(undefined);
  }
  function done() {
    close();
    channels.reload();
  }
  const mayMake = rights.networks.some((each) => rights.mayEdit(each.network_identifier));
  return (
    <>
      <SectionHead section="alerts" title={words.title}>
        {mayMake && (
          <button type="button" class="button button-primary" onClick={() => setEdited("new")}>
            <Icon name="plus" />
            {words.create}
          </button>
        )}
      </SectionHead>
      <div class="tools">
        <NetworkFilter rights={rights} value={network} onInput={setNetwork} />
      </div>
      <Show loaded={channels}>
        {({ rows, total }) =>
          rows.length === 0 ? (
            <Empty title={words.empty}>
              <p>{words.emptyHint}</p>
            </Empty>
          ) : (
            <>
              <ul class="rows">
                {rows.map((channel) => (
                  <Row
                    key={channel.id}
                    channel={channel}
                    rights={rights}
                    edit={setEdited}
                    remove={setDeleted}
                  />
                ))}
              </ul>
              <More shown={rows.length} total={total} more={() => setLimit(limit + PAGE)} />
            </>
          )
        }
      </Show>
      {edited && (
        <Dialog title={edited === "new" ? words.create : edited.name} close={close}>
          <ChannelForm
            channel={edited === "new" ? null : edited}
            network={network}
            rights={rights}
            done={done}
            cancel={close}
          />
        </Dialog>
      )}
      {deleted && (
        <Dialog title={words.deleteTitle} close={close}>
          <Delete channel={deleted} done={done} cancel={close} />
        </Dialog>
      )}
    </>
  );
}

function Row(props: {
  channel: Channel;
  rights: Rights;
  edit: (channel: Channel) => void;
  remove: (channel: Channel) => void;
}) {
  const { channel, rights } = props;
  const words = texts.channels;
  const where = channel.to?.join(", ") ?? channel.url ?? channel.service ?? "";
  const mayEdit = rights.mayEdit(channel.network_identifier);
  return (
    <li class="row">
      <div class="row-mark">
        <span class={`state state-${channel.enabled ? "ok" : "off"}`}>
          {words.types[channel.type] ?? channel.type}
        </span>
      </div>
      <div class="row-main">
        {mayEdit ? (
          <button type="button" class="row-link row-button" onClick={() => props.edit(channel)}>
            {channel.name}
          </button>
        ) : (
          <strong>{channel.name}</strong>
        )}
        <p>{where}</p>
        <p class="row-facts quiet">
          <span>{rights.nameOf(channel.network_identifier)}</span>
          {channel.type === "apprise" && channel.service && <span>{channel.service}</span>}
          {channel.secret && <span>{words.signed}</span>}
          {!channel.enabled && <span>{texts.rules.disabled}</span>}
        </p>
        {mayEdit && <Test channel={channel} />}
      </div>
      <div class="row-do">
        {rights.mayDelete(channel.network_identifier) && (
          <button
            type="button"
            class="button button-small"
            aria-label={`${texts.rules.remove}: ${channel.name}`}
            onClick={() => props.remove(channel)}
          >
            {texts.rules.remove}
          </button>
        )}
      </div>
    </li>
  );
}

/** Sends a test while one waits, and says what became of it. */
function Test({ channel }: { channel: Channel }) {
  const words = texts.channels;
  const [isSending, setSending] = useState(false);
  const [result, setResult] = useState<{ delivered: boolean; detail: string | null }>();
  async function send() {
    if (isSending) return;
    setSending(true);
    setResult(undefined);
    try {
      const path = { channel_id: channel.id };
      setResult(await ask(api.POST("/api/v1/channels/{channel_id}/test", { params: { path } })));
    } catch (error) {
      setResult({ delivered: false, detail: error instanceof Error ? error.message : null });
    } finally {
      setSending(false);
    }
  }
  return (
    <>
      <button
        type="button"
        class="link"
        aria-disabled={isSending}
        aria-label={`${words.test}: ${channel.name}`}
        onClick={() => void send()}
      >
        {isSending ? words.testing : words.test}
      </button>
      {result && (
        <Notice kind={result.delivered ? "done" : "error"}>
          {result.delivered ? words.delivered : words.failed} {result.detail}
        </Notice>
      )}
    </>
  );
}

function Delete(props: { channel: Channel; done: () => void; cancel: () => void }) {
  async function send() {
    const path = { channel_id: props.channel.id };
    await ask(api.DELETE("/api/v1/channels/{channel_id}", { params: { path } }));
    props.done();
  }
  return (
    <Form submit={texts.rules.remove} send={send} cancel={props.cancel}>
      {() => (
        <p>
          <strong>{props.channel.name}</strong>. {texts.channels.deleteHint}
        </p>
      )}
    </Form>
  );
}
