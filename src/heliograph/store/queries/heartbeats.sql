-- name: heartbeats_after(sensor, timestamp, fingerprint, until, limit)
SELECT
    id, timestamp, fingerprint, receipt_timestamp, revision, success, details, unknown_revision
FROM heartbeat
WHERE sensor = :sensor AND (timestamp, fingerprint) > (:timestamp, :fingerprint)
AND timestamp >= :timestamp AND timestamp <= :until
ORDER BY timestamp, fingerprint
LIMIT :limit;

-- name: heartbeats_before(sensor, timestamp, fingerprint, since, limit)
SELECT
    id, timestamp, fingerprint, receipt_timestamp, revision, success, details, unknown_revision
FROM heartbeat
WHERE sensor = :sensor AND (timestamp, fingerprint) < (:timestamp, :fingerprint)
AND timestamp <= :timestamp AND timestamp >= :since
ORDER BY timestamp DESC, fingerprint DESC
LIMIT :limit;
