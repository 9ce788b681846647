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

-- name: logs_aggregates(sensor, start, end, rows, limit, longest)
-- Of so many of the newest messages, so that a sensor that logs without end is no harm; and so many
-- of the newest subjects as are not longer together.
SELECT
    severity, subject, oldest_revision, newest_revision, oldest, newest, messages, subjects
FROM (
    SELECT
        severity, subject, oldest_revision, newest_revision, oldest, newest, messages,
        count(*) OVER () AS subjects,
        sum({subject_length}) OVER (
            ORDER BY newest DESC, severity DESC, subject DESC
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS length
    FROM (
        SELECT
            severity, subject, min(revision) AS oldest_revision,
            max(revision) AS newest_revision, min(timestamp) AS oldest,
            max(timestamp) AS newest, count(*) AS messages
        FROM (
            SELECT severity, subject, revision, timestamp
            FROM log
            WHERE sensor = :sensor AND timestamp >= :start AND timestamp < :end
            ORDER BY timestamp DESC, fingerprint DESC
            LIMIT :rows
        ) AS message
        WHERE severity IN ('warning', 'error')
        GROUP BY severity, subject
    ) AS aggregate
) AS measured
WHERE length <= :longest
ORDER BY newest DESC, severity DESC, subject DESC
LIMIT :limit;
