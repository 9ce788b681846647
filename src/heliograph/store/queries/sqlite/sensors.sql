-- name: sensor_locked(number)^
-- The transaction is the only one that writes.
SELECT
    number, identifier, network_identifier, device_id, key_hash, is_active, name,
    sensor_name, serial_number, manufacturer, model, modality, created_at, last_seen_at,
    last_measurement_at, status, status_at
FROM sensor
WHERE number = :number;

-- name: sensor_attributes(numbers)
SELECT sensor, name FROM attribute WHERE sensor IN (SELECT value FROM json_each(:numbers));

-- name: sensors_touch(rows)!
UPDATE sensor
SET
    last_seen_at = max(coalesce(last_seen_at, touched.seen), touched.seen),
    last_measurement_at = coalesce(
        max(last_measurement_at, touched.measured), touched.measured, last_measurement_at
    )
FROM (
    SELECT
        json_extract(value, '$[0]') AS number,
        json_extract(value, '$[1]') AS seen,
        json_extract(value, '$[2]') AS measured
    FROM json_each(:rows)
) AS touched
WHERE sensor.number = touched.number;

-- name: statuses_store(rows)!
UPDATE sensor
SET status = stated.status, status_at = stated.receipt_timestamp
FROM (
    SELECT
        json_extract(value, '$[0]') AS number,
        json_extract(value, '$[1]') AS receipt_timestamp,
        json_extract(value, '$[2]') AS status
    FROM json_each(:rows)
) AS stated
WHERE sensor.number = stated.number
AND (status_at IS NULL OR status_at <= stated.receipt_timestamp);

-- name: attributes_store(rows)!
INSERT INTO attribute (sensor, name)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]')
FROM json_each(:rows)
WHERE true
ON CONFLICT (sensor, name) DO NOTHING;
