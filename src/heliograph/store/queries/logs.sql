-- shared: log_texts_up_to_longest
    CASE WHEN {log_length} <= :longest THEN subject END AS subject,
    CASE WHEN {log_length} <= :longest THEN details END AS details

-- shared: log_page
SELECT
    id, timestamp, fingerprint, receipt_timestamp, revision, severity,
    {log_texts_up_to_longest},
    {log_length} AS length
FROM log

-- name: logs_after(sensor, timestamp, fingerprint, until, limit, longest)
{log_page}
{page_after};

-- name: logs_before(sensor, timestamp, fingerprint, since, limit, longest)
{log_page}
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
