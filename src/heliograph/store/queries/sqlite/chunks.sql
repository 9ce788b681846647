-- shared: measurement_keys
measurement_key

-- name: packing_locked(number, first_id, last_id)
-- A row if there is the sensor. Rows with such ids may be without a key from now on.
UPDATE measurement_sweep
SET
    last_id = CASE WHEN first_id > last_id THEN :last_id ELSE max(last_id, :last_id) END,
    first_id = min(first_id, :first_id)
WHERE EXISTS (SELECT 1 FROM sensor WHERE number = :number)
RETURNING id;

-- name: chunk_rows_taken(sensor, first, first_fingerprint, last, last_fingerprint, numbers)
-- The ids of the rows between two positions, but for these ids.
SELECT id FROM measurement_key
{chunk_rows_between};

-- name: chunk_rows_delete(sensor, first, first_fingerprint, last, last_fingerprint, numbers)!
DELETE FROM measurement_key
{chunk_rows_between};

-- name: sweep_next(limit)
-- The id up to which rows are looked at next; none if there can be none without a key.
SELECT
    coalesce(
        (
            SELECT measurement_row.id FROM measurement_row
            WHERE measurement_row.id >= first_id AND measurement_row.id <= last_id
            ORDER BY measurement_row.id
            LIMIT 1 OFFSET :limit
        ),
        last_id
    )
FROM measurement_sweep
WHERE first_id <= last_id;

-- name: sweep_rows(until)!
DELETE FROM measurement_row
WHERE id >= (SELECT first_id FROM measurement_sweep) AND id <= :until
AND NOT EXISTS (
    SELECT 1 FROM measurement_key
    WHERE measurement_key.sensor = measurement_row.sensor
    AND measurement_key.timestamp = measurement_row.timestamp
    AND measurement_key.fingerprint = measurement_row.fingerprint
    AND measurement_key.id = measurement_row.id
);

-- name: sweep_advance(until)!
UPDATE measurement_sweep
SET first_id = CASE WHEN :until < last_id THEN max(first_id, :until + 1) ELSE 9223372036854775807 END;

-- name: chunks_of_spans(spans)
-- The chunks that have rows of a sensor between two times, for a list of these, and their bytes.
SELECT DISTINCT chunk.id, length(chunk.head) + length(chunk.body)
FROM json_each(:spans) AS span
CROSS JOIN chunk
WHERE chunk.sensor = json_extract(span.value, '$[0]')
AND chunk.last >= json_extract(span.value, '$[1]')
AND chunk.last <= json_extract(span.value, '$[2]') + {longest_chunk}
AND chunk.first <= json_extract(span.value, '$[2]');

-- name: chunks_to_search(spans)
-- The same with what tells whether their times are known; one of several spans is found for each.
SELECT
    chunk.id, chunk.sensor, chunk.first, chunk.last, substr(chunk.head, 1, 5),
    {chunk_bytes}
FROM json_each(:spans) AS span
CROSS JOIN chunk
WHERE chunk.sensor = json_extract(span.value, '$[0]')
AND chunk.last >= json_extract(span.value, '$[1]')
AND chunk.last <= json_extract(span.value, '$[2]') + {longest_chunk}
AND chunk.first <= json_extract(span.value, '$[2]');

-- name: chunk_times(ids)
SELECT id, head, substr(body, 1, {chunk_times_size})
FROM chunk
WHERE id IN (SELECT value FROM json_each(:ids));

-- name: chunks_by_id(ids)
SELECT id, sensor, head, body FROM chunk WHERE id IN (SELECT value FROM json_each(:ids));

-- name: chunk_lengths(ids)
SELECT id, {chunk_bytes} FROM chunk WHERE id IN (SELECT value FROM json_each(:ids));

-- name: packed_repeats_delete(rows)
DELETE FROM measurement
WHERE id IN (SELECT json_extract(value, '$[0]') FROM json_each(:rows))
RETURNING id;

-- shared: chunk_bytes
length(chunk.head) + length(chunk.body)

-- What is wanted is JSON: [sensor, from, to] each, `to` exclusive.

-- name: chunks_due(wanted, limit)
-- Those that lie in a span as a whole.
SELECT chunk.id, chunk.sensor
FROM json_each(:wanted) AS wanted
CROSS JOIN chunk
WHERE chunk.sensor = json_extract(wanted.value, '$[0]')
AND chunk.first >= json_extract(wanted.value, '$[1]')
AND chunk.last < json_extract(wanted.value, '$[2]')
LIMIT :limit;

-- name: chunks_sum_due(wanted)
-- Of each sensor: the rows of such chunks, and their bytes.
SELECT chunk.sensor, sum(chunk.row_count), sum({chunk_bytes})
FROM json_each(:wanted) AS wanted
CROSS JOIN chunk
WHERE chunk.sensor = json_extract(wanted.value, '$[0]')
AND chunk.first >= json_extract(wanted.value, '$[1]')
AND chunk.last < json_extract(wanted.value, '$[2]')
GROUP BY chunk.sensor;

-- name: chunks_cut(wanted)
-- Those of which a part lies in a span, and begins before a further time: the span to that time,
-- the chunk, its rows and its bytes.
SELECT
    json_extract(wanted.value, '$[0]'), json_extract(wanted.value, '$[1]'),
    json_extract(wanted.value, '$[3]'), chunk.id, chunk.row_count, {chunk_bytes}
FROM json_each(:wanted) AS wanted
CROSS JOIN chunk
WHERE chunk.sensor = json_extract(wanted.value, '$[0]')
AND chunk.last >= json_extract(wanted.value, '$[1]')
AND chunk.first < json_extract(wanted.value, '$[3]')
AND (
    chunk.first < json_extract(wanted.value, '$[1]')
    OR chunk.last >= json_extract(wanted.value, '$[2]')
);

-- name: chunks_remove(ids)
DELETE FROM chunk WHERE id IN (SELECT value FROM json_each(:ids)) RETURNING row_count;

-- name: chunk_bodies(wanted)
-- Of each as much as is needed: a list of [id, bytes].
SELECT chunk.id, substr(chunk.body, 1, json_extract(wanted.value, '$[1]'))
FROM json_each(:wanted) AS wanted
CROSS JOIN chunk
WHERE chunk.id = json_extract(wanted.value, '$[0]');
