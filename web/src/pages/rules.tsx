/** Rules of all networks. */
import { useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { api, ask, askList, type Schemas } from "../api/client";
import { useLoad } from "../load";
import { inWords, type Json } from "../rule-draft";
import { texts } from "../texts";
import { Search } from "../ui/controls";
import { Dialog, Empty, Form, Icon, Show } from "../ui/parts";
import {
  More,
  NetworkFilter,
  type Rights,
  SectionHead,
  Severity,
  useFilter,
  useRights,
} from "../ui/section";

type Rule = Schemas["RuleRepresentation"];

const PAGE = 200;

export default function RulesPage() {
  const rights = useRights();
  const [network, setNetwork] = useFilter("network");
  const [search, setSearch] = useState("");
  const [limit, setLimit] = useState(PAGE);
  const [deleted, setDeleted] = useState<Rule>();
  const close = () => setDeleted(undefined);
  const query = { ...(network && { network_identifier: network }), limit };
  const rules = useLoad(`rules ${network} ${limit}`, (signal) =>
    askList(api.GET("/api/v1/rules", { params: { query }, signal })),
  );
  const wanted = search.trim().toLowerCase();
  const mayMake = rights.networks.some((each) => rights.mayEdit(each.network_identifier));
  return (
    <>
      <SectionHead section="alerts" title={texts.rules.title}>
        {mayMake && (
          <Link
            class="button button-primary"
            href={`/alerts/rules/new${network ? `?network=${network}` : ""}`}
          >
            <Icon name="plus" />
            {texts.rules.create}
          </Link>
        )}
      </SectionHead>
      <div class="tools">
        <NetworkFilter rights={rights} value={network} onInput={setNetwork} />
        <Search label={texts.rules.search} value={search} onInput={setSearch} />
      </div>
      <Show loaded={rules}>
        {({ rows, total }) => {
          if (rows.length === 0) {
            return (
              <Empty title={texts.rules.empty}>
                <p>{texts.rules.emptyHint}</p>
              </Empty>
            );
          }
          const shown = rows.filter((rule) =>
            `${rule.name} ${inWords(rule.condition as Json)}`.toLowerCase().includes(wanted),
          );
          if (shown.length === 0) return <Empty title={texts.rules.noneMatch} />;
          return (
            <>
              <ul class="rows">
                {shown.map((rule) => (
                  <Row
                    key={rule.id}
                    rule={rule}
                    rights={rights}
                    done={rules.reload}
                    remove={setDeleted}
                  />
                ))}
              </ul>
              <More shown={rows.length} total={total} more={() => setLimit(limit + PAGE)} />
            </>
          );
        }}
      </Show>
      {deleted && (
        <Dialog title={texts.rules.deleteTitle} close={close}>
          <Delete
            rule={deleted}
            cancel={close}
            done={() => {
              close();
              rules.reload();
            }}
          />
        </Dialog>
      )}
    </>
  );
}

function Row(props: {
  rule: Rule;
  rights: Rights;
  done: () => void;
  remove: (rule: Rule) => void;
}) {
  const { rule, rights } = props;
  const words = texts.rules;
  const [failure, setFailure] = useState("");
  async function turn() {
    setFailure("");
    try {
      await ask(
        api.PATCH("/api/v1/rules/{rule_id}", {
          params: { path: { rule_id: rule.id } },
          body: { enabled: !rule.enabled } as Schemas["RuleChange"],
        }),
      );
      props.done();
    } catch (error) {
      setFailure(error instanceof Error ? error.message : String(error));
    }
  }
  const about = [
    ...rule.match.sensors,
    ...rule.match.tags.map((tag) => texts.silences.ofTag(tag)),
  ].join(", ");
  const unknown = [...rule.unknown_sensors, ...rule.unknown_channels];
  return (
    <li class={`row ${rule.enabled ? "" : "row-past"}`}>
      <div class="row-mark">
        <Severity severity={rule.severity} />
      </div>
      <div class="row-main">
        <Link href={`/alerts/rules/${rule.id}`} class="row-link">
          {rule.name}
        </Link>
        <p>{inWords(rule.condition as Json, rule.for)}</p>
        <p class="row-facts quiet">
          <span>{rights.nameOf(rule.network_identifier)}</span>
          <span>{about || words.allSensors}</span>
          <span>
            {rule.actions.map((action) => words.actionTypes[String(action.type)]).join(", ") ||
              words.noActionsShort}
          </span>
          {!rule.enabled && <span>{words.disabled}</span>}
        </p>
        {unknown.length > 0 && <p class="field-problem">{words.unknown(unknown.join(", "))}</p>}
        {failure && <p class="field-problem">{failure}</p>}
      </div>
      <div class="row-do">
        {rights.mayEdit(rule.network_identifier) && (
          <button
            type="button"
            class="button button-small"
            aria-label={`${rule.enabled ? words.disable : words.enable}: ${rule.name}`}
            onClick={() => void turn()}
          >
            {rule.enabled ? words.disable : words.enable}
          </button>
        )}
        {rights.mayDelete(rule.network_identifier) && (
          <button
            type="button"
            class="button button-small"
            aria-label={`${texts.rules.remove}: ${rule.name}`}
            onClick={() => props.remove(rule)}
          >
            {texts.rules.remove}
          </button>
        )}
      </div>
    </li>
  );
}

function Delete(props: { rule: Rule; done: () => void; cancel: () => void }) {
  async function send() {
    const path = { rule_id: props.rule.id };
    await ask(api.DELETE("/api/v1/rules/{rule_id}", { params: { path } }));
    props.done();
  }
  return (
    <Form submit={texts.rules.remove} send={send} cancel={props.cancel}>
      {() => (
        <p>
          <strong>{props.rule.name}</strong>. {texts.rules.deleteHint}
        </p>
      )}
    </Form>
  );
}
