import { useState } from "preact/hooks";
import { api, ask, type Schemas } from "../api/client";
import { clientName } from "../client-name";
import { useLoad } from "../load";
import { logOut, session } from "../session";
import "../styles/account.css";
import { texts } from "../texts";
import { chooseZone, day, fullTime, zone, zoneOfBrowser } from "../time";
import { Ago, Field, Form, Notice, PageHead, Show } from "../ui/parts";
import { NewPassword } from "./entrance";

export default function AccountPage() {
  const { account } = session.value;
  if (!account) return null;
  return (
    <>
      <PageHead title={texts.account.title} />
      <section class="panel">
        <dl class="facts">
          <dt>{texts.account.username}</dt>
          <dd>{account.username}</dd>
          <dt>{texts.account.role}</dt>
          <dd>{account.is_admin ? texts.account.administrator : texts.account.user}</dd>
          <dt>{texts.account.since}</dt>
          <dd>{day(account.created_at)}</dd>
        </dl>
      </section>
      <section class="panel">
        <Zone />
      </section>
      <section class="panel">
        <h2>{texts.account.change}</h2>
        <Password username={account.username} />
      </section>
      <section class="panel">
        <h2>{texts.account.sessions}</h2>
        <Sessions />
      </section>
    </>
  );
}

type Session = Schemas["SessionRepresentation"];

function Sessions() {
  const words = texts.account;
  const sessions = useLoad("sessions", (signal) =>
    ask(api.GET("/api/v1/users/me/sessions", { signal })),
  );
  async function end({ id }: Session) {
    const params = { path: { session_id: id } };
    await ask(api.DELETE("/api/v1/users/me/sessions/{session_id}", { params })).catch(() => {});
    sessions.reload();
  }
  return (
    <>
      <p class="quiet">{words.sessionHint}</p>
      <Show loaded={sessions}>
        {(list) => (
          <ul class="sessions">
            {list.map((each) => {
              const name = clientName(each.user_agent);
              return (
                <li key={each.id}>
                  <span class="session-client">
                    <strong title={each.user_agent ?? undefined}>{name}</strong>
                    {each.is_current && <span class="badge">{words.thisSession}</span>}
                  </span>
                  <span class="quiet small">
                    {each.address && `${each.address} · `}
                    {words.opened(fullTime(each.created_at))}
                    {!each.is_current && (
                      <>
                        {each.last_used_at ? ` · ${words.used} ` : " · "}
                        <Ago time={each.last_used_at} otherwise={words.notUsed} />
                      </>
                    )}
                  </span>
                  {each.is_current ? (
                    <button type="button" class="button" onClick={() => void logOut()}>
                      {words.logOut}
                    </button>
                  ) : (
                    <button
                      type="button"
                      class="button"
                      aria-label={words.endOf(name)}
                      onClick={() => void end(each)}
                    >
                      {words.end}
                    </button>
                  )}
                </li>
              );
            })}
          </ul>
        )}
      </Show>
    </>
  );
}

function Zone() {
  const zones = ["UTC", ...Intl.supportedValuesOf("timeZone")];
  const names = new Set([zoneOfBrowser, zone.value, ...zones]);
  return (
    <div class="field">
      <label for="zone">{texts.account.zone}</label>
      <select
        id="zone"
        aria-describedby="zone-hint"
        value={zone.value}
        onChange={(event) => chooseZone(event.currentTarget.value)}
      >
        {[...names].map((name) => (
          <option key={name} value={name}>
            {name === zoneOfBrowser ? texts.account.zoneOfBrowser(name) : name}
          </option>
        ))}
      </select>
      <p class="field-hint" id="zone-hint">
        {texts.account.zoneHint}
      </p>
    </div>
  );
}

function Password({ username }: { username: string }) {
  const [current, setCurrent] = useState("");
  const [next, setNext] = useState("");
  const [isDone, setDone] = useState(false);
  async function send() {
    setDone(false);
    const body = { password: current, new_password: next };
    await ask(api.PUT("/api/v1/users/me/password", { body }));
    setCurrent("");
    setNext("");
    setDone(true);
  }
  return (
    <Form submit={texts.account.change} send={send}>
      {(problems) => (
        <>
          {isDone && <Notice kind="done">{texts.account.changed}</Notice>}
          {/* So that password managers know whose it is. */}
          <input type="text" autocomplete="username" value={username} readOnly hidden />
          <Field
            label={texts.account.current}
            type="password"
            autocomplete="current-password"
            required
            value={current}
            onInput={setCurrent}
            problem={problems.password}
          />
          <NewPassword
            label={texts.account.next}
            value={next}
            onInput={setNext}
            problem={problems.new_password}
          />
        </>
      )}
    </Form>
  );
}
