import { useState } from "preact/hooks";
import { Link } from "wouter-preact";
import { api, ask, type Schemas } from "../api/client";
import { useLoad } from "../load";
import { texts } from "../texts";
import { day } from "../time";
import { Dialog, Empty, Field, Form, Icon, PageHead, Show } from "../ui/parts";

type Network = Schemas["NetworkRepresentation"];

export default function NetworksPage() {
  const networks = useLoad("networks", (signal) => ask(api.GET("/api/v1/networks", { signal })));
  const [edited, setEdited] = useState<Network | "new">();
  const close = () => setEdited(undefined);
  function done() {
    close();
    networks.reload();
  }
  return (
    <>
      <PageHead title={texts.networks.title}>
        <button type="button" class="button button-primary" onClick={() => setEdited("new")}>
          <Icon name="plus" />
          {texts.networks.create}
        </button>
      </PageHead>
      <Show loaded={networks}>
        {(list) =>
          list.length === 0 ? (
            <Empty title={texts.networks.empty}>
              <p>{texts.networks.emptyHint}</p>
            </Empty>
          ) : (
            <table class="table">
              <thead>
                <tr>
                  <th scope="col">{texts.networks.name}</th>
                  <th scope="col">{texts.networks.role}</th>
                  <th scope="col" class="wide-only">
                    {texts.networks.since}
                  </th>
                  <th scope="col">
                    <span class="hidden">{texts.networks.rename}</span>
                  </th>
                </tr>
              </thead>
              <tbody>
                {list.map((network) => (
                  <Row key={network.network_identifier} network={network} edit={setEdited} />
                ))}
              </tbody>
            </table>
          )
        }
      </Show>
      {edited === "new" && (
        <Dialog title={texts.networks.create} close={close}>
          <Create done={done} cancel={close} />
        </Dialog>
      )}
      {edited && edited !== "new" && (
        <Dialog title={texts.networks.renameOf(edited.network_name)} close={close}>
          <Rename network={edited} done={done} cancel={close} />
        </Dialog>
      )}
    </>
  );
}

function Row({ network, edit }: { network: Network; edit: (network: Network) => void }) {
  const isOwner = network.role === "owner" && network.network_name !== "default";
  return (
    <tr>
      <td>
        <Link href={`/networks/${network.network_identifier}`} class="row-link">
          {network.network_name}
        </Link>
      </td>
      <td>{texts.networks.roles[network.role ?? "none"]}</td>
      <td class="wide-only">{day(network.created_at)}</td>
      <td class="row-actions">
        {isOwner && (
          <button
            type="button"
            class="link"
            aria-label={texts.networks.renameOf(network.network_name)}
            onClick={() => edit(network)}
          >
            {texts.networks.rename}
          </button>
        )}
      </td>
    </tr>
  );
}

interface Editing {
  done: () => void;
  cancel: () => void;
}

function Create({ done, cancel }: Editing) {
  const [name, setName] = useState("");
  async function send() {
    await ask(api.POST("/api/v1/networks", { body: { network_name: name } }));
    done();
  }
  return (
    <Form submit={texts.networks.submit} send={send} cancel={cancel}>
      {(problems) => <Name value={name} onInput={setName} problem={problems.network_name} />}
    </Form>
  );
}

function Rename({ network, done, cancel }: Editing & { network: Network }) {
  const [name, setName] = useState(network.network_name);
  async function send() {
    const path = { network_identifier: network.network_identifier };
    await ask(
      api.PUT("/api/v1/networks/{network_identifier}", {
        params: { path },
        body: { network_name: name },
      }),
    );
    done();
  }
  return (
    <Form submit={texts.save} send={send} cancel={cancel}>
      {(problems) => <Name value={name} onInput={setName} problem={problems.network_name} />}
    </Form>
  );
}

function Name(entry: {
  value: string;
  onInput: (name: string) => void;
  problem?: string | undefined;
}) {
  return (
    <Field
      {...entry}
      label={texts.networks.name}
      hint={texts.networks.nameHint}
      autocomplete="off"
      maxLength={255}
      required
      autoFocus
    />
  );
}
