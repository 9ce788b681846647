-- name: measurements_newest(sensor)
-- The newest row together with the names of all attributes: one query for the usual case.
SELECT
    id, timestamp, fingerprint, receipt_timestamp, revision, value,
    (SELECT CAST(json_agg(name) AS text) FROM attribute WHERE sensor = :sensor)
FROM measurement
WHERE sensor = :sensor
ORDER BY timestamp DESC, fingerprint DESC
LIMIT 1;

-- name: measurements_containing(sensor, timestamp, fingerprint, text, limit)
SELECT id, timestamp, fingerprint, receipt_timestamp, revision, value
FROM measurement
WHERE sensor = :sensor AND (timestamp, fingerprint) < (:timestamp, :fingerprint)
AND timestamp <= :timestamp AND strpos(value, :text) > 0
ORDER BY timestamp DESC, fingerprint DESC
LIMIT :limit;

-- name: measurements_without_members(sensor, timestamp, fingerprint, limit)
SELECT id, timestamp, fingerprint, receipt_timestamp, revision, value
FROM measurement
WHERE sensor = :sensor AND (timestamp, fingerprint) < (:timestamp, :fingerprint)
AND timestamp <= :timestamp AND substr(value, 1, 1) <> '{'
ORDER BY timestamp DESC, fingerprint DESC
LIMIT :limit;
