-- Chunks: see heliograph.packed. Those of a sensor do not overlap in (timestamp, fingerprint).

-- A chunk lies within a month. So what is beyond a time by more than that need not be looked at.

-- shared: longest_chunk
2678400000000

-- shared: chunk_times_size
-- A body begins with the times, of which each takes less than this but where a clock leaps about.
2 * chunk.row_count + 128

-- shared: no_chunk
CAST(NULL AS bytea) AS head, CAST(NULL AS bytea) AS body

-- shared: chunk_as_row
-- In the columns of a page's rows, of which only a chunk has a head.
    id, first, first_fingerprint, last, last_fingerprint, head, body, CAST(NULL AS text), 0

-- shared: no_headed_chunk
    CAST(NULL AS bigint) AS id, CAST(NULL AS bigint) AS last,
    CAST(NULL AS bigint) AS last_fingerprint, CAST(NULL AS bytea) AS head

-- shared: headed_chunk
-- Beside rows of (timestamp, fingerprint, value), of which only a chunk has an id here.
    chunk.first, chunk.first_fingerprint, CAST(NULL AS text), chunk.id, chunk.last,
    chunk.last_fingerprint, chunk.head, 0

-- shared: chunk_not_beyond_until
-- They do not overlap: so a search by `last` ends where one begins that is beyond the time.
    last <= coalesce(
        (
            SELECT beyond.last
            FROM chunk AS beyond
            WHERE beyond.sensor = :sensor AND beyond.first > :until
            ORDER BY beyond.first, beyond.first_fingerprint
            LIMIT 1
        ),
        9223372036854775807
    )

-- shared: chunk_not_beyond_since
-- The same backwards.
    first >= coalesce(
        (
            SELECT beyond.first
            FROM chunk AS beyond
            WHERE beyond.sensor = :sensor AND beyond.last < :since
            ORDER BY beyond.last DESC, beyond.last_fingerprint DESC
            LIMIT 1
        ),
        -9223372036854775807
    )

-- shared: chunk_after
-- The chunk whose rows come first of all that are beyond the position, up to a time.
SELECT * FROM (
    SELECT
    {chunk_as_row}
    FROM chunk
    WHERE sensor = :sensor AND (last, last_fingerprint) > (:timestamp, :fingerprint)
    AND first <= :until AND {chunk_not_beyond_until}
    ORDER BY last, last_fingerprint
    LIMIT 1
) AS nearest

-- shared: chunk_after_as_export
SELECT * FROM (
    SELECT
        last, last_fingerprint, id, CAST(NULL AS bigint), CAST(NULL AS bigint), CAST(NULL AS text),
        CAST(NULL AS text), head, body, 0
    FROM chunk
    WHERE sensor = :sensor AND (last, last_fingerprint) > (:timestamp, :fingerprint)
    AND first <= :until
    ORDER BY last, last_fingerprint
    LIMIT 1
) AS nearest

-- shared: chunk_before
SELECT * FROM (
    SELECT
    {chunk_as_row}
    FROM chunk
    WHERE sensor = :sensor AND (first, first_fingerprint) < (:timestamp, :fingerprint)
    AND last >= :since AND {chunk_not_beyond_since}
    ORDER BY first DESC, first_fingerprint DESC
    LIMIT 1
) AS nearest

-- name: chunk_rows(sensor, start, end, limit, longest)
-- Rows from `start` to before `end`, with all that a chunk keeps of them, and how long values are.
SELECT
    id, sensor, timestamp, fingerprint, receipt_timestamp, revision, device_timestamp,
    CASE WHEN length(value) <= :longest THEN value END AS value, element_id, length(value) AS length
FROM measurement
WHERE sensor = :sensor AND timestamp >= :start AND timestamp < :end
ORDER BY timestamp, fingerprint
LIMIT :limit;

-- name: chunks_between(sensor, first, first_fingerprint, last, last_fingerprint, limit)
-- Chunks that have a place between two positions, oldest first.
SELECT
{chunk_as_row}
FROM chunk
WHERE sensor = :sensor
AND (last, last_fingerprint) >= (:first, :first_fingerprint)
AND (first, first_fingerprint) <= (:last, :last_fingerprint)
ORDER BY last, last_fingerprint
LIMIT :limit;

-- name: chunks_small(sensor, since, until, rows, bytes)
-- Chunks of fewer rows and bytes that end in a time, oldest first.
SELECT id, first, first_fingerprint, last, last_fingerprint, row_count
FROM chunk
WHERE sensor = :sensor AND last >= :since AND last < :until
AND row_count < :rows AND length(body) < :bytes
ORDER BY last, last_fingerprint;

-- shared: chunk_rows_between
WHERE sensor = :sensor
AND (timestamp, fingerprint) >= (:first, :first_fingerprint)
AND (timestamp, fingerprint) <= (:last, :last_fingerprint)
AND timestamp >= :first AND timestamp <= :last
AND id NOT IN ({numbers_wanted})

-- name: chunk_delete(id)
DELETE FROM chunk WHERE id = :id RETURNING id;

-- name: chunk_insert(sensor, first, first_fingerprint, last, last_fingerprint, row_count, first_id, last_id, head, body)
INSERT INTO chunk (
    sensor, first, first_fingerprint, last, last_fingerprint, row_count, first_id, last_id, head,
    body
)
VALUES (
    :sensor, :first, :first_fingerprint, :last, :last_fingerprint, :row_count, :first_id, :last_id,
    :head, :body
)
RETURNING id;

-- name: chunk_heads_before(sensor, timestamp, fingerprint, limit)
-- Newest first.
SELECT id, first, first_fingerprint, head
FROM chunk
WHERE sensor = :sensor AND (first, first_fingerprint) < (:timestamp, :fingerprint)
ORDER BY first DESC, first_fingerprint DESC
LIMIT :limit;

-- name: chunks_erase(sensor, limit)
DELETE FROM chunk
WHERE id IN (SELECT id FROM chunk WHERE sensor = :sensor ORDER BY first LIMIT :limit)
RETURNING 1;

-- name: packing_by_itself()$
-- Whether what is old is packed where the settings say nothing.
SELECT by_itself FROM packing_state;

-- name: packing_begin()
UPDATE packing_state SET by_itself = true WHERE NOT by_itself RETURNING id;

-- name: packing_sensors(after, limit)
-- Sensors of which old measurements may be packed.
SELECT sensor.number FROM sensor
JOIN network ON network.identifier = sensor.network_identifier
WHERE sensor.number > :after AND sensor.packing AND network.packing
ORDER BY sensor.number
LIMIT :limit;

-- name: packing_hot(limit)$
-- How many rows are not packed, up to the limit.
SELECT count(*) FROM (SELECT 1 FROM {measurement_keys} LIMIT :limit) AS hot;

-- name: packing_next(sensor, start, until, numbers)
-- The oldest row of the table in a range, but for those with these ids.
SELECT timestamp, id FROM {measurement_keys}
WHERE sensor = :sensor AND timestamp >= :start AND timestamp < :until
AND id NOT IN ({numbers_wanted})
ORDER BY timestamp
LIMIT 1;

-- name: packing_rows(sensor, start, end, limit)
-- How many rows there are between two times, not packed up to the limit, and packed.
SELECT
    (
        SELECT count(*)
        FROM (
            SELECT 1 FROM {measurement_keys}
            WHERE sensor = :sensor AND timestamp >= :start AND timestamp < :end
            LIMIT :limit
        ) AS hot
    ) + (
        SELECT CAST(coalesce(sum(row_count), 0) AS bigint)
        FROM chunk
        WHERE sensor = :sensor AND last >= :start AND last < :end + {longest_chunk} AND first < :end
    );

-- name: chunks_newest(before, limit)
SELECT id, sensor, head, body FROM chunk WHERE id < :before ORDER BY id DESC LIMIT :limit;

-- name: chunk_totals(sensor, timestamp, fingerprint, until)^
-- How many chunks have rows behind a position, up to a time; their rows, and when the last is.
SELECT count(*), CAST(sum(row_count) AS bigint), max(last)
FROM chunk
WHERE sensor = :sensor AND (last, last_fingerprint) > (:timestamp, :fingerprint)
AND first <= :until AND {chunk_not_beyond_until};

-- Of a chunk's ids the first and the last are known. How far they reach is of few classes, so that
-- in each those around an id are a range of an index; it has the same expression.

-- shared: id_reach
    CASE
        WHEN last_id - first_id < 8796093022208 THEN 0
        WHEN last_id - first_id < 562949953421312 THEN 1
        WHEN last_id - first_id < 9007199254740992 THEN 2
        ELSE 3
    END

-- shared: id_reaches
VALUES
    (0, 8796093022208), (1, 562949953421312), (2, 9007199254740992), (3, 9223372036854775807)

-- shared: packed_sums
    count(*), CAST(coalesce(sum(row_count), 0) AS bigint), min(first), max(last),
    CAST(coalesce(sum(length(head) + length(body)), 0) AS bigint)

-- name: packed_totals(networks)^
-- By sensor: a network's chunks are few beside all.
SELECT {packed_sums}
FROM sensor
CROSS JOIN chunk
WHERE chunk.sensor = sensor.number
AND (CAST(:networks AS text) IS NULL OR sensor.network_identifier IN ({networks}));

-- name: packed_totals_of(sensor)^
SELECT {packed_sums} FROM chunk WHERE sensor = :sensor;

-- name: packed_newest_id()
SELECT last_id FROM chunk ORDER BY last_id DESC LIMIT 1;

-- name: packed_around(id, networks, limit)
-- Chunks that have ids before this one, and it or others behind it.
WITH of_networks AS (SELECT number FROM sensor WHERE network_identifier IN ({networks})),
reaches (reach, length) AS (
    {id_reaches}
)
SELECT
    chunk.id, chunk.sensor, chunk.first_id, chunk.last_id, chunk.row_count, length(chunk.body)
FROM reaches
CROSS JOIN chunk
WHERE
{id_reach} = reaches.reach
AND chunk.first_id < :id AND chunk.first_id > CAST(:id AS bigint) - reaches.length
AND chunk.last_id >= :id
AND (CAST(:networks AS text) IS NULL OR chunk.sensor IN (SELECT number FROM of_networks))
LIMIT :limit;

-- name: packed_below(since, before, networks, limit)
-- Chunks by their last ids, the newest first; and whether they are of the networks.
WITH of_networks AS (SELECT number FROM sensor WHERE network_identifier IN ({networks}))
SELECT
    id, sensor, first_id, last_id, row_count, length(body),
    CASE
        WHEN CAST(:networks AS text) IS NULL THEN 1
        WHEN sensor IN (SELECT number FROM of_networks) THEN 1
        ELSE 0
    END
FROM chunk
WHERE last_id >= :since AND last_id < :before
ORDER BY last_id DESC
LIMIT :limit;

-- name: packed_of_sensor(sensor, since, before, below, limit)
-- Those of one sensor, the newest first.
SELECT id, sensor, first_id, last_id, row_count, length(body)
FROM chunk
WHERE sensor = :sensor AND last_id >= :since AND last_id < :below AND first_id < :before
ORDER BY last_id DESC
LIMIT :limit;

-- name: packed_shown_otherwise(names)
-- Which of these ids are those of packets: such a measurement is shown as its packet.
SELECT id FROM packet WHERE id IN ({named_ids});

-- name: packets_between(since, before)
SELECT 1 FROM packet WHERE id >= :since AND id < :before LIMIT 1;
