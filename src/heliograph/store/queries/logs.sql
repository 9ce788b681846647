-- name: logs_after(sensor, timestamp, fingerprint, until, limit)
SELECT id, timestamp, fingerprint, receipt_timestamp, revision, severity, subject, details
FROM log
WHERE sensor = :sensor AND (timestamp, fingerprint) > (:timestamp, :fingerprint)
AND timestamp >= :timestamp AND timestamp <= :until
ORDER BY timestamp, fingerprint
LIMIT :limit;

-- name: logs_before(sensor, timestamp, fingerprint, since, limit)
SELECT id, timestamp, fingerprint, receipt_timestamp, revision, severity, subject, details
FROM log
WHERE sensor = :sensor AND (timestamp, fingerprint) < (:timestamp, :fingerprint)
AND timestamp <= :timestamp AND timestamp >= :since
ORDER BY timestamp DESC, fingerprint DESC
LIMIT :limit;
