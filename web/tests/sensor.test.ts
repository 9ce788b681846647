import assert from "node:assert/strict";
import { test } from "node:test";
import { offsetOf } from "../src/chart/ticks";
import { DAYS, daysOf, levelOf } from "../src/sensor/activity";
import { presenceOf } from "../src/sensor/presence";
import { inputOf, readAround, timeOf } from "../src/sensor/times";

const at = (text: string) => Date.parse(text) / 1000;
const berlin = offsetOf("Europe/Berlin");

test("a field's local time is that of the zone, also where its clocks are changed", () => {
  for (const time of [
    "2026-03-29T00:59:59Z",
    "2026-03-29T01:00:00Z",
    "2026-10-24T23:59:59Z",
    "2026-10-25T01:30:00Z",
    "2026-07-01T12:00:00Z",
  ]) {
    assert.equal(timeOf(inputOf(at(time), berlin), berlin), at(time), time);
  }
  assert.equal(inputOf(at("2026-07-01T12:00:00.4Z"), berlin), "2026-07-01T14:00:00");
});

test("a field without seconds is read too", () => {
  assert.equal(timeOf("2026-07-01T14:00", berlin), at("2026-07-01T12:00:00Z"));
});

test("what is read around a window holds it, and stays while it moves inside", () => {
  for (const length of [0.01, 300, 86_400, 3e7]) {
    for (const from of [0, 1_780_000_000.5]) {
      const [begin, end] = readAround([from, from + length]);
      assert.ok(begin <= from && end >= from + length, `${from} ${length}`);
    }
  }
  assert.deepEqual(readAround([1000, 1300]), readAround([1001, 1301]));
});

test("days are those of the zone, and a part counts the attribute with most values", () => {
  const now = at("2026-10-26T12:00:00Z");
  const days = daysOf(
    [
      [
        { start: "2026-10-26T00:00:00+01:00", count: 5 },
        ...[4, 8, 12, 16, 20].map((hour) => ({
          start: new Date(Date.UTC(2026, 9, 26, hour - 1)).toISOString(),
          count: hour,
        })),
        { start: "2026-10-25T00:00:00+02:00", count: 2 },
      ],
      [{ start: "2026-10-26T00:00:00+01:00", count: 7 }],
      [{ start: "2026-01-01T00:00:00+01:00", count: 9 }],
    ],
    now,
    berlin,
  );
  assert.equal(days.length, DAYS);
  const [yesterday, today] = days.slice(-2);
  assert.deepEqual(today?.counts, [7, 4, 8, 12, 16, 20]);
  assert.equal(today?.start, at("2026-10-25T23:00:00Z"));
  assert.equal(yesterday?.total, 2);
  // It has 25 hours.
  assert.equal((yesterday?.end ?? 0) - (yesterday?.start ?? 0), 25 * 3600);
  assert.equal(
    days.reduce((sum, day) => sum + day.total, 0),
    69,
  );
});

test("a little is never shown as nothing", () => {
  assert.deepEqual(
    [0, 1, 500, 501, 1000].map((count) => levelOf(count, 1000)),
    [0, 1, 2, 3, 4],
  );
});

test("signs of life are joined until one is late, by what is expected or usual", () => {
  const signs = [100, 0, 10, 20, 110];
  assert.deepEqual(presenceOf(signs, 115, null), {
    alive: [
      { from: 0, to: 20 },
      { from: 100, to: 110 },
    ],
    gaps: [{ from: 20, to: 100 }],
  });
  assert.deepEqual(presenceOf(signs, 300, 90), {
    alive: [{ from: 0, to: 110 }],
    gaps: [{ from: 110, to: 300 }],
  });
  // Of one alone nothing is usual.
  assert.deepEqual(presenceOf([5], 1e9, null), { alive: [{ from: 5, to: 5 }], gaps: [] });
  assert.deepEqual(presenceOf([], 1, 60), { alive: [], gaps: [] });
});
