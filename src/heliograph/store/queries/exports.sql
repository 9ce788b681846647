-- name: exports_sensors(network, after, limit)
SELECT number, identifier, device_id
FROM sensor
WHERE number > :after AND deleted_at IS NULL
AND (CAST(:network AS text) IS NULL OR network_identifier = :network)
ORDER BY number
LIMIT :limit;

-- name: exports_measurement(sensor, timestamp, fingerprint, until, limit)
SELECT timestamp, fingerprint, receipt_timestamp, revision, device_timestamp, value, element_id
FROM measurement
{page_after};

-- name: exports_log(sensor, timestamp, fingerprint, until, limit)
SELECT
    timestamp, fingerprint, receipt_timestamp, revision, device_timestamp, severity, subject,
    details, element_id
FROM log
{page_after};

-- name: exports_heartbeat(sensor, timestamp, fingerprint, until, limit)
SELECT
    timestamp, fingerprint, receipt_timestamp, revision, device_timestamp, success, details,
    element_id
FROM heartbeat
{page_after};
