import assert from "node:assert/strict";
import { test } from "node:test";
import { type Offset, offsetOf, ticks } from "../src/chart/ticks";

const at = (text: string) => Date.parse(text) / 1000;
const texts = (from: string, to: string, count: number, zone: string) =>
  ticks(at(from), at(to), count, offsetOf(zone)).labels.map((label) => label.replace("\n", " / "));
const times = (from: string, to: string, count: number, offset: Offset) =>
  ticks(at(from), at(to), count, offset).times.map((time) => new Date(time * 1000).toISOString());

test("offsets follow the clocks of a zone, to the second at which they are changed", () => {
  const berlin = offsetOf("Europe/Berlin");
  assert.equal(berlin(at("2026-03-29T00:59:59Z")), 3600);
  assert.equal(berlin(at("2026-03-29T01:00:00Z")), 7200);
  assert.equal(berlin(at("2026-10-25T00:59:59Z")), 7200);
  assert.equal(berlin(at("2026-10-25T01:00:00Z")), 3600);
  assert.equal(offsetOf("Asia/Kathmandu")(at("2026-01-01T00:00:00Z")), 5.75 * 3600);
  assert.equal(offsetOf("America/New_York")(at("1960-07-01T00:00:00.5Z")), -4 * 3600);
  assert.throws(() => offsetOf("Europe/Nowhere"), RangeError);
});

test("an hour that is left out has no mark, and one that comes twice has two", () => {
  assert.deepEqual(texts("2026-03-28T23:00:00Z", "2026-03-29T03:00:00Z", 5, "Europe/Berlin"), [
    "00:00 / 29 Mar",
    "01:00",
    "03:00",
    "04:00",
    "05:00",
  ]);
  assert.deepEqual(texts("2026-10-24T22:00:00Z", "2026-10-25T02:00:00Z", 5, "Europe/Berlin"), [
    "00:00 / 25 Oct",
    "01:00",
    "02:00",
    "02:00",
    "03:00",
  ]);
  assert.deepEqual(texts("2026-11-01T04:00:00Z", "2026-11-01T08:00:00Z", 5, "America/New_York"), [
    "00:00 / 1 Nov",
    "01:00",
    "01:00",
    "02:00",
    "03:00",
  ]);
});

test("marks of hours stand at the same hours of each day, on days of 23 and of 25 hours too", () => {
  assert.deepEqual(texts("2026-03-28T23:00:00Z", "2026-03-30T22:00:00Z", 9, "Europe/Berlin"), [
    ...["00:00 / 29 Mar", "06:00", "12:00", "18:00"],
    ...["00:00 / 30 Mar", "06:00", "12:00", "18:00"],
    "00:00 / 31 Mar",
  ]);
  assert.deepEqual(texts("2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z", 5, "America/New_York"), [
    ...["00:00 / 1 Nov", "06:00", "12:00", "18:00"],
    "00:00 / 2 Nov",
  ]);
});

test("marks of days are midnights, and where midnight is left out the day has none", () => {
  const berlin = offsetOf("Europe/Berlin");
  assert.deepEqual(times("2026-03-27T12:00:00Z", "2026-03-31T12:00:00Z", 5, berlin), [
    "2026-03-27T23:00:00.000Z",
    "2026-03-28T23:00:00.000Z",
    "2026-03-29T22:00:00.000Z",
    "2026-03-30T22:00:00.000Z",
  ]);
  // In Santiago clocks go from 24:00 to 1:00.
  const santiago = offsetOf("America/Santiago");
  assert.deepEqual(times("2026-09-05T00:00:00Z", "2026-09-08T00:00:00Z", 3, santiago), [
    "2026-09-05T04:00:00.000Z",
    "2026-09-07T03:00:00.000Z",
  ]);
});

test("weeks begin on Mondays, months on their first days, and years on New Year's", () => {
  const utc = offsetOf("UTC");
  assert.deepEqual(times("2026-06-01T00:00:00Z", "2026-06-30T00:00:00Z", 5, utc), [
    "2026-06-01T00:00:00.000Z",
    "2026-06-08T00:00:00.000Z",
    "2026-06-15T00:00:00.000Z",
    "2026-06-22T00:00:00.000Z",
    "2026-06-29T00:00:00.000Z",
  ]);
  assert.deepEqual(texts("2025-11-15T00:00:00Z", "2026-04-15T00:00:00Z", 5, "Europe/Berlin"), [
    "Dec / 2025",
    "Jan / 2026",
    "Feb",
    "Mar",
    "Apr",
  ]);
  assert.deepEqual(texts("2019-06-01T00:00:00Z", "2026-06-01T00:00:00Z", 8, "UTC"), [
    ...["2020", "2021", "2022", "2023", "2024", "2025", "2026"],
  ]);
});

test("seconds are said where marks are closer than a minute", () => {
  assert.deepEqual(texts("2026-06-01T10:00:00Z", "2026-06-01T10:00:20Z", 4, "Asia/Kolkata"), [
    "15:30:00 / 1 Jun",
    "15:30:05",
    "15:30:10",
    "15:30:15",
    "15:30:20",
  ]);
});

test("marks rise, lie in the window and are no more than asked for, whatever the window", () => {
  const zones = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
  ];
  for (const zone of zones) {
    const offset = offsetOf(zone);
    for (let length = 1; length < 40 * 366 * 86_400; length *= 3.7) {
      for (const middle of [at("2026-03-29T01:00:00Z"), at("2026-10-04T15:30:00Z"), 0.25]) {
        const [from, to] = [middle - length / 2, middle + length / 2];
        const found = ticks(from, to, 8, offset);
        const said = `${zone} ${from} ${to}`;
        assert.equal(found.labels.length, found.times.length, said);
        // Days between clocks' changes may hold one more, and so may both ends.
        assert.ok(found.times.length <= 10, `${said}: ${found.times.length}`);
        assert.ok(length < 20 || found.times.length >= 2, said);
        found.times.forEach((time, index) => {
          assert.ok(time >= from && time <= to, said);
          assert.ok(index === 0 || time > (found.times[index - 1] ?? time), said);
        });
      }
    }
  }
});
