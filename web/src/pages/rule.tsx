/** A rule: its form, and a dry run beside it. */
import { useState } from "preact/hooks";
import { Link, useLocation } from "wouter-preact";
import { api, ask, type Schemas } from "../api/client";
import { useLoad } from "../load";
import type { PageProps } from "../pages";
import {
  type ConditionDraft,
  conditionDraft,
  conditionOf,
  emptyCondition,
  isOfTheClock,
  type Json,
  type JsonObject,
  numberOf,
  OPERATORS,
} from "../rule-draft";
import { texts } from "../texts";
import {
  type ActionDraft,
  ActionForms,
  actionDraft,
  actionOf,
  emptyAction,
} from "../ui/action-forms";
import { ConditionForm } from "../ui/condition-form";
import { Area, Check, type Option, Select } from "../ui/controls";
import { DryRun, Problems } from "../ui/dry-run";
import { Field, Form, Notice, PageHead, Show } from "../ui/parts";
import { type Rights, useFilter, useRights } from "../ui/section";

type Rule = Schemas["RuleRepresentation"];

const KINDS = ["measurement", "log", "heartbeat", "packet"];

export default function RulePage({ params }: PageProps) {
  const identifier = params.rule ?? "";
  const isNew = identifier === "new";
  const rights = useRights();
  const rule = useLoad(`rule ${identifier}`, async (signal) => {
    if (isNew) return null;
    const path = { rule_id: identifier };
    return ask(api.GET("/api/v1/rules/{rule_id}", { params: { path }, signal }));
  });
  return (
    <>
      <PageHead
        title={isNew ? texts.rules.create : (rule.data?.name ?? "…")}
        above={
          <>
            <Link href="/alerts">{texts.alerts.title}</Link>
            <Link href="/alerts/rules">{texts.rules.title}</Link>
          </>
        }
      />
      <Show loaded={rule}>
        {(found) =>
          rights.networks.length > 0 && (
            <Editor key={identifier} rule={found} rights={rights} reload={rule.reload} />
          )
        }
      </Show>
    </>
  );
}

function Editor(props: { rule: Rule | null; rights: Rights; reload: () => void }) {
  const { rule, rights } = props;
  const words = texts.rules;
  const [, navigate] = useLocation();
  const [asked] = useFilter("network");
  const editable = rights.networks.filter((each) => rights.mayEdit(each.network_identifier));
  const [network, setNetwork] = useState(
    rule?.network_identifier ?? (asked || (editable[0]?.network_identifier ?? "")),
  );
  const mayEdit = rights.mayEdit(network);
  const [name, setName] = useState(rule?.name ?? "");
  const [severity, setSeverity] = useState(rule?.severity ?? "warning");
  const [enabled, setEnabled] = useState(rule?.enabled ?? true);
  const [sensors, setSensors] = useState(rule?.match.sensors.join(", ") ?? "");
  const [tags, setTags] = useState(rule?.match.tags.join(", ") ?? "");
  const [kinds, setKinds] = useState(rule?.kinds ?? ["measurement"]);
  const [condition, setCondition] = useState<ConditionDraft | null>(
    rule ? conditionDraft(rule.condition as Json) : emptyCondition(),
  );
  const [json, setJson] = useState(JSON.stringify(rule?.condition ?? {}, null, 2));
  const [hold, setHold] = useState(String(rule?.for ?? 0));
  const [clearFor, setClearFor] = useState(String(rule?.clear_for ?? 0));
  const [cooldown, setCooldown] = useState(String(rule?.cooldown ?? 0));
  const [late, setLate] = useState(rule?.late ?? false);
  const [actions, setActions] = useState<ActionDraft[]>(
    rule ? rule.actions.map((each) => actionDraft(each as JsonObject)) : [emptyAction()],
  );
  const [tried, setTried] = useState("");
  const [isSaved, setSaved] = useState(false);

  const inNetwork = useLoad(`rule in ${network}`, async (signal) => {
    const path = { network_identifier: network };
    const [found, channels] = await Promise.all([
      ask(
        api.GET("/api/v1/networks/{network_identifier}/sensors", {
          params: { path, query: { limit: 1_000 } },
          signal,
        }),
      ),
      ask(
        api.GET("/api/v1/channels", {
          params: { query: { network_identifier: network } },
          signal,
        }),
      ),
    ]);
    return { sensors: found, channels: channels.map((each) => each.name) };
  });
  const known = inNetwork.data?.sensors ?? [];
  const choices = known.map(
    (each): Option => [
      each.sensor_identifier,
      each.device_id ?? each.sensor_name ?? each.sensor_identifier,
    ],
  );
  const sensor =
    tried ||
    (known.find((each) => listOf(sensors).includes(each.device_id ?? ""))?.sensor_identifier ??
      choices[0]?.[0] ??
      "");
  const attributes = useLoad(`attributes ${sensor}`, async (signal) => {
    if (!sensor) return [];
    const path = { identifier: sensor };
    const latest = await ask(
      api.GET("/api/v1/sensors/{identifier}/latest", { params: { path }, signal }),
    );
    return Object.keys(latest.attributes);
  });

  const operator = condition?.operator ?? "";
  const isLog = condition ? isOfLogs(condition) : false;
  const byClock = isOfTheClock(operator);

  function definition(): JsonObject {
    const chosen =
      operator === "offline"
        ? ["presence"]
        : isLog
          ? ["log"]
          : kinds.filter((kind) => KINDS.includes(kind));
    return {
      name: name.trim(),
      enabled,
      severity,
      match: { sensors: listOf(sensors), tags: listOf(tags) },
      kinds: chosen,
      condition: condition ? conditionOf(condition) : (jsonOf(json) as JsonObject),
      for: byClock ? 0 : numberOf(hold),
      clear_for: operator === "no_data" ? 0 : numberOf(clearFor),
      cooldown: numberOf(cooldown),
      late: byClock ? false : late,
      actions: actions.map(actionOf),
    };
  }
  async function send() {
    setSaved(false);
    const body = definition() as Schemas["RuleDefinition"];
    if (rule) {
      await ask(
        api.PUT("/api/v1/rules/{rule_id}", { params: { path: { rule_id: rule.id } }, body }),
      );
      setSaved(true);
      props.reload();
      return;
    }
    const made = await ask(
      api.POST("/api/v1/rules", {
        body: { ...body, network_identifier: network } as Schemas["NewRule"],
      }),
    );
    navigate(`/alerts/rules/${made.id}`, { replace: true });
  }
  return (
    <div class="split">
      <section class="panel">
        {isSaved && <Notice kind="done">{words.saved}</Notice>}
        {!mayEdit && <Notice kind="warning">{words.readOnly}</Notice>}
        <Form submit={rule ? texts.save : words.submit} send={send}>
          {(problems) => (
            <>
              <Problems problems={problems} />
              <div class="pair">
                <Field
                  label={words.name}
                  value={name}
                  onInput={setName}
                  problem={problems.name}
                  maxLength={255}
                  required
                  autocomplete="off"
                />
                <Select
                  label={texts.sections.network}
                  value={network}
                  options={(rule ? rights.networks : editable).map(
                    (each): Option => [each.network_identifier, each.network_name],
                  )}
                  onInput={setNetwork}
                  disabled={rule !== null}
                />
              </div>
              <h2 class="part">{words.when}</h2>
              {condition ? (
                <ConditionForm
                  draft={condition}
                  onInput={setCondition}
                  attributes={attributes.data ?? []}
                  problems={problems}
                />
              ) : (
                <Area label={words.condition} value={json} onInput={setJson} rows={6} code />
              )}
              <div class="pair">
                {!byClock && (
                  <Field
                    label={words.for}
                    hint={words.forHint}
                    inputMode="decimal"
                    value={hold}
                    onInput={setHold}
                    problem={problems.for}
                  />
                )}
                {operator !== "no_data" && (
                  <Field
                    label={words.clearFor}
                    hint={words.clearForHint}
                    inputMode="decimal"
                    value={clearFor}
                    onInput={setClearFor}
                    problem={problems.clear_for}
                  />
                )}
                <Field
                  label={words.cooldown}
                  hint={words.cooldownHint}
                  inputMode="decimal"
                  value={cooldown}
                  onInput={setCooldown}
                  problem={problems.cooldown}
                />
              </div>
              <h2 class="part">{words.which}</h2>
              <div class="pair">
                <Field
                  label={words.sensors}
                  hint={words.sensorsHint}
                  value={sensors}
                  onInput={setSensors}
                  problem={problems.sensors}
                  autocomplete="off"
                />
                <Field
                  label={words.tags}
                  hint={words.tagsHint}
                  value={tags}
                  onInput={setTags}
                  problem={problems.tags}
                  autocomplete="off"
                />
              </div>
              {operator !== "offline" && !isLog && (
                <fieldset class="checks">
                  <legend>{words.kinds}</legend>
                  {KINDS.map((kind) => (
                    <Check
                      key={kind}
                      label={words.kindNames[kind] ?? kind}
                      value={kinds.includes(kind)}
                      onInput={(is) =>
                        setKinds(is ? [...kinds, kind] : kinds.filter((each) => each !== kind))
                      }
                    />
                  ))}
                </fieldset>
              )}
              {!byClock && <Check label={words.late} value={late} onInput={setLate} />}
              <h2 class="part">{words.what}</h2>
              <Select
                label={texts.alerts.severity}
                value={severity}
                options={Object.entries(texts.severities)}
                onInput={setSeverity}
              />
              <ActionForms
                drafts={actions}
                onInput={setActions}
                channels={inNetwork.data?.channels ?? []}
                isAdmin={rights.isAdmin}
              />
              <Check label={words.inUse} value={enabled} onInput={setEnabled} />
            </>
          )}
        </Form>
      </section>
      <section class="panel">
        <DryRun
          definition={() => ({ ...definition(), name: name.trim() || words.create })}
          sensors={choices}
          sensor={sensor}
          chooseSensor={setTried}
        />
      </section>
    </div>
  );
}

function isOfLogs(draft: ConditionDraft): boolean {
  if (OPERATORS[draft.operator]?.shape === "parts") return draft.parts.some(isOfLogs);
  return draft.operator === "severity_at_least" || draft.operator === "subject";
}

function listOf(text: string): string[] {
  return text
    .split(/[,\n]/)
    .map((each) => each.trim())
    .filter(Boolean);
}

function jsonOf(text: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return text;
  }
}
