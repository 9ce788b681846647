import assert from "node:assert/strict";
import { test } from "node:test";
import { type Held, hold } from "../src/held";

interface Row {
  id: string;
  text?: string;
}

const rows = (ids: string): Row[] => [...ids].map((id) => ({ id }));
const ids = (list: Row[]) => list.map(({ id }) => id).join("");
const NONE = new Set<string>();
const again = (before: Held<Row>, read: string, limit = 10, left = NONE) => {
  const held = hold(before, rows(read), limit, left);
  return [ids(held.rows), ids(held.fresh), [...held.gone].join("")];
};

test("what comes waits above, and what is shown keeps its place and is up to date", () => {
  const first = hold<Row>(undefined, rows("cba"), 10, NONE);
  assert.deepEqual([ids(first.rows), ids(first.fresh)], ["cba", ""]);
  assert.deepEqual(again(first, "edcba"), ["cba", "ed", ""]);
  assert.equal(
    hold(first, [{ id: "c", text: "new" }, ...rows("ba")], 10, NONE).rows[0]?.text,
    "new",
  );
});

test("what is gone stays where it was, but for what was sent away", () => {
  const first = hold<Row>(undefined, rows("cba"), 10, NONE);
  assert.deepEqual(again(first, "ca"), ["cba", "", "b"]);
  assert.deepEqual(again(first, "dca", 10, new Set("b")), ["ca", "d", "b"]);
  const second = hold(first, rows("dca"), 10, NONE);
  assert.deepEqual(again(second, "dba"), ["cba", "d", "c"]);
});

test("where nothing is left that was shown, all that there is is shown", () => {
  const first = hold<Row>(undefined, rows("cba"), 10, NONE);
  assert.deepEqual(again(first, "ed"), ["ed", "", ""]);
  assert.deepEqual(again(first, ""), ["", "", ""]);
  assert.deepEqual(again(hold<Row>(undefined, [], 10, NONE), "a"), ["a", "", ""]);
});

test("what no page has room for any more is not gone, and what a longer one has comes below", () => {
  const first = hold<Row>(undefined, rows("dcba"), 4, NONE);
  assert.deepEqual(again(first, "fedc", 4), ["dcba", "fe", ""]);
  assert.deepEqual(again(first, "edca", 4), ["dcba", "e", "b"]);
  assert.deepEqual(again(first, "edcba0", 8), ["dcba0", "e", ""]);
});
