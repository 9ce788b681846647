/** The audit log: who did what to which resource, when. */
import { useEffect, useState } from "preact/hooks";
import { api, ask, type Schemas } from "../api/client";
import { useLoad } from "../load";
import { texts } from "../texts";
import { fullTime } from "../time";
import { Filter, type Option } from "../ui/controls";
import { Empty, Field, Notice, Show } from "../ui/parts";
import { NetworkFilter, type Rights, SectionHead, useFilter, useRights } from "../ui/section";

type Entry = Schemas["AuditRepresentation"];

const PAGE = 100;
/** The compiler sees that none is missing. */
const KNOWN: Record<Schemas["AuditAction"], true> = {
  "user.create": true,
  "user.change_password": true,
  "user.deactivate": true,
  "user.activate": true,
  "user.log_in": true,
  "user.fail_to_log_in": true,
  "user.log_out": true,
  "user.make_ticket": true,
  "network.create": true,
  "network.change": true,
  "network.delete": true,
  "member.create": true,
  "member.change": true,
  "member.delete": true,
  "sensor.create": true,
  "sensor.change": true,
  "sensor.change_key": true,
  "sensor.revoke_key": true,
  "sensor.configure": true,
  "sensor.delete": true,
  "sensor.erase": true,
  "node.create": true,
  "node.change": true,
  "node.delete": true,
  "rule.create": true,
  "rule.change": true,
  "rule.delete": true,
  "action.repeat": true,
  "channel.create": true,
  "channel.change": true,
  "channel.delete": true,
  "alert.acknowledge": true,
  "alert.clear": true,
  "silence.create": true,
  "silence.change": true,
  "silence.end": true,
  "clock.accept": true,
  "retention.accept": true,
  "settings.change": true,
  "message.resubmit": true,
  "annotation.change": true,
  "annotation.create": true,
  "annotation.delete": true,
  "board.change": true,
  "board.create": true,
  "board.delete": true,
};
const ACTIONS = Object.keys(KNOWN);
const PAUSE_MILLISECONDS = 400;

export default function AuditPage() {
  const words = texts.audit;
  const rights = useRights();
  const [network, setNetwork] = useFilter("network");
  const [action, setAction] = useFilter("action");
  const [actor, setActor] = useFilter("actor");
  const [resource, setResource] = useFilter("resource");
  const [limit, setLimit] = useState(PAGE);
  const typedActor = usePaused(actor);
  const typedResource = usePaused(resource);
  const query = {
    ...(network && { network_identifier: network }),
    ...(action && { action: action as Schemas["AuditAction"] }),
    ...(typedActor && { actor: typedActor }),
    ...(typedResource && { resource: typedResource }),
    limit,
  };
  const entries = useLoad(`audit ${JSON.stringify(query)}`, (signal) =>
    ask(api.GET("/api/v1/audit", { params: { query }, signal })),
  );
  return (
    <>
      <SectionHead section="system" title={words.title} />
      <div class="tools tools-fields">
        <Field label={words.actor} value={actor} onInput={setActor} autocomplete="off" />
        <Field label={words.resource} value={resource} onInput={setResource} autocomplete="off" />
        <Filter
          label={words.action}
          value={action}
          options={[["", words.anyAction], ...ACTIONS.map((each): Option => [each, nameOf(each)])]}
          onInput={setAction}
        />
        <NetworkFilter rights={rights} value={network} onInput={setNetwork} />
      </div>
      <Show loaded={entries}>
        {(list) => (
          <>
            {list.length === 0 ? (
              <Empty title={words.empty}>
                <p>{words.emptyHint}</p>
              </Empty>
            ) : (
              <ul class="rows">
                {list.map((entry) => (
                  <Row key={entry.id} entry={entry} rights={rights} />
                ))}
              </ul>
            )}
            {list.length >= limit && (
              <p class="more">
                <button
                  type="button"
                  class="button"
                  onClick={() => setLimit(Math.min(10_000, limit * 3))}
                >
                  {words.older}
                </button>
              </p>
            )}
          </>
        )}
      </Show>
      {entries.failure && entries.data && <Notice kind="error">{entries.failure.sentence}</Notice>}
    </>
  );
}

/** Return a text once no more has been typed for a moment. */
function usePaused(text: string): string {
  const [paused, setPaused] = useState(text);
  useEffect(() => {
    const timer = setTimeout(() => setPaused(text.trim()), PAUSE_MILLISECONDS);
    return () => clearTimeout(timer);
  }, [text]);
  return paused;
}

function Row({ entry, rights }: { entry: Entry; rights: Rights }) {
  const words = texts.audit;
  const changes = Object.entries(entry.changes as Record<string, { old?: unknown; new?: unknown }>);
  return (
    <li class="row row-audit">
      <time class="row-mark quiet" dateTime={entry.timestamp}>
        {fullTime(entry.timestamp)}
      </time>
      <div class="row-main">
        <p>
          <strong>{entry.actor}</strong> {nameOf(entry.action)}{" "}
          {entry.resource_name !== entry.actor && (
            <strong>{entry.resource_name ?? entry.resource_identifier}</strong>
          )}
        </p>
        {changes.length > 0 && (
          <ul class="changes">
            {changes.map(([name, change]) => (
              <li key={name}>
                <code>{name}</code> {saidOf(change)}
              </li>
            ))}
          </ul>
        )}
        <p class="row-facts quiet">
          <span>{words.actorKinds[entry.actor_kind] ?? entry.actor_kind}</span>
          {entry.address && <span>{entry.address}</span>}
          {entry.network_identifier && <span>{rights.nameOf(entry.network_identifier)}</span>}
        </p>
      </div>
    </li>
  );
}

/** Return an action in words: `sensor: change key`. */
function nameOf(action: string): string {
  const [kind = "", verb = ""] = action.split(".");
  return `${kind}: ${verb.replaceAll("_", " ")}`;
}

function saidOf(change: unknown): string {
  if (typeof change !== "object" || change === null) return JSON.stringify(change);
  const { old, new: now } = change as { old?: unknown; new?: unknown };
  if (old === undefined && now === undefined) return texts.audit.changed;
  const text = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value));
  return old === undefined ? text(now) : `${text(old)} → ${text(now)}`;
}
