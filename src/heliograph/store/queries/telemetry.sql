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

-- shared: details_up_to_longest
    CASE WHEN {details_length} <= :longest THEN details END AS details

-- shared: heartbeat_page
SELECT
    id, timestamp, fingerprint, receipt_timestamp, revision, success, {details_up_to_longest},
    unknown_revision, {details_length} AS length
FROM heartbeat

-- name: heartbeats_after(sensor, timestamp, fingerprint, until, limit, longest)
{heartbeat_page}
{page_after};

-- name: heartbeats_before(sensor, timestamp, fingerprint, since, limit, longest)
{heartbeat_page}
{page_before};

-- shared: packet_page
SELECT
    id, timestamp, fingerprint, receipt_timestamp,
    CASE WHEN {packet_length} <= :longest THEN payload END AS payload,
    {packet_length} AS length
FROM packet

-- name: packets_after(sensor, timestamp, fingerprint, until, limit, longest)
{packet_page}
{page_after};

-- name: packets_before(sensor, timestamp, fingerprint, since, limit, longest)
{packet_page}
{page_before};

-- name: exports_sensors(network, after, limit)
SELECT number, identifier, device_id
FROM sensor
WHERE number > :after AND deleted_at IS NULL
AND (CAST(:network AS text) IS NULL OR network_identifier = :network)
ORDER BY number
LIMIT :limit;

-- name: exports_measurement(sensor, timestamp, fingerprint, until, limit, longest)
-- With a chunk, as pages.
SELECT * FROM (
    SELECT
        timestamp, fingerprint, receipt_timestamp, revision, device_timestamp,
        CASE WHEN {value_length} <= :longest THEN value END AS value, element_id,
        {no_chunk}, {value_length} AS length
    FROM measurement
    {page_after}
) AS page
UNION ALL
{chunk_after_as_export};

-- name: exports_log(sensor, timestamp, fingerprint, until, limit, longest)
SELECT
    timestamp, fingerprint, receipt_timestamp, revision, device_timestamp, severity,
    {log_texts_up_to_longest},
    element_id, {log_length} AS length
FROM log
{page_after};

-- name: exports_heartbeat(sensor, timestamp, fingerprint, until, limit, longest)
SELECT
    timestamp, fingerprint, receipt_timestamp, revision, device_timestamp, success,
    {details_up_to_longest},
    element_id, {details_length} AS length
FROM heartbeat
{page_after};

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

-- shared: measurements_by_id
SELECT id, sensor, timestamp, fingerprint, receipt_timestamp, revision, device_timestamp, value
FROM measurement WHERE id >= :first AND id <= :last

-- name: replay_measurements(first, last)
{measurements_by_id};

-- shared: logs_by_id
SELECT
    id, sensor, timestamp, fingerprint, receipt_timestamp, revision, device_timestamp,
    severity, subject, details
FROM log WHERE id >= :first AND id <= :last

-- name: replay_logs(first, last)
{logs_by_id};

-- shared: heartbeats_by_id
SELECT
    id, sensor, timestamp, fingerprint, receipt_timestamp, revision, device_timestamp,
    success, details, unknown_revision
FROM heartbeat WHERE id >= :first AND id <= :last

-- name: replay_heartbeats(first, last)
{heartbeats_by_id};

-- name: rejected_list(before, limit, sensor, sender, reason)
SELECT
    id, receipt_timestamp, sensor, principal, source, payload, size, reason, detail, indexes
FROM rejected_message
WHERE id < :before
AND (
    CAST(:sender AS text) IS NULL
    OR source = :sender
    OR sensor = :sensor
    OR principal IN (
        :sender, 'device:' || :sender, 'user:' || :sender, 'shared:' || :sender,
        'broker:' || :sender
    )
)
AND (CAST(:reason AS text) IS NULL OR reason = :reason)
ORDER BY id DESC
LIMIT :limit;

-- name: rejected_totals()^
SELECT count(*), CAST(coalesce(sum(length(payload)), 0) AS bigint) FROM rejected_message;

-- name: rejected_prune(before, limit)
DELETE FROM rejected_message
WHERE id IN (
    SELECT id FROM rejected_message
    WHERE receipt_timestamp < :before
    ORDER BY receipt_timestamp
    LIMIT :limit
)
RETURNING id;

-- name: deliveries_prune(now, limit)
DELETE FROM delivery
WHERE key IN (
    SELECT key FROM delivery WHERE expiry <= :now ORDER BY expiry LIMIT :limit
)
RETURNING id;
