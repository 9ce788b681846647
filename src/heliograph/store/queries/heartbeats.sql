-- name: heartbeats_after(sensor, timestamp, fingerprint, until, limit)
SELECT
    id, timestamp, fingerprint, receipt_timestamp, revision, success, details, unknown_revision
FROM heartbeat
{page_after};

-- name: heartbeats_before(sensor, timestamp, fingerprint, since, limit)
SELECT
    id, timestamp, fingerprint, receipt_timestamp, revision, success, details, unknown_revision
FROM heartbeat
{page_before};
