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
