-- name: measurements_after(sensor, timestamp, fingerprint, until, limit)
-- The second bound on timestamp repeats the first for PostgreSQL, which prunes partitions by
-- it and not by the comparison of rows.
SELECT id, timestamp, fingerprint, receipt_timestamp, revision, value
FROM measurement
WHERE sensor = :sensor AND (timestamp, fingerprint) > (:timestamp, :fingerprint)
AND timestamp >= :timestamp AND timestamp <= :until
ORDER BY timestamp, fingerprint
LIMIT :limit;

-- name: measurements_before(sensor, timestamp, fingerprint, since, limit)
SELECT id, timestamp, fingerprint, receipt_timestamp, revision, value
FROM measurement
WHERE sensor = :sensor AND (timestamp, fingerprint) < (:timestamp, :fingerprint)
AND timestamp <= :timestamp AND timestamp >= :since
ORDER BY timestamp DESC, fingerprint DESC
LIMIT :limit;

-- name: measurements_values(sensor, timestamp, fingerprint, until, limit, longest)
-- Without the values that are longer.
SELECT timestamp, fingerprint, CASE WHEN length(value) <= :longest THEN value END AS value
FROM measurement
WHERE sensor = :sensor AND (timestamp, fingerprint) > (:timestamp, :fingerprint)
AND timestamp >= :timestamp AND timestamp <= :until
ORDER BY timestamp, fingerprint
LIMIT :limit;

-- name: measurements_reach(sensor, start, end, rows)
-- A row if there are more than so many in the range.
SELECT 1
FROM measurement
WHERE sensor = :sensor AND timestamp >= :start AND timestamp < :end
LIMIT 1 OFFSET :rows;
