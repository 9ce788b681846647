/** The parts that pages are made of. */
import type { ComponentChildren, JSX, Ref } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { Failure } from "../api/client";
import { isReachable } from "../connection";
import type { Loaded } from "../load";
import { texts } from "../texts";
import { ago, fullTime } from "../time";

/** The head of a page: its title, which is the document's too, and what can be done there. */
export function PageHead({
  title,
  above,
  children,
}: {
  title: string;
  above?: ComponentChildren;
  children?: ComponentChildren;
}) {
  useEffect(() => {
    document.title = `${title} · ${texts.product}`;
  }, [title]);
  return (
    <header class="page-head">
      {above && <div class="page-above">{above}</div>}
      <h1>{title}</h1>
      {children && <div class="page-actions">{children}</div>}
    </header>
  );
}

/** Have the tab of the page in sight: a narrow screen has no room for all. Return the ref of their row. */
export function useTabInSight(path: string, label: string): Ref<HTMLElement> {
  const row = useRef<HTMLElement>(null);
  useEffect(() => {
    const shown = row.current?.querySelector<HTMLElement>("[aria-current=page]");
    if (row.current && shown) {
      const { left, width } = shown.getBoundingClientRect();
      const box = row.current.getBoundingClientRect();
      row.current.scrollLeft += left + width / 2 - box.left - box.width / 2;
    }
  }, [path, label]);
  return row;
}

/** What a page says while it has nothing to show: the next step. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

/** A sentence that matters now. */
export function Notice({
  kind,
  children,
}: {
  kind: "error" | "warning" | "done";
  children: ComponentChildren;
}) {
  return (
    <div class={`notice notice-${kind}`} role={kind === "error" ? "alert" : "status"}>
      {children}
    </div>
  );
}

/** Show what was read, or that it is being read, or why it can't be. */
export function Show<T>({
  loaded,
  children,
}: {
  loaded: Loaded<T>;
  children: (data: T) => ComponentChildren;
}) {
  if (loaded.data !== undefined) return <>{children(loaded.data)}</>;
  // While the server is away the frame says so, and it is read again afterwards.
  if (loaded.failure && isReachable.value) {
    return (
      <Notice kind="error">
        <p>{loaded.failure.sentence}</p>
        <button type="button" class="button" onClick={loaded.reload}>
          {texts.again}
        </button>
      </Notice>
    );
  }
  return <Skeleton />;
}

/** What stands where something is about to be shown; it can't be seen for the first moment. */
export function Skeleton() {
  return (
    <div class="skeleton" role="status">
      <span class="hidden">{texts.loading}</span>
      <i />
      <i />
      <i />
    </div>
  );
}

/** How long ago, with the time and its zone as a title and for screen readers. */
export function Ago({
  time,
  otherwise,
}: {
  time: string | number | null | undefined;
  otherwise?: string;
}) {
  if (!time) return <span class="quiet">{otherwise}</span>;
  return (
    <time dateTime={new Date(time).toISOString()} title={fullTime(time)}>
      {ago(time)}
    </time>
  );
}

type InputProps = Omit<JSX.IntrinsicElements["input"], "onInput" | "value" | "label" | "id"> & {
  label: string;
  value: string;
  onInput: (value: string) => void;
  hint?: ComponentChildren;
  problem?: string | undefined;
};

/** A field of a form, with its label, a hint, and what the server found wrong with it. */
export function Field({ label, hint, problem, onInput, ...input }: InputProps) {
  const id = useId();
  const described = [hint && `${id}-hint`, problem && `${id}-problem`].filter(Boolean).join(" ");
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input
        {...input}
        id={id}
        aria-invalid={problem ? true : undefined}
        aria-describedby={described || undefined}
        onInput={(event) => onInput(event.currentTarget.value)}
      />
      {problem && (
        <p class="field-problem" id={`${id}-problem`}>
          {problem}
        </p>
      )}
      {hint && (
        <p class="field-hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
    </div>
  );
}

/** A form that sends once at a time, and shows what the server answers if it refuses. */
export function Form({
  submit,
  send,
  cancel,
  isDanger,
  children,
}: {
  submit: string;
  /** Whether it takes something away. */
  isDanger?: boolean;
  send: () => Promise<void>;
  cancel?: () => void;
  children: (problems: Record<string, string>) => ComponentChildren;
}) {
  const [isSending, setSending] = useState(false);
  const [failure, setFailure] = useState<Failure>();
  const isShown = useRef(true);
  useEffect(
    () => () => {
      isShown.current = false;
    },
    [],
  );
  async function onSubmit(event: JSX.TargetedSubmitEvent<HTMLFormElement>) {
    event.preventDefault();
    if (isSending) return;
    setSending(true);
    setFailure(undefined);
    try {
      await send();
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      if (isShown.current) setFailure(error);
    } finally {
      if (isShown.current) setSending(false);
    }
  }
  const problems = failure?.members ?? {};
  return (
    <form onSubmit={onSubmit} class="form">
      {failure && Object.keys(problems).length === 0 && (
        <Notice kind="error">{failure.sentence}</Notice>
      )}
      {children(problems)}
      <div class="form-actions">
        <button
          type="submit"
          class={`button ${isDanger ? "button-danger" : "button-primary"}`}
          aria-disabled={isSending}
        >
          {submit}
        </button>
        {cancel && (
          <button type="button" class="button" onClick={cancel}>
            {texts.cancel}
          </button>
        )}
      </div>
    </form>
  );
}

/** A dialog above the page, closed by Escape and by its button. */
export function Dialog({
  title,
  close,
  children,
}: {
  title: string;
  close: () => void;
  children: ComponentChildren;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const shown = dialog.current;
    shown?.showModal();
    return () => shown?.close();
  }, []);
  return (
    <dialog ref={dialog} aria-labelledby={id} onCancel={close} onClose={close}>
      <header>
        <h2 id={id}>{title}</h2>
        <button type="button" class="button button-icon" aria-label={texts.close} onClick={close}>
          <Icon name="close" />
        </button>
      </header>
      {children}
    </dialog>
  );
}

const ICONS = {
  close: "M6 6l12 12M18 6 6 18",
  menu: "M4 7h16M4 12h16M4 17h16",
  networks: "M12 4v5M12 15v5M5 18l4.5-4M19 18l-4.5-4M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6",
  account: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8M4.5 20c1-3.5 4-5 7.5-5s6.500 1.500 7.500 5",
  alerts:
    "M12 4a5 5 0 0 0-5 5c0 5-2 6.500-2 7.500h14c0-1-2-2.500-2-7.500a5 5 0 0 0-5-5M10 19.500h4",
  rules: "M5 6h14M5 12h9M5 18h6M16 15l2 2 4-4",
  boards: "M4 5h7v8H4zM13 5h7v5h-7zM13 12h7v7h-7zM4 15h7v4H4z",
  system: "M4 6h16v5H4zM4 13h16v5H4zM7.500 8.500h.01M7.500 15.500h.01",
  audit: "M7 4h10v16H7zM10 8h4M10 12h4M10 16h2",
  plus: "M12 5v14M5 12h14",
  search: "M11 5a6 6 0 1 0 0 12 6 6 0 0 0 0-12M15.500 15.500 20 20",
} as const;

export type IconName = keyof typeof ICONS;

/** A line drawing beside a word; it says nothing to a screen reader. */
export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={ICONS[name]} />
    </svg>
  );
}
