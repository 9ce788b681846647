import assert from "node:assert/strict";
import { test } from "node:test";
import {
  conditionDraft,
  conditionOf,
  duration,
  emptyCondition,
  inWords,
  type Json,
  numberOf,
  OPERATORS,
  scalarOf,
  scalarText,
} from "../src/rule-draft";

const CONDITIONS: Json[] = [
  { attribute: "temperature", above: 30, clear_below: 28.5 },
  { attribute: "temperature", below: -1e-3 },
  { attribute: "level", outside: [1, 9], clear_inside: [2, 8] },
  { attribute: "level", inside: [1, 9] },
  { attribute: "state", equals: "open" },
  { attribute: "state", equals: "true" },
  { attribute: "state", not_equals: null },
  { attribute: "state", one_of: [1, "1", true, "on"] },
  { attribute: "level", change: 5 },
  { attribute: "level", rate: 0.5 },
  { no_data: 600 },
  { attribute: "level", no_data: 600 },
  { offline: 60 },
  { severity_at_least: "error" },
  { subject: "disk" },
  { cel: "value.a > 1" },
  { all: [{ attribute: "a", above: 1 }, { any: [{ offline: 60 }, { no_data: 60 }] }] },
];

test("a condition comes back from the form as it was", () => {
  const operators = new Set<string>();
  for (const condition of CONDITIONS) {
    const draft = conditionDraft(condition);
    assert.ok(draft, JSON.stringify(condition));
    operators.add(draft.operator);
    assert.deepEqual(conditionOf(draft), condition);
  }
  const untried = Object.keys(OPERATORS).filter((name) => !operators.has(name));
  assert.deepEqual(untried, ["any"], "tried inside of another");
});

test("what the form has nothing for is left to JSON", () => {
  assert.equal(conditionDraft({ attribute: "a", almost: 1 }), null);
  assert.equal(conditionDraft({ all: [{ almost: 1 }] }), null);
  assert.equal(conditionDraft([1]), null);
});

test("what is typed becomes what the server takes, or stays for it to refuse", () => {
  const draft = {
    ...emptyCondition(),
    attribute: " temperature ",
    operand: ["3O", ""] as [string, string],
  };
  assert.deepEqual(conditionOf(draft), { attribute: "temperature", above: "3O" });
  assert.equal(numberOf(" 12 "), 12);
  assert.equal(numberOf(""), "");
  assert.equal(numberOf("Infinity"), "Infinity");
  assert.equal(scalarOf('"1"'), "1");
  assert.equal(scalarOf("[1]"), "[1]");
  for (const value of [null, true, 1.5, "on", "1", "true", ' "a" ', ""]) {
    assert.equal(scalarOf(scalarText(value)), value);
  }
});

test("a condition is said in words", () => {
  assert.equal(
    inWords({ attribute: "temperature", above: 30, clear_below: 28 }, 300),
    "temperature above 30 for 5 min, clears at 28",
  );
  const all = { all: [{ attribute: "a", above: 1 }, { any: [{ offline: 60 }, { no_data: 90 }] }] };
  assert.equal(inWords(all), "a above 1 and (offline for 1 min or no data for 1 min 30 s)");
  assert.equal(inWords({ almost: 1 }), '{"almost":1}');
});

test("a duration is said in its two largest units", () => {
  assert.equal(duration(0.5), "0.5 s");
  assert.equal(duration(59), "59 s");
  assert.equal(duration(60), "1 min");
  assert.equal(duration(24_540), "6 h 49 min");
  assert.equal(duration(86_400 * 30 + 59), "30 d");
});
