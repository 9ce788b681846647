/** Actions: what rules and the server have begun, what became of it, and having it done again. */
import { useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { api, ask, askList, type Schemas } from "../api/client";
import { useLoad } from "../load";
import { texts } from "../texts";
import { fullTime } from "../time";
import { Filter } from "../ui/controls";
import { Ago, Empty, Notice, Show } from "../ui/parts";
import { More, NetworkFilter, type Rights, SectionHead, useFilter, useRights } from "../ui/section";

type Action = Schemas["ActionRepresentation"];

const PAGE = 100;
const MARKS: Record<string, string> = { pending: "info", done: "ok", failed: "critical" };

export default function ActionsPage() {
  const words = texts.actions;
  const rights = useRights();
  const [state, setState] = useFilter("state");
  const [network, setNetwork] = useFilter("network");
  const [limit, setLimit] = useState(PAGE);
  const chosen = state || "failed";
  const query = {
    ...(chosen !== "all" && { state: chosen as "failed" }),
    ...(network && { network_identifier: network }),
    limit,
  };
  const actions = useLoad(`actions ${chosen} ${network} ${limit}`, (signal) =>
    askList(api.GET("/api/v1/actions", { params: { query }, signal })),
  );
  const rules = useLoad("rules by id", async (signal) => {
    const list = await ask(api.GET("/api/v1/rules", { signal }));
    return new Map(list.map((rule) => [rule.id, rule.name]));
  });
  return (
    <>
      <SectionHead section="alerts" title={words.title} />
      <div class="tools">
        <Filter
          label={words.state}
          value={chosen}
          options={Object.entries(words.states)}
          onInput={(value) => setState(value === "failed" ? "" : value)}
        />
        <NetworkFilter rights={rights} value={network} onInput={setNetwork} />
        <button type="button" class="button" onClick={actions.reload}>
          {words.refresh}
        </button>
      </div>
      <Show loaded={actions}>
        {({ rows, total }) =>
          rows.length === 0 ? (
            <Empty title={chosen === "failed" ? words.noneFailed : words.none}>
              <p>{words.emptyHint}</p>
            </Empty>
          ) : (
            <>
              <ul class="rows">
                {rows.map((action) => (
                  <Row
                    key={action.id}
                    action={action}
                    rule={action.rule_id ? (rules.data?.get(action.rule_id) ?? "") : ""}
                    rights={rights}
                    done={actions.reload}
                  />
                ))}
              </ul>
              <More shown={rows.length} total={total} more={() => setLimit(limit + PAGE)} />
            </>
          )
        }
      </Show>
    </>
  );
}

function Row(props: { action: Action; rule: string; rights: Rights; done: () => void }) {
  const { action, rule, rights } = props;
  const words = texts.actions;
  const [failure, setFailure] = useState("");
  async function repeat() {
    setFailure("");
    try {
      const path = { action_id: action.id };
      await ask(api.POST("/api/v1/actions/{action_id}/repeat", { params: { path } }));
      props.done();
    } catch (error) {
      setFailure(error instanceof Error ? error.message : String(error));
    }
  }
  return (
    <li class="row">
      <div class="row-mark">
        <span class={`state state-${MARKS[action.state] ?? "off"}`}>
          {words.states[action.state] ?? action.state}
        </span>
      </div>
      <div class="row-main">
        <strong>{words.types[action.type] ?? action.type}</strong>
        {action.error && <p>{action.error}</p>}
        <p class="row-facts quiet">
          {action.rule_id && (
            <Link href={`/alerts/rules/${action.rule_id}`}>{rule || texts.alerts.rule}</Link>
          )}
          {action.sensor_identifier && <span>{action.device_id ?? action.sensor_identifier}</span>}
          <span>{rights.nameOf(action.network_identifier)}</span>
          <span>{words.attempts(action.attempts)}</span>
          {action.due_at && <span>{words.due(fullTime(action.due_at))}</span>}
        </p>
        {failure && <Notice kind="error">{failure}</Notice>}
      </div>
      <div class="row-time">
        <Ago time={action.finished_at ?? action.created_at} />
      </div>
      {action.state !== "pending" && rights.mayEdit(action.network_identifier) && (
        <div class="row-do">
          <button
            type="button"
            class="button button-small"
            aria-label={`${words.repeat}: ${words.types[action.type] ?? action.type} ${rule}`}
            onClick={() => void repeat()}
          >
            {words.repeat}
          </button>
        </div>
      )}
    </li>
  );
}
