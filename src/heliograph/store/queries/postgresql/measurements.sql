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
-- the interpreter. A subquery's rows come in its order. Values that are longer are missing.
SELECT
    count(*), string_agg(CAST(timestamp AS text), ','),
    string_agg(CAST(fingerprint AS text), ','),
    string_agg(CASE WHEN length(value) <= :longest THEN value END, ','), max(length(value))
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
