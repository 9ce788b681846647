-- name: chunks_of_spans(spans)
-- The chunks that have rows of a sensor between two times, for a list of these, and their bytes.
SELECT DISTINCT chunk.id, length(chunk.head) + length(chunk.body)
FROM jsonb_array_elements(CAST(:spans AS jsonb)) AS span (value)
JOIN chunk ON chunk.sensor = CAST(span.value ->> 0 AS bigint)
AND chunk.last >= CAST(span.value ->> 1 AS bigint)
AND chunk.last <= CAST(span.value ->> 2 AS bigint) + {longest_chunk}
AND chunk.first >= CAST(span.value ->> 1 AS bigint) - {longest_chunk}
AND chunk.first <= CAST(span.value ->> 2 AS bigint);

-- name: chunks_to_search(spans)
-- The same with what tells whether their times are known; one of several spans is found for each.
SELECT
    chunk.id, chunk.sensor, chunk.first, chunk.last, substring(chunk.head FROM 1 FOR 5),
    {chunk_bytes}
FROM jsonb_array_elements(CAST(:spans AS jsonb)) AS span (value)
JOIN chunk ON chunk.sensor = CAST(span.value ->> 0 AS bigint)
AND chunk.last >= CAST(span.value ->> 1 AS bigint)
AND chunk.last <= CAST(span.value ->> 2 AS bigint) + {longest_chunk}
AND chunk.first >= CAST(span.value ->> 1 AS bigint) - {longest_chunk}
AND chunk.first <= CAST(span.value ->> 2 AS bigint);

-- name: chunk_times(ids)
SELECT id, head, substring(body FROM 1 FOR {chunk_times_size})
FROM chunk
WHERE id IN (
    SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:ids AS json))
);

-- name: chunks_by_id(ids)
SELECT id, sensor, head, body
FROM chunk
WHERE id IN (
    SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:ids AS json))
);

-- name: chunk_lengths(ids)
SELECT id, {chunk_bytes} FROM chunk WHERE id IN (
    SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:ids AS json))
);

-- shared: measurement_keys
measurement

-- name: packing_locked(number, first_id, last_id)
-- A row if there is the sensor, which nobody else changes from then on; the ids are SQLite's.
SELECT number
FROM sensor
WHERE number = :number AND CAST(:first_id AS bigint) <= CAST(:last_id AS bigint)
FOR NO KEY UPDATE;

-- name: chunk_rows_taken(sensor, first, first_fingerprint, last, last_fingerprint, numbers)
-- Delete the rows between two positions, but for these ids, and return their ids.
DELETE FROM measurement
{chunk_rows_between}
RETURNING id;

-- name: packed_repeats_delete(rows)
DELETE FROM measurement
USING jsonb_array_elements(CAST(:rows AS jsonb)) AS gone (value)
WHERE measurement.sensor = CAST(gone.value ->> 1 AS bigint)
AND measurement.timestamp = CAST(gone.value ->> 2 AS bigint)
AND measurement.fingerprint = CAST(gone.value ->> 3 AS bigint)
AND measurement.id = CAST(gone.value ->> 0 AS bigint)
RETURNING measurement.id;

-- shared: chunk_bytes
length(chunk.head) + length(chunk.body)

-- What is wanted is JSON: [sensor, from, to] each, `to` exclusive.

-- name: chunks_due(wanted, limit)
-- Those that lie in a span as a whole.
SELECT chunk.id, chunk.sensor
FROM jsonb_array_elements(CAST(:wanted AS jsonb)) AS wanted (value)
JOIN chunk ON chunk.sensor = CAST(wanted.value ->> 0 AS bigint)
AND chunk.first >= CAST(wanted.value ->> 1 AS bigint)
AND chunk.last < CAST(wanted.value ->> 2 AS bigint)
LIMIT :limit;

-- name: chunks_sum_due(wanted)
-- Of each sensor: the rows of such chunks, and their bytes.
SELECT
    chunk.sensor, CAST(sum(chunk.row_count) AS bigint), CAST(sum({chunk_bytes}) AS bigint)
FROM jsonb_array_elements(CAST(:wanted AS jsonb)) AS wanted (value)
JOIN chunk ON chunk.sensor = CAST(wanted.value ->> 0 AS bigint)
AND chunk.first >= CAST(wanted.value ->> 1 AS bigint)
AND chunk.last < CAST(wanted.value ->> 2 AS bigint)
GROUP BY chunk.sensor;

-- name: chunks_cut(wanted)
-- Those of which a part lies in a span, and begins before a further time: the span to that time,
-- the chunk, its rows and its bytes.
SELECT
    chunk.sensor, CAST(wanted.value ->> 1 AS bigint), CAST(wanted.value ->> 3 AS bigint),
    chunk.id, chunk.row_count, {chunk_bytes}
FROM jsonb_array_elements(CAST(:wanted AS jsonb)) AS wanted (value)
JOIN chunk ON chunk.sensor = CAST(wanted.value ->> 0 AS bigint)
AND chunk.last >= CAST(wanted.value ->> 1 AS bigint)
AND chunk.first < CAST(wanted.value ->> 3 AS bigint)
AND (
    chunk.first < CAST(wanted.value ->> 1 AS bigint)
    OR chunk.last >= CAST(wanted.value ->> 2 AS bigint)
);

-- name: chunks_remove(ids)
DELETE FROM chunk
WHERE id IN (
    SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:ids AS json))
)
RETURNING row_count;

-- name: chunk_bodies(wanted)
-- Of each as much as is needed: a list of [id, bytes].
SELECT chunk.id, substring(chunk.body FROM 1 FOR CAST(wanted.value ->> 1 AS integer))
FROM jsonb_array_elements(CAST(:wanted AS jsonb)) AS wanted (value)
JOIN chunk ON chunk.id = CAST(wanted.value ->> 0 AS bigint);
