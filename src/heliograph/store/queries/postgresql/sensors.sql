-- name: sensor_locked(number)^
SELECT
    number, identifier, network_identifier, device_id, key_hash, is_active, name,
    sensor_name, serial_number, manufacturer, model, modality, created_at, last_seen_at,
    last_measurement_at, status, status_at
FROM sensor
WHERE number = :number
FOR NO KEY UPDATE;

-- name: sensor_attributes(numbers)
SELECT sensor, name
FROM attribute
WHERE sensor IN (
    SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:numbers AS json))
);

-- name: sensors_touch(rows)!
-- Rows are locked in their order first, as by everyone who locks several: no deadlocks.
WITH touched AS MATERIALIZED (
    SELECT
        CAST(value ->> 0 AS bigint) AS number,
        CAST(value ->> 1 AS bigint) AS seen,
        CAST(value ->> 2 AS bigint) AS measured
    FROM json_array_elements(CAST(:rows AS json))
),
locked AS MATERIALIZED (
    SELECT number FROM sensor WHERE number IN (SELECT number FROM touched)
    ORDER BY number
    FOR NO KEY UPDATE
)
UPDATE sensor
SET
    last_seen_at = greatest(last_seen_at, touched.seen),
    last_measurement_at = greatest(last_measurement_at, touched.measured)
FROM touched, locked
WHERE sensor.number = touched.number AND locked.number = touched.number;

-- name: statuses_store(rows)!
WITH stated AS MATERIALIZED (
    SELECT
        CAST(value ->> 0 AS bigint) AS number,
        CAST(value ->> 1 AS bigint) AS receipt_timestamp,
        value ->> 2 AS status
    FROM json_array_elements(CAST(:rows AS json))
),
locked AS MATERIALIZED (
    SELECT number FROM sensor WHERE number IN (SELECT number FROM stated)
    ORDER BY number
    FOR NO KEY UPDATE
)
UPDATE sensor
SET status = stated.status, status_at = stated.receipt_timestamp
FROM stated, locked
WHERE sensor.number = stated.number AND locked.number = stated.number
AND (status_at IS NULL OR status_at <= stated.receipt_timestamp);

-- name: attributes_store(rows)!
INSERT INTO attribute (sensor, name)
SELECT CAST(value ->> 0 AS bigint), value ->> 1
FROM json_array_elements(CAST(:rows AS json))
ORDER BY 1, 2
ON CONFLICT (sensor, name) DO NOTHING;
