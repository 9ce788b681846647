import assert from "node:assert/strict";
import { test } from "node:test";
import {
  broken,
  bucketFor,
  extended,
  from,
  type Line,
  numberOf,
  rounded,
  shown,
  summary,
  valueAt,
  valueNear,
  wideCsv,
} from "../src/chart/series";

const points = (times: number[], values: (number | null)[] = times): Line => ({
  times,
  values,
  isWhole: true,
});
const bands = (): Line => ({
  times: [0, 60, 120],
  values: [10, 20, 30],
  low: [5, 15, 25],
  high: [15, 25, 35],
  counts: [60, 60, 1],
  length: 60,
  isWhole: false,
});

test("a long window is asked for in buckets, no more than a chart has pixels", () => {
  assert.equal(bucketFor(6 * 3600, 800), undefined);
  assert.deepEqual(bucketFor(86_400, 800), ["2m", 120]);
  assert.deepEqual(bucketFor(86_400, 300), ["5m", 300]);
  assert.deepEqual(bucketFor(366 * 86_400, 800), ["12h", 43_200]);
  assert.deepEqual(bucketFor(200 * 366 * 86_400, 800), ["1mo", 2_629_800]);
});

test("a line is broken where it is far longer than usual to the next point", () => {
  const gap = broken(points([0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 200, 210]), undefined);
  assert.deepEqual(gap.times.slice(9), [90, 100, 150, 200, 210]);
  assert.deepEqual(gap.values.slice(9), [90, 100, null, 200, 210]);
  // A sensor that is expected that seldom has none.
  const seldom = points([0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 200, 210]);
  assert.equal(broken(seldom, 60), seldom);
  const even = points([0, 10, 20]);
  assert.equal(broken(even, null), even);
  const two = points([0, 1000]);
  assert.equal(broken(two, 1), two);
});

test("bands are broken where a bucket is empty, with all that belongs to them", () => {
  const line = broken({ ...bands(), times: [0, 60, 240] }, undefined);
  // Two of three are apart that far: that is how often it sends.
  assert.deepEqual(line.times, [0, 60, 240]);
  const long: Line = {
    times: [0, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 900],
    values: Array(12).fill(1),
    low: Array(12).fill(0),
    high: Array(12).fill(2),
    counts: Array(12).fill(60),
    length: 60,
    isWhole: false,
  };
  const gap = broken(long, undefined);
  assert.deepEqual(gap.times.slice(-3), [600, 750, 900]);
  assert.deepEqual(gap.values.slice(-3), [1, null, 1]);
  assert.deepEqual(gap.low?.slice(-3), [0, null, 0]);
  assert.deepEqual(gap.high?.slice(-3), [2, null, 2]);
  assert.deepEqual(gap.counts?.slice(-3), [60, 0, 60]);
});

test("a live point goes where its time is, once", () => {
  const line = points([10, 20, 30]);
  assert.deepEqual(extended(line, 40, 4), points([10, 20, 30, 40], [10, 20, 30, 4]));
  assert.deepEqual(extended(line, 15, 4), points([10, 15, 20, 30], [10, 4, 20, 30]));
  assert.deepEqual(extended(line, 5, 4), points([5, 10, 20, 30], [4, 10, 20, 30]));
  assert.equal(extended(line, 20, 4), line);
  assert.deepEqual(extended(points([]), 1, 2), points([1], [2]));
});

test("a live value joins its bucket, or begins the one that it belongs to", () => {
  const joined = extended(bands(), 150, 40);
  assert.deepEqual(joined.values, [10, 20, 35]);
  assert.deepEqual(joined.low, [5, 15, 25]);
  assert.deepEqual(joined.high, [15, 25, 40]);
  assert.deepEqual(joined.counts, [60, 60, 2]);
  const later = extended(bands(), 310, 7);
  assert.deepEqual(later.times, [0, 60, 120, 300]);
  assert.deepEqual(later.values, [10, 20, 30, 7]);
  assert.deepEqual(later.counts, [60, 60, 1, 1]);
  // What is late belongs to a bucket that is read again.
  const line = bands();
  assert.equal(extended(line, 70, 1), line);
});

test("what has left the window goes, but for the point that the line comes from", () => {
  assert.deepEqual(from(points([1, 2, 3, 4]), 3), points([2, 3, 4]));
  const line = points([1, 2, 3]);
  assert.equal(from(line, 2), line);
  assert.equal(from(line, 9), line);
  const later = from(bands(), 120);
  assert.deepEqual(later.low, [15, 25]);
  assert.deepEqual(later.counts, [60, 1]);
});

test("a summary is of the window alone, and weighs buckets by what they count", () => {
  assert.deepEqual(summary(points([1, 2, 3, 4], [9, 2, null, 4]), [2, 4]), {
    last: 4,
    low: 2,
    average: 3,
    high: 4,
  });
  const found = summary(bands(), [0, 180]);
  assert.deepEqual(found, { last: 30, low: 5, average: (10 * 60 + 20 * 60 + 30) / 121, high: 35 });
  // Of a selection no average is known, and of nothing nothing.
  assert.equal(summary({ ...points([1, 2]), isWhole: false }, [0, 9]).average, undefined);
  assert.equal(summary(points([1]), [5, 6]).last, undefined);
});

test("numbers are shown as far as they say something", () => {
  assert.equal(rounded(21.123456, { last: 1, low: 20, average: 21, high: 22 }), 21.12);
  assert.equal(rounded(2, { last: 1, low: 2, average: 2, high: 2 }), 2);
  assert.equal(shown(-3.25), "−3.25");
  assert.equal(shown(1234567.891), "1234570");
  assert.equal(shown(-0.00001), "−1.000e−5");
  assert.equal(shown(undefined), "–");
  assert.equal(numberOf(true), 1);
  assert.equal(numberOf("1"), undefined);
});

test("an attribute is found by its name as the server writes it", () => {
  const measurement = { "a.b": { c: 1 }, "back\\slash": 2, toString: 3 };
  assert.equal(valueAt(measurement, "a\\.b.c"), 1);
  assert.equal(valueAt(measurement, "back\\\\slash"), 2);
  assert.equal(valueAt({ a: 1 }, "toString"), undefined);
  assert.equal(valueAt({ a: [1] }, "a.0"), undefined);
  assert.equal(valueAt(5, "value"), 5);
  assert.equal(valueAt([5], "0"), undefined);
});

test("the value under the crosshair is of the nearest point that is near, and of no gap", () => {
  const line = points([0, 10, 20], [1, 2, null]);
  assert.equal(valueNear(line, 4, 5), 1);
  assert.equal(valueNear(line, 6, 5), 2);
  assert.equal(valueNear(line, 19, 5), undefined);
  assert.equal(valueNear(line, 40, 5), undefined);
  assert.equal(valueNear(points([]), 0, 5), undefined);
});

test("wide CSV has a row a time, and of buckets three columns", () => {
  const csv = wideCsv([
    { name: "inside, t", line: points([1.5, 2.000001], [1, null]) },
    { name: "h", line: points([0, 1.5], [7, 8]) },
  ]);
  assert.equal(
    csv,
    'timestamp,"inside, t",h\r\n' +
      "1970-01-01T00:00:00.000000Z,,7\r\n1970-01-01T00:00:01.500000Z,1,8\r\n",
  );
  assert.equal(
    wideCsv([{ name: "t", line: bands() }]).split("\r\n")[1],
    "1970-01-01T00:00:00.000000Z,10,5,15",
  );
  assert.equal(
    wideCsv([{ name: "t", line: bands() }]).split("\r\n")[0],
    "timestamp,t avg,t min,t max",
  );
});
