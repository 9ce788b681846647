-- name: measurements_newest(sensors, now, longest)
-- The newest row of each together with the names of all attributes: one query for the usual case.
SELECT
    wanted.sensor,
    (SELECT CAST(json_agg(name) AS text) FROM attribute WHERE attribute.sensor = wanted.sensor),
    newest.id, newest.timestamp, newest.fingerprint, newest.receipt_timestamp, newest.revision,
    newest.value, newest.length
FROM (
    SELECT CAST(value AS bigint) AS sensor FROM json_array_elements_text(CAST(:sensors AS json))
) AS wanted
CROSS JOIN LATERAL (
    {measurement_page}
    WHERE measurement.sensor = wanted.sensor AND {not_beyond}
    ORDER BY timestamp DESC, fingerprint DESC
    LIMIT 1
) AS newest;

-- name: measurements_newest_few(sensors, now, count, longest)
-- So many of the newest rows of each, newest first.
SELECT
    wanted.sensor, newest.id, newest.timestamp, newest.fingerprint, newest.receipt_timestamp,
    newest.revision, newest.value, newest.length
FROM (
    SELECT CAST(value AS bigint) AS sensor FROM json_array_elements_text(CAST(:sensors AS json))
) AS wanted
CROSS JOIN LATERAL (
    {measurement_page}
    WHERE measurement.sensor = wanted.sensor AND {not_beyond}
    ORDER BY timestamp DESC, fingerprint DESC
    LIMIT :count
) AS newest
ORDER BY wanted.sensor, newest.timestamp DESC, newest.fingerprint DESC;

-- name: measurements_containing(sensor, timestamp, fingerprint, text, limit, longest)
{measurement_page}
WHERE sensor = :sensor AND (timestamp, fingerprint) < (:timestamp, :fingerprint)
AND timestamp <= :timestamp AND strpos(value, :text) > 0
ORDER BY timestamp DESC, fingerprint DESC
LIMIT :limit;

-- name: measurements_without_members(sensor, timestamp, fingerprint, limit, longest)
{measurement_page}
WHERE sensor = :sensor AND (timestamp, fingerprint) < (:timestamp, :fingerprint)
AND timestamp <= :timestamp AND substr(value, 1, 1) <> '{'
ORDER BY timestamp DESC, fingerprint DESC
LIMIT :limit;

-- name: measurements_packed(sensor, timestamp, fingerprint, until, limit, longest)
-- Many rows in one, as lists: making an object of each takes longer than finding them, and holds
-- the interpreter. A subquery's rows come in its order. Values that are longer are missing. The last
-- column tells whether there may be rows in chunks as well.
SELECT
    count(*), string_agg(CAST(timestamp AS text), ','),
    string_agg(CAST(fingerprint AS text), ','),
    string_agg(CASE WHEN length(value) <= :longest THEN value END, ','), max(length(value)),
    (
        SELECT 1 FROM chunk
        WHERE sensor = :sensor AND (last, last_fingerprint) > (:timestamp, :fingerprint)
        AND first <= :until AND {chunk_not_beyond_until}
        LIMIT 1
    )
FROM (
    SELECT timestamp, fingerprint, value
    FROM measurement
    {page_after}
) AS found;

-- name: measurements_named(sensor, keys, longest)
-- Those with these keys: a list of [timestamp, fingerprint].
SELECT id, timestamp, fingerprint, receipt_timestamp, revision, {value_up_to_longest}
FROM jsonb_array_elements(CAST(:keys AS jsonb)) AS wanted (key)
JOIN measurement
ON timestamp = CAST(key ->> 0 AS bigint) AND fingerprint = CAST(key ->> 1 AS bigint)
WHERE sensor = :sensor
ORDER BY timestamp, fingerprint;

-- name: measurements_stretches(spans, limit, longest, heads)
-- The same of several spans, in no order.
SELECT * FROM (
    SELECT
        found.timestamp, found.fingerprint,
        CASE WHEN octet_length(found.value) <= :longest THEN found.value END AS value,
        {no_headed_chunk}, octet_length(found.value) AS length
    FROM jsonb_array_elements(CAST(:spans AS jsonb)) AS wanted (span)
    CROSS JOIN LATERAL (
        SELECT timestamp, fingerprint, value
        FROM measurement
        WHERE sensor = CAST(wanted.span ->> 0 AS bigint)
        AND timestamp >= CAST(wanted.span ->> 1 AS bigint)
        AND timestamp < CAST(wanted.span ->> 2 AS bigint)
        OFFSET 0
    ) AS found
    LIMIT :limit
) AS hot
UNION ALL
SELECT * FROM (
    SELECT
    {headed_chunk}
    FROM chunk
    WHERE chunk.id IN (
        SELECT found.id
        FROM jsonb_array_elements(CAST(:spans AS jsonb)) AS wanted (span)
        CROSS JOIN LATERAL (
            SELECT id
            FROM chunk
            WHERE sensor = CAST(wanted.span ->> 0 AS bigint)
            AND first >= CAST(wanted.span ->> 1 AS bigint)
            AND first < CAST(wanted.span ->> 2 AS bigint)
            OFFSET 0
        ) AS found
        UNION ALL
        -- They do not overlap: of those that begin before, the nearest alone may reach into it.
        SELECT nearest.id
        FROM jsonb_array_elements(CAST(:spans AS jsonb)) AS wanted (span)
        CROSS JOIN LATERAL (
            SELECT id
            FROM chunk
            WHERE sensor = CAST(wanted.span ->> 0 AS bigint)
            AND first < CAST(wanted.span ->> 1 AS bigint)
            ORDER BY first DESC, first_fingerprint DESC
            LIMIT 1
        ) AS nearest
    )
    LIMIT :heads
) AS packed;
