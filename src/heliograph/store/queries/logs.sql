-- name: logs_after(sensor, timestamp, fingerprint, until, limit)
SELECT id, timestamp, fingerprint, receipt_timestamp, revision, severity, subject, details
FROM log
{page_after};

-- name: logs_before(sensor, timestamp, fingerprint, since, limit)
SELECT id, timestamp, fingerprint, receipt_timestamp, revision, severity, subject, details
FROM log
{page_before};

-- name: logs_aggregates(sensor, start, end, rows, limit)
-- Of so many of the newest messages, so that a sensor that logs without end is no harm.
SELECT
    severity, subject, min(revision), max(revision), min(timestamp),
    max(timestamp) AS newest, count(*)
FROM (
    SELECT severity, subject, revision, timestamp
    FROM log
    WHERE sensor = :sensor AND timestamp >= :start AND timestamp < :end
    ORDER BY timestamp DESC, fingerprint DESC
    LIMIT :rows
) AS message
WHERE severity IN ('warning', 'error')
GROUP BY severity, subject
ORDER BY newest DESC, severity DESC, subject DESC
LIMIT :limit;
