/** Import of a table into a network: drop a file, look at what would be stored, store it. */
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { api, ask, Failure, type Schemas } from "../api/client";
import { valueAt } from "../chart/series";
import { useLoad } from "../load";
import { firstPiece, laterPieces } from "../network/pieces";
import { bytes, count } from "../numbers";
import type { PageProps } from "../pages";
import { texts } from "../texts";
import { fullTime, zone } from "../time";
import { Check, type Option, Select } from "../ui/controls";
import { NetworkHead, useNetwork } from "../ui/network-head";
import { Empty, Field, Notice } from "../ui/parts";

type Preview = Schemas["ImportPreview"];
type TakenFor = Schemas["TakenFor"];
type Row = Record<string, unknown>;

/** What is read of a file in a browser, and of that in one request. */
const LARGEST = 100_000_000;
const LONGEST = 900_000;
/** Rows of one request, so that no other sender waits. */
const PART = 1_000;
const SHOWN = 8;
const PAUSE_MILLISECONDS = 300;

interface Options {
  sensor: string;
  delimiter: string;
  decimal: string;
  time_column: string;
  time_format: string;
  time_zone: string;
  precision: string;
  missing: string;
  text: string;
  sensor_column: string;
  attribute_column: string;
  value_column: string;
}

const NOTHING: Options = {
  sensor: "",
  delimiter: "",
  decimal: "",
  time_column: "",
  time_format: "",
  time_zone: "",
  precision: "",
  missing: "",
  text: "",
  sensor_column: "",
  attribute_column: "",
  value_column: "",
};

export default function ImportPage({ params }: PageProps) {
  const words = texts.imports;
  const identifier = params.network ?? "";
  const path = { network_identifier: identifier };
  const network = useNetwork(identifier);
  const sensors = useLoad(`sensors for import ${identifier}`, (signal) =>
    ask(
      api.GET("/api/v1/networks/{network_identifier}/sensors", {
        params: { path, query: { limit: 1_000 } },
        signal,
      }),
    ),
  );
  const [file, setFile] = useState<{ name: string; table: string }>();
  const [problem, setProblem] = useState("");
  const [isOver, setOver] = useState(false);

  async function take(given: File | undefined) {
    setOver(false);
    setFile(undefined);
    setProblem("");
    if (!given) return;
    if (given.size > LARGEST) {
      setProblem(words.tooLarge(given.name, bytes(given.size)));
      return;
    }
    setFile({ name: given.name, table: await given.text() });
  }
  return (
    <>
      <NetworkHead network={network} />
      {sensors.data?.length === 0 ? (
        <Empty title={words.noSensors}>
          <p>{words.noSensorsHint}</p>
        </Empty>
      ) : (
        <label
          class={`drop ${isOver ? "drop-over" : ""}`}
          onDragOver={(event) => {
            event.preventDefault();
            setOver(true);
          }}
          onDragLeave={() => setOver(false)}
          onDrop={(event) => {
            event.preventDefault();
            void take(event.dataTransfer?.files[0]);
          }}
        >
          <strong>{file ? file.name : words.drop}</strong>
          <span class="quiet">{file ? words.another : words.dropHint}</span>
          <input
            type="file"
            accept=".csv,.tsv,.txt,.dat,text/csv"
            onChange={(event) => void take(event.currentTarget.files?.[0])}
          />
        </label>
      )}
      {problem && <Notice kind="error">{problem}</Notice>}
      {file && (
        <Table
          key={`${file.name} ${file.table.length}`}
          network={identifier}
          table={file.table}
          sensors={(sensors.data ?? []).map(
            (each): Option => [
              each.sensor_identifier,
              each.device_id ?? each.sensor_name ?? each.sensor_identifier,
            ],
          )}
        />
      )}
    </>
  );
}

function Table(props: { network: string; table: string; sensors: Option[] }) {
  const words = texts.imports;
  const first = useMemo(() => firstPiece(props.table, LONGEST), [props.table]);
  const [options, setOptions] = useState<Options>(NOTHING);
  const [preview, setPreview] = useState<Preview>();
  const [failure, setFailure] = useState("");
  const set = (change: Partial<Options>) => setOptions({ ...options, ...change });

  const look = useCallback(
    (table: string, signal?: AbortSignal, known?: TakenFor, linesLeftOut = 0) => {
      const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value.trim()));
      const body = {
        table,
        ...(known?.decimal && { decimal: known.decimal }),
        ...(known?.time_format && { time_format: known.time_format }),
        ...given,
        lines_left_out: linesLeftOut,
        missing: listOf(options.missing),
        text: [...new Set([...listOf(options.text), ...textsOf(known)])],
      } as Schemas["GivenTable"];
      return ask(
        api.POST("/api/v1/networks/{network_identifier}/import-preview", {
          params: { path: { network_identifier: props.network } },
          body,
          signal: signal ?? null,
        }),
      );
    },
    [options, props.network],
  );

  useEffect(() => {
    const ending = new AbortController();
    const timer = setTimeout(async () => {
      try {
        setPreview(await look(first, ending.signal));
        setFailure("");
      } catch (error) {
        if (ending.signal.aborted) return;
        setFailure(error instanceof Failure ? error.sentence : String(error));
      }
    }, PAUSE_MILLISECONDS);
    return () => {
      clearTimeout(timer);
      ending.abort();
    };
  }, [look, first]);

  const asked = (preview?.questions ?? []).map(({ options: said }) => said).join(" ");
  const isAsked = (option: string) => asked.includes(`--${option.replaceAll("_", "-")}`);
  const needsSensor = preview?.bad.some((row) => row.reason === "names no sensor") ?? false;
  const field = (name: keyof Options, hint?: string) => (
    <Field
      label={words.options[name]}
      value={options[name]}
      onInput={(value) => set({ [name]: value })}
      hint={hint}
      problem={isAsked(name) ? words.needed : undefined}
      autocomplete="off"
    />
  );
  const zones = ["UTC", zone.value, ...Intl.supportedValuesOf("timeZone")];
  return (
    <div class="split">
      <section class="panel form">
        <h2>{words.reading}</h2>
        <Select
          label={words.options.sensor}
          value={options.sensor}
          options={[["", words.ofRows], ...props.sensors]}
          onInput={(sensor) => set({ sensor })}
          problem={needsSensor ? words.needed : undefined}
        />
        <div class="pair">
          <Select
            label={words.options.time_zone}
            value={options.time_zone}
            options={[
              ["", words.ofTimes],
              ...[...new Set(zones)].map((name): Option => [name, name]),
            ]}
            onInput={(time_zone) => set({ time_zone })}
            problem={isAsked("time_zone") ? words.needed : undefined}
          />
          <Select
            label={words.options.decimal}
            value={options.decimal}
            options={[
              ["", words.found],
              [".", words.point],
              [",", words.comma],
            ]}
            onInput={(decimal) => set({ decimal })}
            problem={isAsked("decimal") ? words.needed : undefined}
          />
          {field("time_format", words.formatHint)}
          {field("missing", words.missingHint)}
        </div>
        <details open={["text", "precision", "column"].some((name) => asked.includes(name))}>
          <summary>{words.more}</summary>
          <div class="pair details">
            <Select
              label={words.options.delimiter}
              value={options.delimiter}
              options={[
                ["", words.found],
                [",", words.comma],
                [";", words.semicolon],
                ["\t", words.tab],
                ["|", "|"],
              ]}
              onInput={(delimiter) => set({ delimiter })}
            />
            <Select
              label={words.options.precision}
              value={options.precision}
              options={[
                ["", words.found],
                ...["s", "ms", "us", "ns"].map((unit): Option => [unit, unit]),
              ]}
              onInput={(precision) => set({ precision })}
              problem={isAsked("precision") ? words.needed : undefined}
            />
            {field("time_column")}
            {field("text", words.textHint)}
            {field("sensor_column")}
            {field("attribute_column")}
            {field("value_column")}
          </div>
        </details>
        {preview && (
          <dl class="facts">
            {preview.findings.map(({ subject, found }) => (
              <>
                <dt>{subject}</dt>
                <dd>{found}</dd>
              </>
            ))}
          </dl>
        )}
      </section>
      <section class="panel form">
        <h2>{words.preview}</h2>
        {failure && <Notice kind="error">{failure}</Notice>}
        {!failure && preview && preview.questions.length > 0 && (
          <Notice kind="warning">
            <div>
              <p>{words.questions}</p>
              <ul>
                {preview.questions.map(({ what }) => (
                  <li key={what}>{what}</li>
                ))}
              </ul>
            </div>
          </Notice>
        )}
        {!failure && preview && preview.questions.length === 0 && (
          <Result preview={preview} table={props.table} first={first} look={look} />
        )}
      </section>
    </div>
  );
}

/** Columns whose cells are texts so far stay texts, whatever a later piece has in them. */
function textsOf(known: TakenFor | undefined): string[] {
  return Object.entries(known?.kinds ?? {}).flatMap(([name, kind]) =>
    kind === "text" ? [name] : [],
  );
}

/** Return what a later piece has of another kind than the pieces before. */
function otherKind(known: TakenFor, read: TakenFor) {
  if (known.precision && read.precision && known.precision !== read.precision) {
    return { name: texts.imports.times, before: known.precision, now: read.precision };
  }
  for (const of of ["kinds", "value_kinds"] as const) {
    for (const [name, now] of Object.entries(read[of])) {
      const before = known[of][name];
      if (before && before !== "empty" && now !== "empty" && now !== before) {
        return { name, before, now };
      }
    }
  }
  return undefined;
}

/** Return what is known after a piece more: what was empty may have a kind by now. */
function joined(known: TakenFor, read: TakenFor | null): TakenFor {
  const kinds = (of: "kinds" | "value_kinds") => ({
    ...known[of],
    ...Object.fromEntries(Object.entries(read?.[of] ?? {}).filter(([, kind]) => kind !== "empty")),
  });
  return {
    decimal: known.decimal ?? read?.decimal ?? null,
    time_format: known.time_format ?? read?.time_format ?? null,
    precision: known.precision ?? read?.precision ?? null,
    kinds: kinds("kinds"),
    value_kinds: kinds("value_kinds"),
  };
}

/** Whether a row has nothing of another kind in an attribute. */
function isOf(row: Row, name: string, kind: string): boolean {
  const value = valueAt(row.value ?? row, name);
  return value === undefined || value === null || kind === (KINDS[typeof value] ?? kind);
}

const KINDS: Record<string, string> = { number: "number", boolean: "boolean", string: "text" };

/** What stands against a later piece. */
class Problem extends Error {
  override toString() {
    return this.message;
  }
}

function listOf(text: string): string[] {
  return text
    .split(",")
    .map((each) => each.trim())
    .filter(Boolean);
}

/** What would be stored, and storing it in parts. */
function Result(props: {
  preview: Preview;
  /** All of the file; the preview is of what it begins with. */
  table: string;
  first: string;
  look: (
    table: string,
    signal?: AbortSignal,
    known?: TakenFor,
    linesLeftOut?: number,
  ) => Promise<Preview>;
}) {
  const { preview, table, first, look } = props;
  const words = texts.imports;
  const isLonger = table.length > first.length;
  const [sent, setSent] = useState<{
    done: number;
    stored: number;
    repeats: number;
    bad: string[];
  }>();
  const [failure, setFailure] = useState("");
  const [leavesBad, setLeavesBad] = useState(false);
  const isShown = useRef(true);
  useEffect(
    () => () => {
      isShown.current = false;
    },
    [],
  );
  const rows = preview.rows as Row[];
  async function store() {
    setFailure("");
    // `done` is of the whole file, in characters.
    const become = { done: 0, stored: 0, repeats: 0, bad: [] as string[] };
    setSent({ ...become });
    /** Store what was read of so many characters of the file. */
    async function storePiece(read: Preview, length: number) {
      const all = read.rows as Row[];
      const before = become.done;
      // What was sent is a repeat if it is sent again, so a break costs nothing.
      for (let sentRows = 0; sentRows < all.length && isShown.current; sentRows += PART) {
        const part = all.slice(sentRows, sentRows + PART);
        const answer = await ask(
          api.POST("/api/v1/ingest/batch", {
            body: { [read.array]: part } as never,
          }) as unknown as Promise<{ data?: Schemas["StoredBatch"]; response: Response }>,
        );
        for (const { index, detail } of answer.rejected) {
          become.bad.push(words.line(read.lines[sentRows + index] ?? 0, detail));
        }
        become.stored += answer.accepted;
        become.repeats += answer.duplicates;
        become.done = before + Math.floor((length * (sentRows + part.length)) / all.length);
        setSent({ ...become });
      }
      become.done = before + length;
    }
    try {
      await storePiece(preview, first.length);
      const heading = Math.min(...[...preview.lines, ...preview.bad.map(({ line }) => line)]) - 1;
      let known = preview.taken_for;
      for (const piece of laterPieces(table, LONGEST, heading)) {
        if (!isShown.current) return;
        const read = await look(piece.table, undefined, known ?? undefined, piece.linesLeftOut);
        const begin = heading + piece.linesLeftOut + 1;
        const asked = read.questions[0];
        if (asked) throw new Problem(words.asked(begin, asked.what));
        const other = known && read.taken_for && otherKind(known, read.taken_for);
        if (other) {
          const at = (read.rows as Row[]).findIndex((row) => !isOf(row, other.name, other.before));
          const line = read.lines[at] ?? begin;
          throw new Problem(words.otherKind(line, other.name, other.now, other.before));
        }
        known = known && joined(known, read.taken_for);
        const bad = read.bad.map(({ line, reason }) => words.line(line, reason));
        if (bad[0] && !leavesBad) throw new Problem(words.badLater(bad[0]));
        become.bad.push(...bad);
        await storePiece(read, piece.length);
      }
      setSent({ ...become });
    } catch (error) {
      if (error instanceof RangeError) setFailure(words.longRow(error.message));
      else setFailure(error instanceof Failure ? error.sentence : String(error));
    }
  }
  const isDone = sent !== undefined && sent.done === table.length;
  return (
    <>
      <p>
        <strong>
          {isLonger
            ? words.rowsOfFirst(count(rows.length), bytes(first.length), bytes(table.length))
            : words.rows(count(rows.length))}
        </strong>
        {preview.empty_count > 0 && ` ${words.empty(count(preview.empty_count))}`}
      </p>
      {preview.bad_count > 0 && (
        <Notice kind="warning">
          <div>
            <p>{words.bad(count(preview.bad_count))}</p>
            <ul>
              {preview.bad.slice(0, SHOWN).map((row) => (
                <li key={row.line}>{words.line(row.line, row.reason)}</li>
              ))}
            </ul>
          </div>
        </Notice>
      )}
      {rows.length > 0 && (
        <ol class="events">
          {rows.slice(0, SHOWN).map((row, index) => (
            <li key={preview.lines[index]}>
              <span class="quiet">{timeOf(row.timestamp)}</span>
              <code class="wrapped">{valueOf(row)}</code>
            </li>
          ))}
        </ol>
      )}
      {failure && <Notice kind="error">{failure}</Notice>}
      {sent && (
        <div role="status" class="form">
          <progress class="meter" max={table.length} value={sent.done} aria-label={words.storing} />
          <p>
            {words.become(count(sent.stored), count(sent.repeats), count(sent.bad.length))}
            {isDone && ` ${words.done}`}
          </p>
          <ul>
            {sent.bad.slice(0, SHOWN).map((said) => (
              <li key={said} class="field-problem">
                {said}
              </li>
            ))}
          </ul>
        </div>
      )}
      {(preview.bad_count > 0 || isLonger) && (
        <Check label={words.leaveBad} value={leavesBad} onInput={setLeavesBad} />
      )}
      {!isDone && rows.length > 0 && (
        <div class="form-actions">
          <button
            type="button"
            class="button button-primary"
            disabled={(preview.bad_count > 0 && !leavesBad) || (sent !== undefined && !failure)}
            onClick={() => void store()}
          >
            {isLonger ? words.storeAll : words.store(count(rows.length))}
          </button>
        </div>
      )}
    </>
  );
}

function timeOf(timestamp: unknown): string {
  if (typeof timestamp === "number") return fullTime(timestamp * 1000);
  return typeof timestamp === "string" ? fullTime(timestamp) : "–";
}

function valueOf(row: Row): string {
  const { device_id: _, timestamp: __, ...members } = row;
  return JSON.stringify(members.value ?? members);
}
