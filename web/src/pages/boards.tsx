/** The boards of a network. */
import { useState } from "preact/hooks";
import { Link, useLocation } from "wouter-preact";
import { api, ask } from "../api/client";
import { useLoad } from "../load";
import type { PageProps } from "../pages";
import { texts } from "../texts";
import { mayEdit, NetworkHead, useNetwork } from "../ui/network-head";
import { Ago, Dialog, Empty, Field, Form, Icon, Show } from "../ui/parts";

const words = texts.boards;

export default function BoardsPage({ params }: PageProps) {
  const path = { network_identifier: params.network ?? "" };
  const network = useNetwork(path.network_identifier);
  const boards = useLoad(`boards ${path.network_identifier}`, (signal) =>
    ask(api.GET("/api/v1/networks/{network_identifier}/boards", { params: { path }, signal })),
  );
  const [isNew, setNew] = useState(false);
  const isEditor = mayEdit(network.data);
  const create = isEditor && (
    <button type="button" class="button button-primary" onClick={() => setNew(true)}>
      <Icon name="plus" />
      {words.create}
    </button>
  );
  return (
    <>
      <NetworkHead network={network}>{create}</NetworkHead>
      <Show loaded={network.failure ? { ...boards, failure: network.failure } : boards}>
        {(list) =>
          list.length === 0 ? (
            <Empty title={words.empty}>
              <p>{isEditor ? words.emptyHint : words.emptyForViewers}</p>
            </Empty>
          ) : (
            <table class="table">
              <thead>
                <tr>
                  <th scope="col">{words.name}</th>
                  <th scope="col" class="number">
                    {words.panels}
                  </th>
                  <th scope="col">{words.changed}</th>
                  <th scope="col" class="wide-only">
                    {words.author}
                  </th>
                </tr>
              </thead>
              <tbody>
                {list.map((board) => (
                  <tr key={board.id}>
                    <td>
                      <Link
                        class="row-link"
                        href={`/networks/${path.network_identifier}/boards/${board.id}`}
                      >
                        {board.name}
                      </Link>
                    </td>
                    <td class="number">{board.panels.length}</td>
                    <td>
                      <Ago time={board.changed_at} />
                    </td>
                    <td class="wide-only">{board.author}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          )
        }
      </Show>
      {isNew && (
        <Dialog title={words.create} close={() => setNew(false)}>
          <Create network={path.network_identifier} cancel={() => setNew(false)} />
        </Dialog>
      )}
    </>
  );
}

function Create({ network, cancel }: { network: string; cancel: () => void }) {
  const [name, setName] = useState("");
  const [, navigate] = useLocation();
  async function send() {
    const made = await ask(
      api.POST("/api/v1/networks/{network_identifier}/boards", {
        params: { path: { network_identifier: network } },
        body: { name, panels: [] },
      }),
    );
    navigate(`/networks/${network}/boards/${made.id}`);
  }
  return (
    <Form submit={words.submit} send={send} cancel={cancel}>
      {(problems) => (
        <Field
          label={words.name}
          value={name}
          onInput={setName}
          problem={problems.name}
          maxLength={255}
          autocomplete="off"
          required
          autoFocus
        />
      )}
    </Form>
  );
}
