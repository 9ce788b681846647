-- name: replay_index(after, until, limit)
-- What was received, in its order: which rows there are, and how large they are.
SELECT kind, id, sensor, size
FROM (
    SELECT kind, id, sensor, size
    FROM (
        SELECT 'measurement' AS kind, id, sensor, length(value) AS size
        FROM measurement WHERE id > :after AND id <= :until ORDER BY id LIMIT :limit
    ) AS measurements
    UNION ALL
    SELECT kind, id, sensor, size
    FROM (
        SELECT
            'log' AS kind, id, sensor, length(subject) + coalesce(length(details), 0) AS size
        FROM log WHERE id > :after AND id <= :until ORDER BY id LIMIT :limit
    ) AS logs
    UNION ALL
    SELECT kind, id, sensor, size
    FROM (
        SELECT 'heartbeat' AS kind, id, sensor, coalesce(length(details), 0) AS size
        FROM heartbeat WHERE id > :after AND id <= :until ORDER BY id LIMIT :limit
    ) AS heartbeats
) AS received
ORDER BY id
LIMIT :limit;

-- name: replay_measurements(first, last)
SELECT id, sensor, timestamp, fingerprint, receipt_timestamp, revision, device_timestamp, value
FROM measurement WHERE id >= :first AND id <= :last;

-- name: replay_logs(first, last)
SELECT
    id, sensor, timestamp, fingerprint, receipt_timestamp, revision, device_timestamp,
    severity, subject, details
FROM log WHERE id >= :first AND id <= :last;

-- name: replay_heartbeats(first, last)
SELECT
    id, sensor, timestamp, fingerprint, receipt_timestamp, revision, device_timestamp,
    success, details, unknown_revision
FROM heartbeat WHERE id >= :first AND id <= :last;
