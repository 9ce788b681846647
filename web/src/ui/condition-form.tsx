/** The form of a rule's condition, with those that it joins. */
import { useId } from "preact/hooks";
import { type ConditionDraft, emptyCondition, OPERATORS } from "../rule-draft";
import { texts } from "../texts";
import { Area, type Option, Select } from "./controls";
import { Field, Icon } from "./parts";

const SEVERITIES: Option[] = ["debug", "info", "warning", "error"].map(
  (name): Option => [name, name],
);
const DEEPEST = 3;

export function ConditionForm(props: {
  draft: ConditionDraft;
  onInput: (draft: ConditionDraft) => void;
  attributes: string[];
  problems: Record<string, string>;
  depth?: number;
}) {
  const { draft, onInput, problems, depth = 0 } = props;
  const words = texts.rules;
  const list = useId();
  const operator = OPERATORS[draft.operator];
  const set = (change: Partial<ConditionDraft>) => onInput({ ...draft, ...change });
  const names = Object.keys(OPERATORS).filter((name) => {
    if (depth === 0) return true;
    // What the clock drives can't be joined.
    return (
      name !== "no_data" &&
      name !== "offline" &&
      (depth < DEEPEST || OPERATORS[name]?.shape !== "parts")
    );
  });
  function choose(name: string) {
    const next: Partial<ConditionDraft> = { operator: name, clear: ["", ""] };
    if (OPERATORS[name]?.shape === "parts" && draft.parts.length === 0) {
      // What stood here becomes the first of those that are joined.
      next.parts = [
        operator?.shape === "parts" || operator?.shape === "seconds" ? emptyCondition() : draft,
        { ...emptyCondition(), attribute: "" },
      ];
    }
    if (OPERATORS[name]?.shape !== operator?.shape) {
      next.operand = [OPERATORS[name]?.shape === "severity" ? "warning" : "", ""];
    }
    set(next);
  }
  const one = (label: string, hint?: string, type: "decimal" | "text" = "decimal") => (
    <Field
      label={label}
      hint={hint}
      inputMode={type}
      value={draft.operand[0]}
      onInput={(value) => set({ operand: [value, draft.operand[1]] })}
      problem={depth === 0 ? problems[draft.operator] : undefined}
      required
      autocomplete="off"
    />
  );
  const bounds = (name: "operand" | "clear", required: boolean, labels: [string, string]) => (
    <>
      {([0, 1] as const).map((side) => (
        <Field
          key={side}
          label={labels[side]}
          inputMode="decimal"
          value={draft[name][side]}
          onInput={(value) => {
            const pair: [string, string] = [...draft[name]];
            pair[side] = value;
            set({ [name]: pair });
          }}
          required={required}
          autocomplete="off"
        />
      ))}
    </>
  );
  return (
    <div class="condition">
      <div class="pair">
        {operator?.attribute && (
          <>
            <Field
              label={words.attribute}
              value={draft.attribute}
              onInput={(attribute) => set({ attribute })}
              problem={depth === 0 ? problems.attribute : undefined}
              required={operator.attribute === true}
              hint={operator.attribute === "optional" ? words.attributeOptional : undefined}
              list={list}
              autocomplete="off"
              autocapitalize="none"
              spellcheck={false}
            />
            <datalist id={list}>
              {props.attributes.map((name) => (
                <option key={name} value={name} />
              ))}
            </datalist>
          </>
        )}
        <Select
          label={words.operator}
          value={draft.operator}
          options={names.map((name): Option => [name, words.choices[name] ?? name])}
          onInput={choose}
        />
        {operator?.shape === "number" && one(words.number)}
        {operator?.shape === "seconds" && one(words.seconds)}
        {operator?.shape === "value" && one(words.value, words.valueHint, "text")}
        {operator?.shape === "text" && one(words.subject, undefined, "text")}
        {operator?.shape === "severity" && (
          <Select
            label={words.logSeverity}
            value={draft.operand[0]}
            options={SEVERITIES}
            onInput={(value) => set({ operand: [value, ""] })}
          />
        )}
        {operator?.shape === "range" && bounds("operand", true, [words.from, words.to])}
        {operator?.shape === "number" && operator.clear && (
          <Field
            label={operator.clear === "clear_below" ? words.clearBelow : words.clearAbove}
            hint={words.optional}
            inputMode="decimal"
            value={draft.clear[0]}
            onInput={(value) => set({ clear: [value, ""] })}
            problem={depth === 0 ? problems[operator.clear] : undefined}
            autocomplete="off"
          />
        )}
        {operator?.shape === "range" && bounds("clear", false, [words.clearFrom, words.clearTo])}
      </div>
      {operator?.shape === "values" && (
        <Area
          label={words.values}
          hint={words.valuesHint}
          value={draft.operand[0]}
          onInput={(value) => set({ operand: [value, ""] })}
          required
        />
      )}
      {operator?.shape === "cel" && (
        <Area
          label={words.expression}
          hint={words.expressionHint}
          value={draft.operand[0]}
          onInput={(value) => set({ operand: [value, ""] })}
          problem={problems.cel}
          placeholder="value.temperature > 25.0 && value.humidity > 70.0"
          code
          required
        />
      )}
      {operator?.shape === "parts" && (
        <div class="conditions">
          {draft.parts.map((part, index) => (
            <fieldset key={index}>
              <legend>{words.part(index + 1)}</legend>
              <ConditionForm
                draft={part}
                onInput={(changed) =>
                  set({ parts: draft.parts.map((each, at) => (at === index ? changed : each)) })
                }
                attributes={props.attributes}
                problems={{}}
                depth={depth + 1}
              />
              {draft.parts.length > 1 && (
                <button
                  type="button"
                  class="link"
                  onClick={() => set({ parts: draft.parts.filter((_, at) => at !== index) })}
                >
                  {words.removePart(index + 1)}
                </button>
              )}
            </fieldset>
          ))}
          <button
            type="button"
            class="button button-small"
            onClick={() => set({ parts: [...draft.parts, emptyCondition()] })}
          >
            <Icon name="plus" />
            {words.addPart}
          </button>
        </div>
      )}
    </div>
  );
}
