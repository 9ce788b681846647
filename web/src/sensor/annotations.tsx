/** What people know of a time, beside what a sensor measured then: shown, made and changed. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { api, ask, askAll, type Schemas } from "../api/client";
import type { Mark } from "../chart/chart";
import { offsetOf } from "../chart/ticks";
import { useLoad } from "../load";
import { texts } from "../texts";
import { fullTime, zone } from "../time";
import { Area, Select } from "../ui/controls";
import { Dialog, Field, Form } from "../ui/parts";
import { inputOf, readAround, timeOf } from "./times";

export type Annotation = Schemas["AnnotationRepresentation"];
/** What a dialog is about: an annotation, or a new one of a span in seconds. */
export type Draft = { annotation: Annotation } | { from: number; to: number };

const seconds = (time: string) => Date.parse(time) / 1000;

/** Read the annotations about any of a window, which is in seconds. */
export function useAnnotations(
  sensor: string,
  window: [number, number] | undefined,
): { shown: Annotation[]; reload: () => void } {
  // A window that moves is read anew once it leaves what was read.
  const span = window && readAround(window);
  const path = { identifier: sensor };
  const loaded = useLoad(`annotations ${sensor} ${span}`, async (signal) => {
    if (!span) return [];
    const [start, end] = span;
    return askAll((offset) =>
      api.GET("/api/v1/sensors/{identifier}/annotations", {
        params: { path, query: { start, end, offset } },
        signal,
      }),
    );
  });
  // What was read stays until the next is there.
  const last = useRef<{ sensor: string; rows: Annotation[] }>({ sensor, rows: [] });
  if (loaded.data) last.current = { sensor, rows: loaded.data };
  const rows = last.current.sensor === sensor ? last.current.rows : NONE;
  const [from, to] = window ?? [0, 0];
  const inside = rows.filter(
    ({ start, end }) => seconds(start) < to && seconds(end ?? start) >= from,
  );
  const key = inside.map(({ id, changed_at }) => `${id} ${changed_at}`).join();
  const shown = useMemo(() => inside, [key]);
  return { shown, reload: loaded.reload };
}

const NONE: Annotation[] = [];

/** Return the marks of a chart: of what is about all of the sensor, or about what it shows. */
export function marksOf(annotations: Annotation[], shows: (attribute: string) => boolean): Mark[] {
  return annotations
    .filter(({ attribute }) => attribute === null || shows(attribute))
    .map(({ start, end, text }) => ({
      from: seconds(start),
      to: end === null ? undefined : seconds(end),
      text,
    }));
}

export function AnnotationList(props: {
  annotations: Annotation[];
  edit: ((annotation: Annotation) => void) | undefined;
}) {
  const { annotations, edit } = props;
  const words = texts.annotations;
  if (annotations.length === 0) return null;
  return (
    <section class="annotations">
      <h2>{words.title}</h2>
      <ul class="rows">
        {annotations.map((annotation) => (
          <li class="row" key={annotation.id}>
            <div class="row-main">
              <p class="annotation-text">{annotation.text}</p>
              <p class="row-facts quiet">
                <span>
                  {fullTime(annotation.start)}
                  {annotation.end && ` – ${fullTime(annotation.end)}`}
                </span>
                {annotation.attribute && <span>{annotation.attribute}</span>}
                {annotation.author && <span>{annotation.author}</span>}
              </p>
            </div>
            {edit && (
              <div class="row-do">
                <button
                  type="button"
                  class="button button-small"
                  aria-label={words.changeNamed(annotation.text)}
                  onClick={() => edit(annotation)}
                >
                  {words.change}
                </button>
              </div>
            )}
          </li>
        ))}
      </ul>
    </section>
  );
}

export function AnnotationDialog(props: {
  sensor: string;
  attributes: [name: string, label: string][];
  draft: Draft;
  close: () => void;
  done: () => void;
}) {
  const { sensor, draft, close, done } = props;
  const words = texts.annotations;
  const known = "annotation" in draft ? draft.annotation : undefined;
  const offset = useMemo(() => offsetOf(zone.value), [zone.value]);
  const [from, to] =
    "annotation" in draft
      ? [seconds(draft.annotation.start), draft.annotation.end && seconds(draft.annotation.end)]
      : [draft.from, draft.to];
  const [text, setText] = useState(known?.text ?? "");
  const [start, setStart] = useState(inputOf(from, offset));
  const [end, setEnd] = useState(to ? inputOf(to, offset) : "");
  const [attribute, setAttribute] = useState(known?.attribute ?? "");
  const form = useRef<HTMLDivElement>(null);
  useEffect(() => form.current?.querySelector("textarea")?.focus(), []);
  const path = { identifier: sensor, annotation_id: known?.id ?? "" };

  async function send() {
    const body = {
      text: text.trim(),
      // What was not touched stays to the microsecond.
      start: known && start === inputOf(from, offset) ? known.start : timeOf(start, offset),
      end: !end
        ? null
        : known?.end && to && end === inputOf(to, offset)
          ? known.end
          : timeOf(end, offset),
      attribute: attribute || null,
    };
    await ask(
      known
        ? api.PATCH("/api/v1/sensors/{identifier}/annotations/{annotation_id}", {
            params: { path },
            body,
          })
        : api.POST("/api/v1/sensors/{identifier}/annotations", { params: { path }, body }),
    );
    done();
  }
  const names = props.attributes.some(([name]) => name === attribute)
    ? props.attributes
    : [...props.attributes, [attribute, attribute] as [string, string]];
  return (
    <Dialog title={known ? words.changeTitle : words.new} close={close}>
      <div ref={form}>
        <Form submit={words.submit} send={send} cancel={close}>
          {(problems) => (
            <>
              <Area
                label={words.text}
                value={text}
                onInput={setText}
                maxLength={1000}
                required
                problem={problems.text}
              />
              <div class="times">
                <Field
                  label={words.start}
                  type="datetime-local"
                  step="1"
                  value={start}
                  onInput={setStart}
                  problem={problems.start}
                  required
                />
                <Field
                  label={words.end}
                  type="datetime-local"
                  step="1"
                  value={end}
                  onInput={setEnd}
                  problem={problems.end}
                />
              </div>
              <p class="quiet small">{words.zone(zone.value)}</p>
              <Select
                label={words.attribute}
                value={attribute}
                options={[["", words.all], ...names.filter(([name]) => name !== "")]}
                onInput={setAttribute}
                problem={problems.attribute}
              />
            </>
          )}
        </Form>
        {known && (
          <Form
            submit={words.delete}
            isDanger
            send={async () => {
              await ask(
                api.DELETE("/api/v1/sensors/{identifier}/annotations/{annotation_id}", {
                  params: { path },
                }),
              );
              done();
            }}
          >
            {() => null}
          </Form>
        )}
      </div>
    </Dialog>
  );
}
