/** A network's settings: its name, who may do what in it, and its end. */
import { useState } from "preact/hooks";
import { useLocation } from "wouter-preact";
import { api, ask, type Failure, type Schemas } from "../api/client";
import { type Loaded, useLoad } from "../load";
import type { PageProps } from "../pages";
import "../styles/network.css";
import { texts } from "../texts";
import { Check, type Option, Select } from "../ui/controls";
import { mayManage, type Network, NetworkHead, useNetwork } from "../ui/network-head";
import { PackedText, usePacked } from "../ui/packed";
import { Field, Form, Notice, Show } from "../ui/parts";

type Member = Schemas["MemberRepresentation"];
type Role = "viewer" | "editor" | "owner";

const words = texts.settings;
const ROLES = (["viewer", "editor", "owner"] as const).map(
  (role): Option => [role, `${texts.networks.roles[role]}: ${words.may[role]}`],
);
/** It can't be renamed or deleted. */
const DEFAULT = "default";

export default function NetworkSettingsPage({ params }: PageProps) {
  const path = { network_identifier: params.network ?? "" };
  const network = useNetwork(path.network_identifier);
  const members = useLoad(`members ${path.network_identifier}`, (signal) =>
    ask(api.GET("/api/v1/networks/{network_identifier}/members", { params: { path }, signal })),
  );
  return (
    <>
      <NetworkHead network={network} />
      <Show loaded={network}>
        {(found) => (
          <>
            {mayManage(found) && <Basics network={found} update={network.update} />}
            <section class="panel settings-panel">
              <h2>{words.members}</h2>
              <Show loaded={members}>
                {(list) => <Members network={found} list={list} reload={members.reload} />}
              </Show>
            </section>
            {mayManage(found) && found.network_name !== DEFAULT && <Delete network={found} />}
          </>
        )}
      </Show>
    </>
  );
}

function Basics({ network, update }: { network: Network; update: Loaded<Network>["update"] }) {
  const [name, setName] = useState(network.network_name);
  const [isShared, setShared] = useState(network.shared_keys);
  const [isPacked, setPacked] = useState(network.packing);
  const [isDone, setDone] = useState(false);
  const packed = usePacked(network.network_identifier);
  async function send() {
    setDone(false);
    const path = { network_identifier: network.network_identifier };
    const changed = await ask(
      api.PUT("/api/v1/networks/{network_identifier}", {
        params: { path },
        body: { network_name: name, shared_keys: isShared, packing: isPacked },
      }),
    );
    update(() => changed);
    packed.reload();
    setDone(true);
  }
  return (
    <section class="panel settings-panel">
      <h2>{words.basics}</h2>
      <Form submit={texts.save} send={send}>
        {(problems) => (
          <>
            {isDone && <Notice kind="done">{words.saved}</Notice>}
            <Field
              label={texts.networks.name}
              value={name}
              onInput={setName}
              problem={problems.network_name}
              readOnly={network.network_name === DEFAULT}
              hint={network.network_name === DEFAULT ? words.defaultHint : undefined}
              maxLength={255}
              autocomplete="off"
              required
            />
            <Check label={words.shared} value={isShared} onInput={setShared} />
            <p class="field-hint">{words.sharedHint}</p>
            <Check label={words.packing} value={isPacked} onInput={setPacked} />
            <p class="field-hint">{words.packingHint}</p>
            <p class="field-hint">
              {texts.packed.label}: <PackedText packed={packed.data} />
            </p>
          </>
        )}
      </Form>
    </section>
  );
}

function Members(props: { network: Network; list: Member[]; reload: () => void }) {
  const { network, list, reload } = props;
  const [failure, setFailure] = useState<Failure>();
  const isManager = mayManage(network);
  const path = (username: string) => ({
    network_identifier: network.network_identifier,
    username,
  });
  async function set(username: string, role: Role) {
    await ask(
      api.PUT("/api/v1/networks/{network_identifier}/members/{username}", {
        params: { path: path(username) },
        body: { role },
      }),
    );
    reload();
  }
  async function remove(username: string) {
    await ask(
      api.DELETE("/api/v1/networks/{network_identifier}/members/{username}", {
        params: { path: path(username) },
      }),
    );
    reload();
  }
  /** What is refused is told, and what is shown is read again. */
  function tell(done: Promise<void>) {
    setFailure(undefined);
    done.catch((error: Failure) => {
      setFailure(error);
      reload();
    });
  }
  return (
    <>
      {failure && <Notice kind="error">{failure.sentence}</Notice>}
      {list.length === 0 && <p class="quiet">{words.noMembers}</p>}
      {list.length > 0 && (
        <ul class="members">
          {list.map((member) => (
            <li key={member.user_identifier}>
              <span class="clip" title={member.username}>
                {member.username}
              </span>
              {isManager ? (
                <>
                  <select
                    aria-label={words.roleOf(member.username)}
                    value={member.role}
                    onChange={(event) =>
                      tell(set(member.username, event.currentTarget.value as Role))
                    }
                  >
                    {ROLES.map(([role]) => (
                      <option key={role} value={role}>
                        {texts.networks.roles[role]}
                      </option>
                    ))}
                  </select>
                  <button
                    type="button"
                    class="link"
                    aria-label={words.removeMember(member.username)}
                    onClick={() => tell(remove(member.username))}
                  >
                    {words.remove}
                  </button>
                </>
              ) : (
                <span class="quiet">{texts.networks.roles[member.role]}</span>
              )}
            </li>
          ))}
        </ul>
      )}
      {isManager && <Add set={set} />}
    </>
  );
}

function Add({ set }: { set: (username: string, role: Role) => Promise<void> }) {
  const [username, setUsername] = useState("");
  const [role, setRole] = useState<Role>("viewer");
  async function send() {
    await set(username, role);
    setUsername("");
  }
  return (
    <Form submit={words.add} send={send}>
      {(problems) => (
        <>
          <Field
            label={words.username}
            hint={words.usernameHint}
            value={username}
            onInput={setUsername}
            problem={problems.username}
            autocomplete="off"
            autocapitalize="none"
            required
          />
          <Select
            label={words.role}
            value={role}
            options={ROLES}
            onInput={(value) => setRole(value as Role)}
          />
        </>
      )}
    </Form>
  );
}

function Delete({ network }: { network: Network }) {
  const [typed, setTyped] = useState("");
  const [, navigate] = useLocation();
  async function send() {
    if (typed !== network.network_name) return;
    const path = { network_identifier: network.network_identifier };
    await ask(api.DELETE("/api/v1/networks/{network_identifier}", { params: { path } }));
    navigate("/");
  }
  return (
    <section class="panel settings-panel">
      <h2>{words.end}</h2>
      <p>{words.endHint}</p>
      <Form submit={words.endSubmit} send={send}>
        {() => (
          <Field
            label={words.typed(network.network_name)}
            value={typed}
            onInput={setTyped}
            problem={typed && typed !== network.network_name ? words.otherName : undefined}
            autocomplete="off"
            required
          />
        )}
      </Form>
    </section>
  );
}
