-- name: exports_sensors(network, after, limit)
SELECT number, identifier, device_id
FROM sensor
WHERE number > :after AND deleted_at IS NULL
AND (CAST(:network AS text) IS NULL OR network_identifier = :network)
ORDER BY number
LIMIT :limit;

-- name: exports_measurement(sensor, timestamp, fingerprint, until, limit, longest)
SELECT
    timestamp, fingerprint, receipt_timestamp, revision, device_timestamp,
    CASE WHEN {value_length} <= :longest THEN value END AS value, element_id,
    {value_length} AS length
FROM measurement
{page_after};

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
