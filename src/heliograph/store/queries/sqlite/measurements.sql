-- name: measurements_newest(sensors, now, longest)
-- The newest row of each together with the names of all attributes: one query for the usual case.
SELECT
    newest.sensor,
    (SELECT json_group_array(name) FROM attribute WHERE attribute.sensor = newest.sensor),
    newest.id, newest.timestamp, newest.fingerprint, newest.receipt_timestamp, newest.revision,
    CASE WHEN length(newest.value) <= :longest THEN newest.value END, length(newest.value)
FROM json_each(:sensors) AS wanted
CROSS JOIN measurement AS newest ON newest.id = (
    SELECT id FROM measurement
    WHERE sensor = wanted.value AND {not_beyond}
    ORDER BY timestamp DESC, fingerprint DESC
    LIMIT 1
);

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
-- the interpreter. A subquery's rows come in its order. Values that are longer are missing.
SELECT
    count(*), group_concat(timestamp), group_concat(fingerprint),
    group_concat(CASE WHEN length(value) <= :longest THEN value END), max(length(value))
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
