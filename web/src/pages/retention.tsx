/** Retention: how long what is kept, what the next run removes, and what the disk takes. */
import { useState } from "preact/hooks";
import { api, ask, type Schemas } from "../api/client";
import { useLoad } from "../load";
import { bytes, count } from "../numbers";
import { texts } from "../texts";
import { fullTime } from "../time";
import { Problems } from "../ui/dry-run";
import { Dialog, Field, Form, Notice, Show } from "../ui/parts";
import { type Rights, SectionHead, useRights } from "../ui/section";

type Plan = Schemas["RetentionPlan"];
type Planned = Schemas["PlannedNetwork"];
type Removes = Schemas["RemovesRepresentation"];
type Said = Schemas["NetworkRetention"];

const MOST_DAYS = 36_500;
/** From what is typed to what it comes to. */
const PAUSE_MILLISECONDS = 300;

export default function RetentionPage() {
  const words = texts.retention;
  const rights = useRights();
  const plan = useLoad("retention", (signal) => ask(api.GET("/api/v1/retention", { signal })));
  const [edited, setEdited] = useState<Planned>();
  const close = () => setEdited(undefined);
  return (
    <>
      <SectionHead section="system" title={words.title} />
      <Show loaded={plan}>
        {(found) => (
          <>
            {found.waiting && (
              <Notice kind="warning">
                <p>
                  {words.waits(fullTime(found.waiting.clock))}{" "}
                  <code>heliograph retention accept</code>
                </p>
              </Notice>
            )}
            <Summary plan={found} />
            <table class="table table-wrapping">
              <caption class="hidden">{words.title}</caption>
              <thead>
                <tr>
                  <th scope="col">{texts.sections.network}</th>
                  <th scope="col" class="number">
                    {words.raw}
                  </th>
                  <th scope="col" class="number wide-only">
                    {words.rollups}
                  </th>
                  <th scope="col" class="number wide-only">
                    {words.logs}
                  </th>
                  <th scope="col" class="number">
                    {words.removes}
                  </th>
                  <th scope="col">
                    <span class="hidden">{words.change}</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {found.networks.map((network) => (
                  <tr key={network.network_identifier}>
                    <td>{network.network_name}</td>
                    <td class="number">{days(network.effective.raw_days)}</td>
                    <td class="number wide-only">{days(network.effective.rollup_days)}</td>
                    <td class="number wide-only">{days(network.effective.log_days)}</td>
                    <td class="number">
                      <Gone removes={network.removes} />
                    </td>
                    <td class="row-actions">
                      {rights.mayDelete(network.network_identifier) && (
                        <button
                          type="button"
                          class="link"
                          aria-label={`${words.change}: ${network.network_name}`}
                          onClick={() => setEdited(network)}
                        >
                          {words.change}
                        </button>
                      )}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
            <p class="quiet note">{words.estimate}</p>
          </>
        )}
      </Show>
      {edited && (
        <Dialog title={words.changeOf(edited.network_name)} close={close}>
          <Change
            network={edited}
            rights={rights}
            cancel={close}
            done={() => {
              close();
              plan.reload();
            }}
          />
        </Dialog>
      )}
    </>
  );
}

function days(number: number): string {
  return number === 0 ? texts.retention.forever : texts.retention.days(number);
}

function Gone({ removes }: { removes: Removes }) {
  const all = Object.values(removes);
  const rows = all.reduce((sum, due) => sum + due.rows, 0);
  if (rows === 0) return <span class="quiet">{texts.retention.nothing}</span>;
  return (
    <span
      title={Object.entries(removes)
        .map(([name, due]) => `${name}: ${count(due.rows)}`)
        .join(", ")}
    >
      {texts.retention.rows(count(rows))}
      <br />
      <span class="quiet">{bytes(all.reduce((sum, due) => sum + due.bytes, 0))}</span>
    </span>
  );
}

function Summary({ plan }: { plan: Plan }) {
  const words = texts.retention;
  const disk = plan.disk;
  return (
    <section class="panel">
      <dl class="facts">
        <dt>{words.next}</dt>
        <dd>
          {plan.running ? words.running : plan.next_run_at ? fullTime(plan.next_run_at) : "–"}
        </dd>
        <dt>{words.last}</dt>
        <dd>{plan.last_run_at ? fullTime(plan.last_run_at) : words.never}</dd>
        {plan.not_rolled_up > 0 && (
          <>
            <dt>{words.notRolledUp}</dt>
            <dd>{words.rows(count(plan.not_rolled_up))}</dd>
          </>
        )}
        {disk && (
          <>
            <dt>{words.disk}</dt>
            <dd>
              {bytes(disk.used)}
              {disk.budget ? (
                <>
                  {" "}
                  {texts.system.of(bytes(disk.budget))}
                  <meter
                    class="meter"
                    min={0}
                    max={disk.budget}
                    high={0.9 * disk.budget}
                    value={disk.used}
                  >
                    {disk.used}
                  </meter>
                </>
              ) : (
                <span class="quiet"> {texts.system.noBudget}</span>
              )}
            </dd>
          </>
        )}
        {plan.partitions && plan.partitions.length > 0 && (
          <>
            <dt>{words.partitions}</dt>
            <dd>
              {plan.partitions.map((each) => `${each.name} (${bytes(each.bytes)})`).join(", ")}
            </dd>
          </>
        )}
        {plan.unknown_packets && plan.unknown_packets.rows > 0 && (
          <>
            <dt>{words.unknownPackets}</dt>
            <dd>{words.rows(count(plan.unknown_packets.rows))}</dd>
          </>
        )}
      </dl>
    </section>
  );
}

const MEMBERS = ["raw_days", "rollup_days", "log_days"] as const;

/** Days of a network. What is saved counts with the next run, so what that comes to is shown before. */
function Change(props: { network: Planned; rights: Rights; done: () => void; cancel: () => void }) {
  const path = { network_identifier: props.network.network_identifier };
  const said = useLoad(`retention of ${path.network_identifier}`, (signal) =>
    ask(api.GET("/api/v1/networks/{network_identifier}/retention", { params: { path }, signal })),
  );
  return (
    <Show loaded={said}>
      {(before) => <Days before={before} done={props.done} cancel={props.cancel} />}
    </Show>
  );
}

function Days(props: { before: Said; done: () => void; cancel: () => void }) {
  const { before } = props;
  const words = texts.retention;
  const path = { network_identifier: before.network_identifier };
  const [typed, setTyped] = useState<Partial<Record<(typeof MEMBERS)[number], string>>>({});
  const valueOf = (member: (typeof MEMBERS)[number]) =>
    typed[member] ?? (before[member] === null ? "" : String(before[member]));
  const body = Object.fromEntries(
    MEMBERS.map((member) => {
      const text = valueOf(member).trim();
      return [member, text ? Number(text) : null];
    }),
  );
  const preview = useLoad(`retention ${JSON.stringify([path, body])}`, async (signal) => {
    await new Promise((done) => setTimeout(done, PAUSE_MILLISECONDS));
    signal.throwIfAborted();
    const isRight = Object.values(body).every(
      (days) => days === null || (Number.isInteger(days) && days >= 0 && days <= MOST_DAYS),
    );
    if (!isRight) return null;
    return ask(
      api.POST("/api/v1/networks/{network_identifier}/retention-preview", {
        params: { path },
        body,
        signal,
      }),
    );
  });
  async function send() {
    await ask(
      api.PUT("/api/v1/networks/{network_identifier}/retention", { params: { path }, body }),
    );
    props.done();
  }
  return (
    <Form submit={texts.save} send={send} cancel={props.cancel}>
      {(problems) => (
        <>
          <Problems problems={problems} />
          <p class="quiet">{words.changeHint}</p>
          {MEMBERS.map((member) => (
            <Field
              key={member}
              label={words.members[member]}
              type="number"
              min={0}
              max={MOST_DAYS}
              value={valueOf(member)}
              onInput={(value) => setTyped({ ...typed, [member]: value })}
              placeholder={words.inherited(days(before.effective[member]))}
              problem={problems[member]}
            />
          ))}
          <Preview said={preview.data} />
        </>
      )}
    </Form>
  );
}

/** What the next run would remove. Its room is there before it is known. */
function Preview({ said }: { said: Said | null | undefined }) {
  const words = texts.retention;
  if (!said) return <div class="notice retention-preview quiet">{said === null ? "–" : "…"}</div>;
  const all = Object.entries(said.removes);
  const rows = all.reduce((sum, [, due]) => sum + due.rows, 0);
  const size = all.reduce((sum, [, due]) => sum + due.bytes, 0);
  return (
    <div
      class={`notice retention-preview ${rows > 0 ? "notice-warning" : "notice-done"}`}
      role="status"
    >
      {rows === 0 ? (
        <p>{words.previewNothing}</p>
      ) : (
        <div>
          <p>{words.preview(count(rows), bytes(size))}</p>
          <p>
            {all
              .filter(([, due]) => due.rows > 0)
              .map(([name, due]) => words.previewOf(name, count(due.rows)))
              .join(", ")}
          </p>
          {said.cutoffs.raw && <p>{words.previewOldest(fullTime(said.cutoffs.raw))}</p>}
        </div>
      )}
      {said.not_rolled_up > 0 && (
        <p>
          {words.notRolledUp}: {words.rows(count(said.not_rolled_up))}
        </p>
      )}
    </div>
  );
}
