import assert from "node:assert/strict";
import { test } from "node:test";
import { parseMetrics, quantile, total, workerOf } from "../src/metrics";

const histogram = (...counts: number[]) =>
  parseMetrics(`# HELP wait_seconds How long
# TYPE wait_seconds histogram
wait_seconds_bucket{le="0.1",worker="2"} ${counts[0]}
wait_seconds_bucket{le="1e1",worker="2"} ${counts[1]}
wait_seconds_bucket{le="+Inf",worker="2"} ${counts[2]}
wait_seconds_sum{worker="2"} 1.5e-3
`);

test("samples are read with their labels, whatever stands in these", () => {
  const samples = parseMetrics(
    '# HELP up Whether\nup 1\nrows_total{kind="a }\\"b"} 2\nrows_total{kind="c"} 3e2\n' +
      "rows_totals 9\nnothing\nrate NaN\n",
  );
  assert.equal(samples.get("up"), 1);
  assert.equal(samples.get('rows_total{kind="a }\\"b"}'), 2);
  assert.equal(total(samples, "rows_total"), 302);
  assert.equal(total(samples, "none"), 0);
  assert.ok(Number.isNaN(samples.get("rate")));
  assert.equal(samples.size, 5);
  assert.equal(workerOf(samples), "");
});

test("a quantile is of what was counted between two answers", () => {
  const [before, after] = [histogram(10, 20, 20), histogram(10, 119, 120)];
  assert.equal(quantile(before, after, "wait_seconds", 0.5), 10);
  assert.equal(quantile(before, after, "wait_seconds", 0.999), Number.POSITIVE_INFINITY);
  assert.equal(quantile(new Map(), before, "wait_seconds", 0.5), 0.1);
  assert.equal(quantile(after, after, "wait_seconds", 0.5), null);
  assert.equal(workerOf(after), "2");
});
