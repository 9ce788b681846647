/** A board: chosen charts and values of a network, for a wall as well. */

import { useRef, useState } from "preact/hooks";
import { Link, useLocation } from "wouter-preact";
import { api, ask, type Schemas } from "../api/client";
import { useLoad } from "../load";
import { labelOf, type Row, type Rows } from "../network/rows";
import { useRows } from "../network/use-rows";
import { shownValue } from "../network/values";
import type { PageProps } from "../pages";
import "../styles/board.css";
import { texts } from "../texts";
import { now, zone } from "../time";
import { BoardChart } from "../ui/board-chart";
import { mayEdit, NetworkHead, nameOf, useNetwork } from "../ui/network-head";
import { PanelForm } from "../ui/panel-form";
import { Ago, Dialog, Empty, Icon, Show } from "../ui/parts";

type Board = Schemas["BoardRepresentation"];
type Panel = Schemas["PanelRepresentation"];

const words = texts.boards;

export default function BoardPage({ params }: PageProps) {
  const path = { network_identifier: params.network ?? "", board_id: params.board ?? "" };
  const network = useNetwork(path.network_identifier);
  const { rows, loaded } = useRows(path.network_identifier);
  const board = useLoad(`board ${path.board_id}`, (signal) =>
    ask(
      api.GET("/api/v1/networks/{network_identifier}/boards/{board_id}", {
        params: { path },
        signal,
      }),
    ),
  );
  const [edited, setEdited] = useState<number | "new">();
  const wall = useRef<HTMLDivElement>(null);
  const [, navigate] = useLocation();
  const isEditor = mayEdit(network.data);

  /** Keep other panels; what the server refuses is thrown to the form. */
  async function keep(panels: Panel[]) {
    const kept = await ask(
      api.PUT("/api/v1/networks/{network_identifier}/boards/{board_id}", {
        params: { path },
        body: { panels: panels.map((panel) => ({ ...panel, kind: panel.kind as "chart" })) },
      }),
    );
    board.update(() => kept);
    setEdited(undefined);
  }

  async function remove() {
    await ask(
      api.DELETE("/api/v1/networks/{network_identifier}/boards/{board_id}", { params: { path } }),
    );
    navigate(`/networks/${path.network_identifier}/boards`);
  }

  const failure = network.failure ?? loaded.failure ?? board.failure;
  const data = loaded.data && board.data;
  return (
    <>
      <NetworkHead network={network}>
        {isEditor && (
          <button type="button" class="button" onClick={() => setEdited("new")}>
            <Icon name="plus" />
            {words.addPanel}
          </button>
        )}
        <button
          type="button"
          class="button"
          onClick={() => void wall.current?.requestFullscreen().catch(() => {})}
        >
          {words.wall}
        </button>
      </NetworkHead>
      <div class="wall" ref={wall}>
        <Show loaded={{ ...board, data, failure }}>
          {(found) => (
            <>
              <header class="wall-head">
                <h2>{found.name}</h2>
                <span class="quiet small wall-zone">{zone.value}</span>
                {isEditor && <Remove board={found} remove={remove} />}
              </header>
              {found.panels.length === 0 ? (
                <Empty title={words.noPanels}>
                  <p>{isEditor ? words.noPanelsHint : words.emptyForViewers}</p>
                </Empty>
              ) : (
                <div class="panels">
                  {found.panels.map((panel, index) => (
                    <OnePanel
                      // It has no name of its own.
                      key={`${index} ${JSON.stringify(panel)}`}
                      panel={panel}
                      rows={rows}
                      edit={isEditor ? () => setEdited(index) : undefined}
                    />
                  ))}
                </div>
              )}
            </>
          )}
        </Show>
      </div>
      {edited !== undefined && board.data && (
        <Dialog
          title={edited === "new" ? words.addPanel : words.editPanel}
          close={() => setEdited(undefined)}
        >
          <PanelForm
            rows={rows}
            panels={board.data.panels}
            index={edited === "new" ? board.data.panels.length : edited}
            keep={keep}
            cancel={() => setEdited(undefined)}
          />
        </Dialog>
      )}
    </>
  );
}

function Remove({ board, remove }: { board: Board; remove: () => Promise<void> }) {
  const [isAsked, setAsked] = useState(false);
  if (!isAsked) {
    return (
      <button type="button" class="link wall-remove" onClick={() => setAsked(true)}>
        {words.remove}
      </button>
    );
  }
  return (
    <span class="wall-remove">
      {words.sure(board.name)}{" "}
      <button type="button" class="link" onClick={() => void remove()}>
        {words.remove}
      </button>{" "}
      <button type="button" class="link" onClick={() => setAsked(false)}>
        {texts.cancel}
      </button>
    </span>
  );
}

interface PanelProps {
  panel: Panel;
  rows: Rows;
  edit: (() => void) | undefined;
}

function OnePanel({ panel, rows, edit }: PanelProps) {
  const title =
    panel.title || [...new Set(panel.series.map(({ attribute }) => attribute))].join(", ");
  return (
    <section class={panel.wide ? "board-panel board-wide" : "board-panel"} aria-label={title}>
      <header>
        <h3>{title}</h3>
        {panel.kind === "chart" && <span class="quiet small">{words.last(panel.range)}</span>}
        {edit && (
          <button type="button" class="link small" onClick={edit}>
            {words.edit}
          </button>
        )}
      </header>
      {panel.kind === "chart" ? (
        <BoardChart panel={panel} rows={rows} title={title} />
      ) : (
        <ul class="board-values">
          {panel.series.map((series) => (
            <ValueOf
              key={`${series.sensor} ${series.attribute}`}
              row={rows.all.get(series.sensor)}
              attribute={series.attribute}
            />
          ))}
        </ul>
      )}
    </section>
  );
}

function ValueOf({ row, attribute }: { row: Row | undefined; attribute: string }) {
  // The row is changed in place.
  void row?.version.value;
  if (!row) return <li class="quiet">{words.gone}</li>;
  const newest = row.values.get(attribute);
  const unit = row.sensor.attributes[attribute]?.unit;
  return (
    <li class={row.isLate(now.value) ? "board-late" : undefined}>
      <span class="board-value">
        {newest ? shownValue(newest.value) : "–"}
        {unit && <span class="board-unit"> {unit}</span>}
      </span>
      <span class="clip">
        <Link href={`/networks/${row.sensor.network_identifier}/sensors/${row.sensor.id}`}>
          {nameOf(row.sensor)}
        </Link>{" "}
        <span class="quiet">{labelOf(row, attribute)}</span>
      </span>
      <span class="quiet small">
        <Ago time={newest?.time} otherwise={texts.sensors.never} />
        {row.isLate(now.value) && <span class="state state-late">{texts.sensors.late}</span>}
      </span>
    </li>
  );
}
