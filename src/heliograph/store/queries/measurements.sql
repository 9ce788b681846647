-- shared: value_up_to_longest
    CASE WHEN {value_length} <= :longest THEN value END AS value, {value_length} AS length

-- shared: measurement_page
SELECT id, timestamp, fingerprint, receipt_timestamp, revision, {value_up_to_longest}
FROM measurement

-- shared: measurement_page_with_chunk
SELECT id, timestamp, fingerprint, receipt_timestamp, revision, {no_chunk}, {value_up_to_longest}
FROM measurement

-- name: measurements_after(sensor, timestamp, fingerprint, until, limit, longest)
-- Without the values that are longer, as in all queries that have `longest`. And the id of a chunk,
-- if one has rows beyond the position.
SELECT
    id, timestamp, fingerprint, receipt_timestamp, revision,
    (
        SELECT id
        FROM chunk
        WHERE sensor = :sensor AND (last, last_fingerprint) > (:timestamp, :fingerprint)
        AND first <= :until AND {chunk_not_beyond_until}
        LIMIT 1
    ) AS chunk,
    {value_up_to_longest}
FROM measurement
{page_after};

-- name: measurements_before(sensor, timestamp, fingerprint, since, limit, longest)
SELECT
    id, timestamp, fingerprint, receipt_timestamp, revision,
    (
        SELECT id
        FROM chunk
        WHERE sensor = :sensor AND (first, first_fingerprint) < (:timestamp, :fingerprint)
        AND last >= :since AND {chunk_not_beyond_since}
        LIMIT 1
    ) AS chunk,
    {value_up_to_longest}
FROM measurement
{page_before};

-- name: measurements_after_packed(sensor, timestamp, fingerprint, until, limit, longest)
-- The same, with a chunk, as of one moment: there may be rows in it that come before some of these.
SELECT * FROM (
    {measurement_page_with_chunk}
    {page_after}
) AS page
UNION ALL
{chunk_after};

-- name: measurements_before_packed(sensor, timestamp, fingerprint, since, limit, longest)
SELECT * FROM (
    {measurement_page_with_chunk}
    {page_before}
) AS page
UNION ALL
{chunk_before};

-- name: measurements_stretch(sensor, timestamp, fingerprint, until, limit, longest, heads)
-- Rows, and the heads of chunks, as of one moment.
SELECT * FROM (
    SELECT
        timestamp, fingerprint,
        CASE WHEN {value_length} <= :longest THEN value END AS value,
        {no_headed_chunk}, {value_length} AS length
    FROM measurement
    {page_after}
) AS page
UNION ALL
SELECT * FROM (
    SELECT
    {headed_chunk}
    FROM chunk
    WHERE sensor = :sensor AND (last, last_fingerprint) > (:timestamp, :fingerprint)
    AND first <= :until AND {chunk_not_beyond_until}
    ORDER BY last, last_fingerprint
    LIMIT :heads
) AS packed;

-- name: measurements_reach(sensor, start, end, rows)
-- A row if there are more than so many in the range.
SELECT 1
FROM {measurement_keys}
WHERE sensor = :sensor AND timestamp >= :start AND timestamp < :end
LIMIT 1 OFFSET :rows;

-- name: activity_sensors(network, limit)
SELECT number, identifier, sensor_name
FROM sensor
WHERE network_identifier = :network AND deleted_at IS NULL
ORDER BY number
LIMIT :limit;

-- The bounds on the sensor's number keep it to the sensors that were asked for.

-- shared: activity_wanted
    SELECT number FROM sensor
    WHERE network_identifier = :network AND deleted_at IS NULL
    AND number >= :first AND number <= :last

-- name: activity_counts(network, first, last, since, until, width)
-- Of rows how many a bucket has; and chunks: between which times they are, and how many rows they
-- have.
SELECT sensor, timestamp / :width AS begins, CAST(NULL AS bigint) AS ends, count(*)
FROM {measurement_keys}
WHERE sensor IN (
    {activity_wanted}
)
AND timestamp >= :since AND timestamp < :until
GROUP BY sensor, begins
UNION ALL
SELECT chunk.sensor, chunk.first, chunk.last, chunk.row_count
FROM (
    {activity_wanted}
) AS wanted
JOIN chunk ON chunk.sensor = wanted.number
WHERE chunk.last >= :since AND chunk.last < CAST(:until AS bigint) + {longest_chunk}
AND chunk.first < :until;
