import assert from "node:assert/strict";
import { test } from "node:test";
import { moved, queryOf, type View, viewOf, windowOf } from "../src/chart/view";

const VIEWS: View[] = [
  viewOf(new URLSearchParams()),
  {
    range: "5m",
    zoom: [1_774_745_999.25, 1_774_746_000.75],
    attributes: ["temperature", "a.b\\.c & d"],
    others: ["one", "two"],
    zone: "Europe/Berlin",
    isOneChart: true,
  },
  {
    range: "all",
    zoom: undefined,
    attributes: [],
    others: [],
    zone: undefined,
    isOneChart: false,
  },
];

test("a view comes back from the URL that says it", () => {
  for (const view of VIEWS) {
    assert.deepEqual(viewOf(new URLSearchParams(queryOf(view).toString())), view);
  }
});

test("what a URL says wrongly is as by default", () => {
  const view = viewOf(new URLSearchParams("range=9y&from=now&to=2026-01-01&charts=two"));
  assert.deepEqual(view, VIEWS[0]);
  // A window that ends before it begins is none.
  assert.equal(viewOf(new URLSearchParams("from=2026-01-02&to=2026-01-01")).zoom, undefined);
});

test("a window ends now, or is what was zoomed to", () => {
  const [usual, zoomed, all] = VIEWS as [View, View, View];
  assert.deepEqual(windowOf(usual, 1_000_000, undefined), [1_000_000 - 86_400, 1_000_000]);
  assert.deepEqual(windowOf(zoomed, 1_000_000, undefined), zoomed.zoom);
  assert.deepEqual(windowOf(all, 2000, 1000), [990, 2000]);
  assert.deepEqual(windowOf(all, 2000, undefined), [2000 - 86_400 - 864, 2000]);
});

test("a window moves by its own length, and gets no shorter than a hundredth of a second", () => {
  assert.deepEqual(moved([100, 200], 0.5), [150, 250]);
  assert.deepEqual(moved([100, 200], 0, 2), [50, 250]);
  assert.deepEqual(moved([0, 0.001], 0, 0.5), [0.0005 - 0.01, 0.0005 + 0.01]);
});
