-- name: sensor_by_number(number)^
SELECT
    number, identifier, network_identifier, device_id, key_hash, is_active, name,
    sensor_name, serial_number, manufacturer, model, modality, created_at, last_seen_at,
    last_measurement_at, status, status_at
FROM sensor
WHERE number = :number;

-- name: sensor_by_identifier(identifier)^
SELECT
    number, identifier, network_identifier, device_id, key_hash, is_active, name,
    sensor_name, serial_number, manufacturer, model, modality, created_at, last_seen_at,
    last_measurement_at, status, status_at
FROM sensor
WHERE identifier = :identifier;

-- name: sensor_by_device_id(device_id)^
SELECT
    number, identifier, network_identifier, device_id, key_hash, is_active, name,
    sensor_name, serial_number, manufacturer, model, modality, created_at, last_seen_at,
    last_measurement_at, status, status_at
FROM sensor
WHERE device_id = :device_id;

-- name: sensor_by_key_hash(key_hash)^
SELECT
    number, identifier, network_identifier, device_id, key_hash, is_active, name,
    sensor_name, serial_number, manufacturer, model, modality, created_at, last_seen_at,
    last_measurement_at, status, status_at
FROM sensor
WHERE key_hash = :key_hash;

-- name: sensors_load(after, limit)
SELECT
    number, identifier, network_identifier, device_id, key_hash, is_active, name,
    sensor_name, serial_number, manufacturer, model, modality, created_at, last_seen_at,
    last_measurement_at, status, status_at
FROM sensor
WHERE number > :after
ORDER BY number
LIMIT :limit;

-- name: sensors_changed_since(version)
SELECT
    number, identifier, network_identifier, device_id, key_hash, is_active, name,
    sensor_name, serial_number, manufacturer, model, modality, created_at, last_seen_at,
    last_measurement_at, status, status_at
FROM sensor
WHERE version > :version
ORDER BY version;

-- name: sensors_list(network_identifier, only_devices, offset, limit)
SELECT
    number, identifier, network_identifier, device_id, key_hash, is_active, name,
    sensor_name, serial_number, manufacturer, model, modality, created_at, last_seen_at,
    last_measurement_at, status, status_at
FROM sensor
WHERE (CAST(:network_identifier AS text) IS NULL OR network_identifier = :network_identifier)
AND (device_id IS NOT NULL OR NOT :only_devices)
ORDER BY number
LIMIT :limit OFFSET :offset;

-- name: sensors_count(network_identifier, only_devices)$
SELECT count(*)
FROM sensor
WHERE (CAST(:network_identifier AS text) IS NULL OR network_identifier = :network_identifier)
AND (device_id IS NOT NULL OR NOT :only_devices);

-- name: sensor_create(identifier, network_identifier, device_id, key_hash, name, sensor_name, serial_number, manufacturer, model, modality, created_at)^
INSERT INTO sensor (
    identifier, network_identifier, device_id, key_hash, name, sensor_name, serial_number,
    manufacturer, model, modality, created_at
)
VALUES (
    :identifier,
    coalesce(:network_identifier, (SELECT identifier FROM network WHERE name = 'default')),
    :device_id, :key_hash, :name, :sensor_name, :serial_number, :manufacturer, :model,
    :modality, :created_at
)
RETURNING
    number, identifier, network_identifier, device_id, key_hash, is_active, name,
    sensor_name, serial_number, manufacturer, model, modality, created_at, last_seen_at,
    last_measurement_at, status, status_at;

-- name: sensor_change(number, network_identifier, device_id, key_hash, is_active, name, sensor_name, serial_number, manufacturer, model, modality)^
UPDATE sensor
SET
    network_identifier = :network_identifier,
    device_id = :device_id,
    key_hash = :key_hash,
    is_active = :is_active,
    name = :name,
    sensor_name = :sensor_name,
    serial_number = :serial_number,
    manufacturer = :manufacturer,
    model = :model,
    modality = :modality
WHERE number = :number
RETURNING
    number, identifier, network_identifier, device_id, key_hash, is_active, name,
    sensor_name, serial_number, manufacturer, model, modality, created_at, last_seen_at,
    last_measurement_at, status, status_at;

-- name: registry_version()$
SELECT version FROM registry;
