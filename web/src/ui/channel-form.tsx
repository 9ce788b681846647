/** The form of a channel, by its kind. What is secret is never shown, and stays unless it is given. */
import { useState } from "preact/hooks";
import { api, ask, type Schemas } from "../api/client";
import { texts } from "../texts";
import { Area, Check, type Option, Select } from "./controls";
import { Problems } from "./dry-run";
import { Field, Form } from "./parts";
import type { Rights } from "./section";

type Channel = Schemas["ChannelRepresentation"];

const SERVER = "*";

export function ChannelForm(props: {
  channel: Channel | null;
  network: string;
  rights: Rights;
  done: () => void;
  cancel: () => void;
}) {
  const { channel, rights } = props;
  const words = texts.channels;
  const networks = rights.networks
    .filter((each) => rights.mayEdit(each.network_identifier))
    .map((each): Option => [each.network_identifier, each.network_name]);
  if (rights.isAdmin) networks.push([SERVER, words.ofServer]);
  const [network, setNetwork] = useState(
    channel ? (channel.network_identifier ?? SERVER) : props.network || (networks[0]?.[0] ?? ""),
  );
  const [name, setName] = useState(channel?.name ?? "");
  const [type, setType] = useState(channel?.type ?? "email");
  const [enabled, setEnabled] = useState(channel?.enabled ?? true);
  const [to, setTo] = useState(channel?.to?.join("\n") ?? "");
  const [url, setUrl] = useState(channel?.url ?? "");
  const [secret, setSecret] = useState(channel?.secret ?? "");
  const [headers, setHeaders] = useState(headerLines(channel?.headers));
  const [subject, setSubject] = useState(channel?.subject ?? "");
  const [body, setBody] = useState(bodyText(channel?.body));

  async function send() {
    const members: Record<string, unknown> = { name: name.trim(), enabled };
    if (type === "email")
      members.to = to
        .split(/[\n,]/)
        .map((each) => each.trim())
        .filter(Boolean);
    else members.url = url.trim();
    if (type === "webhook") {
      members.secret = secret || null;
      members.headers = headersOf(headers);
      members.body = bodyOf(body);
    } else {
      members.subject = subject || null;
      members.body = body || null;
    }
    if (channel) {
      await ask(
        api.PUT("/api/v1/channels/{channel_id}", {
          params: { path: { channel_id: channel.id } },
          body: members as Schemas["ChannelChange"],
        }),
      );
    } else {
      members.type = type;
      members.network_identifier = network === SERVER ? null : network;
      await ask(api.POST("/api/v1/channels", { body: members as Schemas["NewChannel"] }));
    }
    props.done();
  }
  return (
    <Form submit={channel ? texts.save : words.submit} send={send} cancel={props.cancel}>
      {(problems) => (
        <>
          <Problems problems={problems} />
          <Field
            label={texts.rules.name}
            value={name}
            onInput={setName}
            problem={problems.name}
            required
            autoFocus
            autocomplete="off"
          />
          {!channel && (
            <div class="pair">
              <Select
                label={texts.sections.network}
                value={network}
                options={networks}
                onInput={setNetwork}
              />
              <Select
                label={words.type}
                value={type}
                options={Object.entries(words.types)}
                onInput={setType}
              />
            </div>
          )}
          {type === "email" && (
            <Area
              label={words.to}
              hint={words.toHint}
              value={to}
              onInput={setTo}
              problem={problems.to}
              rows={2}
              required
            />
          )}
          {type !== "email" && (
            <Field
              label="URL"
              hint={type === "webhook" ? words.urlHint : words.appriseHint}
              value={url}
              onInput={setUrl}
              problem={problems.url}
              required
              autocomplete="off"
              spellcheck={false}
              placeholder={
                type === "webhook" ? "https://example.org/hooks/alerts" : "ntfys://a-topic"
              }
            />
          )}
          {type === "webhook" && (
            <>
              <Field
                label={words.secret}
                hint={words.secretHint}
                type="password"
                value={secret}
                onInput={setSecret}
                problem={problems.secret}
                autocomplete="new-password"
              />
              <Area
                label={words.headers}
                hint={words.headersHint}
                value={headers}
                onInput={setHeaders}
                problem={problems.headers}
                rows={2}
                code
                placeholder="Authorization: Bearer …"
              />
            </>
          )}
          <details>
            <summary>{words.ownWords}</summary>
            <div class="form">
              {type !== "webhook" && (
                <Field
                  label={words.subject}
                  value={subject}
                  onInput={setSubject}
                  problem={problems.subject}
                  placeholder="{{title}}"
                  autocomplete="off"
                />
              )}
              <Area
                label={words.body}
                hint={words.bodyHint}
                value={body}
                onInput={setBody}
                problem={problems.body}
                rows={4}
                code
                placeholder={type === "webhook" ? '{"content": "{{title}}"}' : "{{text}}"}
              />
            </div>
          </details>
          <Check label={texts.rules.inUse} value={enabled} onInput={setEnabled} />
        </>
      )}
    </Form>
  );
}

function headerLines(headers: unknown): string {
  return Object.entries((headers ?? {}) as Record<string, string>)
    .map(([name, value]) => `${name}: ${value}`)
    .join("\n");
}

function headersOf(lines: string): Record<string, string> | null {
  const entries = lines
    .split("\n")
    .filter((line) => line.trim())
    .map((line) => {
      const at = line.indexOf(":");
      return at < 0
        ? ([line.trim(), ""] as const)
        : ([line.slice(0, at).trim(), line.slice(at + 1).trim()] as const);
    });
  return entries.length > 0 ? Object.fromEntries(entries) : null;
}

function bodyText(body: unknown): string {
  if (body === null || body === undefined) return "";
  return typeof body === "string" ? body : JSON.stringify(body, null, 2);
}

function bodyOf(text: string): unknown {
  if (!text.trim()) return null;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
