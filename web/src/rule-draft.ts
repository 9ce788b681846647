/** A rule as a form holds it: texts of fields, and what the server takes, from one to the other. */
import { texts } from "./texts";

/** What is decoded JSON. */
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type JsonObject = { [name: string]: Json };

/** One operator, or several conditions that are joined. */
export interface ConditionDraft {
  operator: string;
  attribute: string;
  /** The operand, as texts: a number, two bounds, a value, values, seconds, an expression. */
  operand: [string, string];
  clear: [string, string];
  parts: ConditionDraft[];
}

type Shape =
  | "number"
  | "range"
  | "value"
  | "values"
  | "seconds"
  | "severity"
  | "text"
  | "parts"
  | "cel";

interface Operator {
  shape: Shape;
  /** Whether it is about an attribute; "optional": it may be. */
  attribute?: true | "optional";
  /** The member that says when it clears. */
  clear?: string;
}

export const OPERATORS: Record<string, Operator> = {
  above: { shape: "number", attribute: true, clear: "clear_below" },
  below: { shape: "number", attribute: true, clear: "clear_above" },
  outside: { shape: "range", attribute: true, clear: "clear_inside" },
  inside: { shape: "range", attribute: true, clear: "clear_outside" },
  equals: { shape: "value", attribute: true },
  not_equals: { shape: "value", attribute: true },
  one_of: { shape: "values", attribute: true },
  change: { shape: "number", attribute: true },
  rate: { shape: "number", attribute: true },
  no_data: { shape: "seconds", attribute: "optional" },
  offline: { shape: "seconds" },
  severity_at_least: { shape: "severity" },
  subject: { shape: "text" },
  all: { shape: "parts" },
  any: { shape: "parts" },
  cel: { shape: "cel" },
};

export const isOfTheClock = (operator: string) => operator === "no_data" || operator === "offline";

export function emptyCondition(operator = "above"): ConditionDraft {
  return { operator, attribute: "", operand: ["", ""], clear: ["", ""], parts: [] };
}

/** Return a condition as the form holds it; null if the form has nothing for it. */
export function conditionDraft(document: Json): ConditionDraft | null {
  if (typeof document !== "object" || document === null || Array.isArray(document)) return null;
  const name = Object.keys(OPERATORS).find((each) => each in document);
  const operator = name && OPERATORS[name];
  if (!operator) return null;
  const draft = emptyCondition(name);
  const operand = document[name] ?? null;
  draft.attribute = typeof document.attribute === "string" ? document.attribute : "";
  if (operator.shape === "parts") {
    const parts = (Array.isArray(operand) ? operand : []).map(conditionDraft);
    if (parts.some((part) => part === null)) return null;
    draft.parts = parts as ConditionDraft[];
  } else {
    draft.operand = written(operator.shape, operand);
  }
  const clear = operator.clear && document[operator.clear];
  if (clear !== undefined && clear !== "") draft.clear = written(operator.shape, clear);
  return draft;
}

function written(shape: Shape, operand: Json): [string, string] {
  if (shape === "value") return [scalarText(operand), ""];
  if (shape === "values")
    return [(Array.isArray(operand) ? operand : []).map(scalarText).join("\n"), ""];
  if (Array.isArray(operand)) return [String(operand[0] ?? ""), String(operand[1] ?? "")];
  return [String(operand ?? ""), ""];
}

/** Return what the server takes. What is no number stays a text, which the server refuses by name. */
export function conditionOf(draft: ConditionDraft): JsonObject {
  const operator = OPERATORS[draft.operator];
  const document: JsonObject = {};
  if (!operator) return document;
  if (operator.attribute && (operator.attribute === true || draft.attribute.trim())) {
    document.attribute = draft.attribute.trim();
  }
  document[draft.operator] =
    operator.shape === "parts" ? draft.parts.map(conditionOf) : read(operator.shape, draft.operand);
  const [low, high] = draft.clear;
  if (operator.clear && (low.trim() || high.trim())) {
    document[operator.clear] = read(operator.shape, draft.clear);
  }
  return document;
}

function read(shape: Shape, [first, second]: [string, string]): Json {
  if (shape === "range") return [numberOf(first), numberOf(second)];
  if (shape === "number" || shape === "seconds") return numberOf(first);
  if (shape === "value") return scalarOf(first);
  if (shape === "values") {
    return first
      .split("\n")
      .filter((line) => line.trim())
      .map(scalarOf);
  }
  return first;
}

/** Return the number that a text is; another text stays as it is. */
export function numberOf(text: string): number | string {
  const number = Number(text.trim());
  return text.trim() && Number.isFinite(number) ? number : text;
}

/** Return the number, true, false or null that a text is; otherwise the text, without quotes. */
export function scalarOf(text: string): Json {
  try {
    const value = JSON.parse(text) as Json;
    return typeof value === "object" && value !== null ? text : value;
  } catch {
    return text.trim();
  }
}

/** Return the text that `scalarOf` makes the same value of. */
export function scalarText(value: Json): string {
  if (typeof value === "string" && scalarOf(value) === value) return value;
  return JSON.stringify(value);
}

/** Return a condition in words: `temperature above 30 for 5 min, clears at 28`. */
export function inWords(document: Json, seconds = 0): string {
  const draft = conditionDraft(document);
  const held = seconds > 0 ? ` ${texts.rules.words.held(duration(seconds))}` : "";
  return draft ? said(draft, held) : JSON.stringify(document) + held;
}

function said(draft: ConditionDraft, held = ""): string {
  const { operator, attribute, operand, clear, parts } = draft;
  const words = texts.rules.words;
  const [first, second] = operand;
  if (operator === "all" || operator === "any") {
    const joined = parts.map((part) => (part.parts.length > 1 ? `(${said(part)})` : said(part)));
    return joined.join(words.joins[operator]) + held;
  }
  if (operator === "cel") return first + held;
  const shape = OPERATORS[operator]?.shape;
  const value =
    shape === "range"
      ? words.range(first, second)
      : shape === "values"
        ? first.split("\n").join(", ")
        : shape === "seconds"
          ? duration(Number(first))
          : first;
  const clears =
    clear[0] || clear[1]
      ? words.clears(shape === "range" ? words.range(clear[0], clear[1]) : clear[0])
      : "";
  return `${attribute ? `${attribute} ` : ""}${words.operators[operator] ?? operator} ${value}${held}${clears}`;
}

/** Return seconds in their two largest units: `6 h 49 min`. */
export function duration(seconds: number): string {
  const units: [number, string][] = [
    [86_400, "d"],
    [3_600, "h"],
    [60, "min"],
    [1, "s"],
  ];
  const largest = units.findIndex(([length]) => seconds >= length);
  if (largest < 0) return `${seconds} s`;
  const [[length, unit], below] = [units[largest] ?? [1, "s"], units[largest + 1]];
  const whole = Math.floor(seconds / length);
  const rest = below ? Math.floor((seconds - whole * length) / below[0]) : 0;
  return `${below ? whole : seconds} ${unit}${rest && below ? ` ${rest} ${below[1]}` : ""}`;
}
