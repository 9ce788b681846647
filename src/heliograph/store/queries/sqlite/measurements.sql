-- name: measurements_newest(sensors, now, longest)
-- The newest row of each together with the names of all attributes: one query for the usual case.
SELECT
    newest.sensor,
    (SELECT json_group_array(name) FROM attribute WHERE attribute.sensor = newest.sensor),
    newest.id, newest.timestamp, newest.fingerprint, newest.receipt_timestamp, newest.revision,
    CASE WHEN length(newest.value) <= :longest THEN newest.value END, length(newest.value)
FROM json_each(:sensors) AS wanted
CROSS JOIN measurement_row AS newest ON newest.id = (
    SELECT id FROM measurement
    WHERE sensor = wanted.value AND {not_beyond}
    ORDER BY timestamp DESC, fingerprint DESC
    LIMIT 1
);

-- name: measurements_newest_few(sensors, now, count, longest)
-- So many of the newest rows of each, newest first.
SELECT
    newest.sensor, newest.id, newest.timestamp, newest.fingerprint, newest.receipt_timestamp,
    newest.revision, CASE WHEN length(newest.value) <= :longest THEN newest.value END,
    length(newest.value)
FROM json_each(:sensors) AS wanted
CROSS JOIN measurement_row AS newest ON newest.id IN (
    SELECT id FROM measurement
    WHERE sensor = wanted.value AND {not_beyond}
    ORDER BY timestamp DESC, fingerprint DESC
    LIMIT :count
)
ORDER BY newest.sensor, newest.timestamp DESC, newest.fingerprint DESC;

-- name: measurements_containing(sensor, timestamp, fingerprint, text, limit, longest)
{measurement_page}
WHERE sensor = :sensor AND (timestamp, fingerprint) < (:timestamp, :fingerprint)
AND instr(value, :text) > 0
ORDER BY timestamp DESC, fingerprint DESC
LIMIT :limit;

-- name: measurements_without_members(sensor, timestamp, fingerprint, limit, longest)
{measurement_page}
WHERE sensor = :sensor AND (timestamp, fingerprint) < (:timestamp, :fingerprint)
AND substr(value, 1, 1) <> '{'
ORDER BY timestamp DESC, fingerprint DESC
LIMIT :limit;

-- name: measurements_packed(sensor, timestamp, fingerprint, until, limit, longest)
-- Many rows in one, as lists: making an object of each takes longer than finding them, and holds
-- the interpreter. A subquery's rows come in its order. Values that are longer are missing. The last
-- column tells whether there may be rows in chunks as well.
SELECT
    count(*), group_concat(timestamp), group_concat(fingerprint),
    group_concat(CASE WHEN length(value) <= :longest THEN value END), max(length(value)),
    (
        SELECT 1 FROM chunk
        WHERE sensor = :sensor AND (last, last_fingerprint) > (:timestamp, :fingerprint)
        AND first <= :until AND {chunk_not_beyond_until}
        LIMIT 1
    )
FROM (
    SELECT timestamp, fingerprint, value
    FROM measurement
    WHERE sensor = :sensor AND (timestamp, fingerprint) > (:timestamp, :fingerprint)
    AND timestamp <= :until
    ORDER BY timestamp, fingerprint
    LIMIT :limit
);

-- name: measurements_named(sensor, keys, longest)
-- Those with these keys: a list of [timestamp, fingerprint].
WITH wanted (wanted_timestamp, wanted_fingerprint) AS (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:keys)
)
SELECT id, timestamp, fingerprint, receipt_timestamp, revision, {value_up_to_longest}
FROM wanted
CROSS JOIN measurement
ON sensor = :sensor AND timestamp = wanted_timestamp AND fingerprint = wanted_fingerprint
ORDER BY timestamp, fingerprint;

-- name: measurements_stretches(spans, limit, longest, heads)
-- The same of several spans, in no order.
SELECT * FROM (
    SELECT
        measurement.timestamp, measurement.fingerprint,
        CASE WHEN length(measurement.value) <= :longest THEN measurement.value END AS value,
        {no_headed_chunk}, length(measurement.value) AS length
    FROM json_each(:spans) AS wanted
    CROSS JOIN measurement
    WHERE measurement.sensor = json_extract(wanted.value, '$[0]')
    AND measurement.timestamp >= json_extract(wanted.value, '$[1]')
    AND measurement.timestamp < json_extract(wanted.value, '$[2]')
    LIMIT :limit
) AS hot
UNION ALL
SELECT * FROM (
    SELECT
    {headed_chunk}
    FROM chunk
    WHERE chunk.id IN (
        SELECT found.id
        FROM json_each(:spans) AS wanted
        CROSS JOIN chunk AS found
        WHERE found.sensor = json_extract(wanted.value, '$[0]')
        AND found.first >= json_extract(wanted.value, '$[1]')
        AND found.first < json_extract(wanted.value, '$[2]')
        UNION ALL
        -- They do not overlap: of those that begin before, the nearest alone may reach into it.
        SELECT (
            SELECT id
            FROM chunk
            WHERE sensor = json_extract(wanted.value, '$[0]')
            AND first < json_extract(wanted.value, '$[1]')
            ORDER BY first DESC, first_fingerprint DESC
            LIMIT 1
        )
        FROM json_each(:spans) AS wanted
    )
    LIMIT :heads
) AS packed;
