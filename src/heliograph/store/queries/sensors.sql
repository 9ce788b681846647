-- shared: sensor_columns
    number, identifier, network_identifier, device_id, key_hash, is_active, name, sensor_name,
    serial_number, manufacturer, model, modality, created_at, last_seen_at, last_measurement_at,
    status, status_at, node_identifier, expected_interval, deleted_at, status_since,
    status_by_broker, connection_open, connection_at, tags, attribute_labels, latitude, longitude,
    place, packing

-- shared: sensors_wanted
FROM sensor
WHERE {sensors_which}

-- shared: sensors_which
deleted_at IS NULL
AND (CAST(:networks AS text) IS NULL OR network_identifier IN ({networks}))
AND (device_id IS NOT NULL OR NOT :only_devices)
AND (CAST(:serial_number AS text) IS NULL OR serial_number = :serial_number)
AND (CAST(:manufacturer AS text) IS NULL OR manufacturer = :manufacturer)
AND (CAST(:model AS text) IS NULL OR model = :model)
AND (CAST(:modality AS text) IS NULL OR modality = :modality)
AND (CAST(:node_identifier AS text) IS NULL OR node_identifier = :node_identifier)
AND (CAST(:tags AS text) IS NULL OR {sensors_tagged})

-- name: sensors_list(networks, only_devices, serial_number, manufacturer, model, modality, node_identifier, tags, offset, limit)
SELECT {sensor_columns}
{sensors_wanted}
ORDER BY number
LIMIT :limit OFFSET :offset;

-- name: sensors_count(networks, only_devices, serial_number, manufacturer, model, modality, node_identifier, tags)$
SELECT count(*) {sensors_wanted};

-- Sensors with what memory knows of them that is written later: `open` are connected, `gone` were
-- until then, `noted` were seen, and measured something, since. A time from beyond the moment by
-- more than a minute is none: only a clock that was ahead can have told it. Each part is made as a
-- whole: else SQLite compares row by row, without an index.

-- shared: sensors_as_of_now
WITH noted AS MATERIALIZED (
    {sensors_noted}
),
gone AS MATERIALIZED (
    {sensors_gone}
),
known AS MATERIALIZED (
    SELECT
        sensor.*,
        sensor.number IN ({sensors_open})
        OR (connection_open AND gone.number IS NULL AND NOT CAST(:alone AS boolean)) AS is_open,
        coalesce(gone.at, connection_at) AS ended_at,
        CASE
            WHEN last_seen_at > CAST(:moment AS bigint) + 60000000
            OR noted.seen > coalesce(last_seen_at, 0)
            THEN noted.seen
            ELSE last_seen_at
        END AS seen_at,
        CASE
            WHEN last_measurement_at > CAST(:moment AS bigint) + 60000000
            OR noted.measured > coalesce(last_measurement_at, 0)
            THEN noted.measured
            ELSE last_measurement_at
        END AS measured_at
    FROM sensor
    LEFT JOIN noted ON noted.number = sensor.number
    LEFT JOIN gone ON gone.number = sensor.number
),
wanted AS (
    SELECT
        known.*,
        -- As `presence` and `is_late` tell it; what nobody knows is neither.
        coalesce(
            is_open OR (
                is_active AND status = 'online'
                AND (status_by_broker OR ended_at IS NULL OR status_at > ended_at)
            ),
            false
        ) AS is_connected,
        coalesce(
            is_active
            AND CAST(:moment AS bigint) - coalesce(seen_at, created_at) > expected_interval,
            false
        ) AS is_late
    FROM known
)

-- shared: sensors_narrowed
FROM wanted
WHERE {sensors_which}
AND (CAST(:connected AS boolean) IS NULL OR is_connected = CAST(:connected AS boolean))
AND (CAST(:late AS boolean) IS NULL OR is_late = CAST(:late AS boolean))
AND (
    CAST(:text AS text) IS NULL
    OR lower(identifier) LIKE lower(:text) ESCAPE '!'
    OR lower(device_id) LIKE lower(:text) ESCAPE '!'
    OR lower(sensor_name) LIKE lower(:text) ESCAPE '!'
    OR lower(name) LIKE lower(:text) ESCAPE '!'
    OR lower(serial_number) LIKE lower(:text) ESCAPE '!'
    OR lower(manufacturer) LIKE lower(:text) ESCAPE '!'
    OR lower(model) LIKE lower(:text) ESCAPE '!'
    OR lower(modality) LIKE lower(:text) ESCAPE '!'
)

-- shared: sensors_word
CASE CAST(:sort AS text)
    WHEN 'device_id' THEN lower(device_id COLLATE {binary})
    WHEN 'sensor_name' THEN lower(sensor_name COLLATE {binary})
    WHEN 'name' THEN lower(name COLLATE {binary})
    WHEN 'serial_number' THEN lower(serial_number COLLATE {binary})
    WHEN 'manufacturer' THEN lower(manufacturer COLLATE {binary})
    WHEN 'model' THEN lower(model COLLATE {binary})
    WHEN 'modality' THEN lower(modality COLLATE {binary})
END

-- shared: sensors_time
CASE CAST(:sort AS text)
    WHEN 'created_at' THEN created_at
    WHEN 'last_seen_at' THEN seen_at
    WHEN 'last_measurement_at' THEN measured_at
END

-- name: sensors_narrowed_list(networks, only_devices, serial_number, manufacturer, model, modality, node_identifier, tags, text, connected, late, open, alone, gone, noted, moment, sort, descending, offset, limit)
-- Those without a word or time to go by come last either way.
{sensors_as_of_now},
placed AS (
    SELECT wanted.*, {sensors_word} AS word, {sensors_time} AS time
    {sensors_narrowed}
)
SELECT {sensor_columns}
FROM placed
ORDER BY
    word IS NULL AND time IS NULL,
    CASE WHEN NOT CAST(:descending AS boolean) THEN word END,
    CASE WHEN NOT CAST(:descending AS boolean) THEN time END,
    CASE WHEN CAST(:descending AS boolean) THEN word END DESC,
    CASE WHEN CAST(:descending AS boolean) THEN time END DESC,
    number
LIMIT :limit OFFSET :offset;

-- name: sensors_narrowed_count(networks, only_devices, serial_number, manufacturer, model, modality, node_identifier, tags, text, connected, late, open, alone, gone, noted, moment)$
{sensors_as_of_now}
SELECT count(*) {sensors_narrowed};

-- name: sensor_by_number(number)^
SELECT {sensor_columns}
FROM sensor
WHERE number = :number;

-- name: sensor_by_identifier(identifier)^
SELECT {sensor_columns}
FROM sensor
WHERE identifier = :identifier;

-- name: sensor_by_device_id(device_id)^
SELECT {sensor_columns}
FROM sensor
WHERE device_id = :device_id;

-- name: sensor_by_key_hash(key_hash)^
SELECT {sensor_columns}
FROM sensor
WHERE key_hash = :key_hash;

-- name: sensors_load(after, limit)
SELECT {sensor_columns}
FROM sensor
WHERE number > :after
ORDER BY number
LIMIT :limit;

-- name: sensors_changed_since(version)
SELECT {sensor_columns}
FROM sensor
WHERE version > :version
ORDER BY version;

-- name: sensors_erased_since(version)
SELECT number FROM erased_sensor WHERE version > :version;

-- name: sensor_names_release(network_identifier, device_id, sensor_name, serial_number)!
-- A deleted sensor goes by its names until another takes them.
UPDATE sensor
SET
    device_id = CASE WHEN device_id = :device_id THEN NULL ELSE device_id END,
    sensor_name = CASE
        WHEN network_identifier = :network_identifier AND sensor_name = :sensor_name THEN NULL
        ELSE sensor_name
    END,
    serial_number = CASE
        WHEN network_identifier = :network_identifier AND serial_number = :serial_number THEN NULL
        ELSE serial_number
    END
WHERE deleted_at IS NOT NULL
AND (
    device_id = :device_id
    OR (network_identifier = :network_identifier AND sensor_name = :sensor_name)
    OR (network_identifier = :network_identifier AND serial_number = :serial_number)
);

-- name: sensor_names_taken(number, identifier, network_identifier, device_id, sensor_name, serial_number)
-- By others than the sensor of this number. A deleted one leaves all but its identifier to others.
SELECT 'identifier' FROM sensor WHERE identifier = :identifier AND number <> :number
UNION ALL
SELECT 'device_id' FROM sensor
WHERE device_id = :device_id AND deleted_at IS NULL AND number <> :number
UNION ALL
SELECT 'sensor_name' FROM sensor
WHERE network_identifier = :network_identifier AND sensor_name = :sensor_name
AND deleted_at IS NULL AND number <> :number
UNION ALL
SELECT 'serial_number' FROM sensor
WHERE network_identifier = :network_identifier AND serial_number = :serial_number
AND deleted_at IS NULL AND number <> :number;

-- name: sensor_create(identifier, network_identifier, device_id, key_hash, broker_password, name, sensor_name, serial_number, manufacturer, model, modality, created_at, node_identifier, expected_interval, tags, attribute_labels, latitude, longitude, place, packing)^
INSERT INTO sensor (
    identifier, network_identifier, device_id, key_hash, broker_password, name, sensor_name,
    serial_number, manufacturer, model, modality, created_at, node_identifier, expected_interval,
    tags, attribute_labels, latitude, longitude, place, packing
)
VALUES (
    :identifier, :network_identifier, :device_id, :key_hash, :broker_password, :name,
    :sensor_name, :serial_number, :manufacturer, :model, :modality, :created_at, :node_identifier,
    :expected_interval, :tags, :attribute_labels, :latitude, :longitude, :place,
    :packing
)
RETURNING {sensor_columns};

-- name: sensor_change(number, network_identifier, device_id, key_hash, broker_password, is_active, name, sensor_name, serial_number, manufacturer, model, modality, node_identifier, expected_interval, tags, attribute_labels, latitude, longitude, place, packing, deleted_at)^
UPDATE sensor
SET
    network_identifier = :network_identifier,
    device_id = :device_id,
    key_hash = :key_hash,
    -- It belongs to the key: of another one it has to be given, of none there is none.
    broker_password = CASE
        WHEN key_hash = :key_hash THEN broker_password ELSE :broker_password
    END,
    is_active = :is_active,
    -- Nothing more is taken from a sensor out of service: what it said last may not be true long.
    status = CASE WHEN :is_active THEN status END,
    name = :name,
    sensor_name = :sensor_name,
    serial_number = :serial_number,
    manufacturer = :manufacturer,
    model = :model,
    modality = :modality,
    node_identifier = :node_identifier,
    expected_interval = :expected_interval,
    tags = :tags,
    attribute_labels = :attribute_labels,
    latitude = :latitude,
    longitude = :longitude,
    place = :place,
    packing = :packing,
    deleted_at = :deleted_at
WHERE number = :number
RETURNING {sensor_columns};

-- name: registry_version()$
SELECT registry.version, registry_change.token
FROM registry
JOIN registry_change ON registry_change.version = registry.version;

-- name: registry_has_had(version, token)$
SELECT 1 FROM registry_change WHERE version = :version AND token = :token;

-- What a sensor sent is erased piece by piece, so that the writer has others served between.

-- name: {table}s_erase(sensor, limit)
DELETE FROM {table}
WHERE sensor = :sensor
AND (timestamp, fingerprint) <= (
    SELECT timestamp, fingerprint
    FROM (
        SELECT timestamp, fingerprint FROM {table}
        WHERE sensor = :sensor
        ORDER BY timestamp, fingerprint
        LIMIT :limit
    ) AS oldest
    ORDER BY timestamp DESC, fingerprint DESC
    LIMIT 1
)
RETURNING 1;

-- name: rejected_messages_of_sensor(sensor, limit)
-- The whole table is looked through: by a reader, while others write.
SELECT id FROM rejected_message WHERE sensor = :sensor LIMIT :limit;

-- name: rejected_messages_erase(names)
DELETE FROM rejected_message WHERE id IN ({named_ids}) RETURNING 1;

-- name: packets_erase(sensor, limit)
DELETE FROM packet
WHERE id IN (SELECT id FROM packet WHERE sensor = :sensor LIMIT :limit)
RETURNING 1;

-- No index of these begins with the sensor: it is sought in each rule that they have.

-- name: observations_erase(sensor, limit)
WITH RECURSIVE present (rule) AS (
    SELECT min(rule) FROM observation
    UNION ALL
    SELECT (SELECT min(observation.rule) FROM observation WHERE observation.rule > present.rule)
    FROM present
    WHERE present.rule IS NOT NULL
)
DELETE FROM observation
WHERE (rule, sensor, timestamp, fingerprint) IN (
    SELECT observation.rule, observation.sensor, observation.timestamp, observation.fingerprint
    FROM present
    JOIN observation ON observation.rule = present.rule AND observation.sensor = :sensor
    LIMIT :limit
)
RETURNING 1;

-- name: actions_erase(sensor, limit)
-- What is to be done because of its messages has their texts.
WITH RECURSIVE present (rule, position) AS (
    SELECT min(rule), CAST(-1 AS bigint) FROM action
    UNION ALL
    SELECT
        CASE
            WHEN EXISTS (
                SELECT 1 FROM action
                WHERE action.rule = present.rule AND action.position > present.position
            ) THEN present.rule
            ELSE (SELECT min(action.rule) FROM action WHERE action.rule > present.rule)
        END,
        coalesce(
            (
                SELECT min(action.position) FROM action
                WHERE action.rule = present.rule AND action.position > present.position
            ),
            -1
        )
    FROM present
    WHERE present.rule IS NOT NULL
)
DELETE FROM action
WHERE id IN (
    SELECT action.id
    FROM present
    JOIN action ON action.rule = present.rule
    AND action.position = present.position
    AND action.sensor = :sensor
    LIMIT :limit
)
RETURNING 1;

-- name: attributes_erase(sensor, limit)
DELETE FROM attribute
WHERE sensor = :sensor
AND name IN (SELECT name FROM attribute WHERE sensor = :sensor ORDER BY name LIMIT :limit)
RETURNING 1;

-- name: sensor_erase(number)^
DELETE FROM sensor WHERE number = :number AND deleted_at IS NOT NULL RETURNING number;
