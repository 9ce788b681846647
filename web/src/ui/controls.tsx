/** Controls beside a plain field: choices, longer texts, switches. */
import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";
import { Icon } from "./parts";

/** A value, and what it is called. */
export type Option = readonly [value: string, label: string];

/** A field of a form in which one of several is chosen. */
export function Select(props: {
  label: string;
  value: string;
  options: readonly Option[];
  onInput: (value: string) => void;
  hint?: ComponentChildren;
  problem?: string | undefined;
  disabled?: boolean;
}) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{props.label}</label>
      <select
        id={id}
        value={props.value}
        disabled={props.disabled}
        aria-describedby={props.hint || props.problem ? `${id}-hint` : undefined}
        onChange={(event) => props.onInput(event.currentTarget.value)}
      >
        {props.options.map(([value, label]) => (
          <option key={value} value={value}>
            {label}
          </option>
        ))}
      </select>
      <Below id={id} hint={props.hint} problem={props.problem} />
    </div>
  );
}

/** A field of a form for several lines. */
export function Area(props: {
  label: string;
  value: string;
  onInput: (value: string) => void;
  rows?: number;
  code?: boolean;
  hint?: ComponentChildren;
  problem?: string | undefined;
  maxLength?: number;
  placeholder?: string;
  required?: boolean;
}) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{props.label}</label>
      <textarea
        id={id}
        class={props.code ? "code" : undefined}
        rows={props.rows ?? 3}
        value={props.value}
        maxLength={props.maxLength}
        placeholder={props.placeholder}
        required={props.required}
        spellcheck={!props.code}
        aria-invalid={props.problem ? true : undefined}
        aria-describedby={props.hint || props.problem ? `${id}-hint` : undefined}
        onInput={(event) => props.onInput(event.currentTarget.value)}
      />
      <Below id={id} hint={props.hint} problem={props.problem} />
    </div>
  );
}

function Below(props: {
  id: string;
  hint: ComponentChildren | undefined;
  problem: string | undefined;
}) {
  if (!props.hint && !props.problem) return null;
  return (
    <div id={`${props.id}-hint`}>
      {props.problem && <p class="field-problem">{props.problem}</p>}
      {props.hint && <p class="field-hint">{props.hint}</p>}
    </div>
  );
}

/** A switch with its words beside it. */
export function Check(props: { label: string; value: boolean; onInput: (value: boolean) => void }) {
  return (
    <label class="check">
      <input
        type="checkbox"
        checked={props.value}
        onChange={(event) => props.onInput(event.currentTarget.checked)}
      />
      {props.label}
    </label>
  );
}

/** A filter above a list: a choice whose label only screen readers are told. */
export function Filter(props: {
  label: string;
  value: string;
  options: readonly Option[];
  onInput: (value: string) => void;
}) {
  return (
    <label class="filter">
      <span class="hidden">{props.label}</span>
      <select value={props.value} onChange={(event) => props.onInput(event.currentTarget.value)}>
        {props.options.map(([value, label]) => (
          <option key={value} value={value}>
            {label}
          </option>
        ))}
      </select>
    </label>
  );
}

/** A field above a list, by which it is searched; `label` stands in it. */
export function Search(props: { label: string; value: string; onInput: (value: string) => void }) {
  return (
    <label class="search">
      <Icon name="search" />
      <span class="hidden">{props.label}</span>
      <input
        type="search"
        placeholder={props.label}
        value={props.value}
        onInput={(event) => props.onInput(event.currentTarget.value)}
      />
    </label>
  );
}
