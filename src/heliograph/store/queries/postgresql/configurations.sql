-- name: configuration_targets(network, numbers, longest)
-- Without the configurations that are longer.
SELECT
    sensor.number, sensor.identifier, sensor.device_id, newest.revision,
    CASE
        WHEN octet_length(newest.configuration) <= :longest THEN newest.configuration
    END,
    octet_length(newest.configuration)
FROM json_array_elements_text(CAST(:numbers AS json)) AS wanted (number)
JOIN sensor ON sensor.number = CAST(wanted.number AS bigint)
LEFT JOIN LATERAL (
    SELECT revision, configuration FROM configuration
    WHERE configuration.sensor = sensor.number
    ORDER BY revision DESC
    LIMIT 1
) AS newest ON true
WHERE sensor.network_identifier = :network AND sensor.deleted_at IS NULL
ORDER BY sensor.number;

-- name: configuration_targets_locked(network, numbers)
-- In their order, as by everyone who locks several: no deadlocks. What the rows hold is read by
-- a later statement, which sees what was committed while this one waited.
SELECT number
FROM sensor
WHERE network_identifier = :network AND number IN (
    SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:numbers AS json))
)
ORDER BY number
FOR NO KEY UPDATE;

-- name: configurations_add(rows, created_at, author)
INSERT INTO configuration (sensor, revision, configuration, created_at, author)
SELECT
    CAST(value ->> 0 AS bigint), CAST(value ->> 1 AS bigint), value ->> 2,
    CAST(:created_at AS bigint), CAST(:author AS text)
FROM jsonb_array_elements(CAST(:rows AS jsonb))
RETURNING sensor, revision;

-- name: configuration_texts(rows)
SELECT configuration.sensor, configuration.revision, configuration.configuration
FROM jsonb_array_elements(CAST(:rows AS jsonb)) AS wanted
JOIN configuration ON configuration.sensor = CAST(wanted ->> 0 AS bigint)
AND configuration.revision = CAST(wanted ->> 1 AS bigint);

-- name: revisions_find(rows)
SELECT configuration.sensor, configuration.revision, configuration.success
FROM jsonb_array_elements(CAST(:rows AS jsonb)) AS wanted
JOIN configuration ON configuration.sensor = CAST(wanted ->> 0 AS bigint)
AND configuration.revision = CAST(wanted ->> 1 AS bigint);

-- name: acknowledgments_store(rows)!
-- Rows are locked in their order first, as by everyone who locks several: no deadlocks.
WITH said AS MATERIALIZED (
    SELECT
        CAST(value ->> 0 AS bigint) AS sensor,
        CAST(value ->> 1 AS bigint) AS revision,
        CAST(value ->> 2 AS bigint) AS timestamp,
        CAST(value ->> 3 AS bigint) AS receipt_timestamp,
        CAST(value ->> 4 AS boolean) AS success
    FROM jsonb_array_elements(CAST(:rows AS jsonb))
),
locked AS MATERIALIZED (
    SELECT sensor, revision FROM configuration
    WHERE (sensor, revision) IN (SELECT sensor, revision FROM said)
    ORDER BY sensor, revision
    FOR NO KEY UPDATE
)
UPDATE configuration
SET
    acknowledgment_timestamp = said.timestamp,
    receipt_timestamp = said.receipt_timestamp,
    success = said.success
FROM said, locked
WHERE configuration.sensor = said.sensor AND configuration.revision = said.revision
AND locked.sensor = said.sensor AND locked.revision = said.revision
AND (configuration.success IS NULL OR (NOT configuration.success AND said.success));

-- name: heartbeats_flag(rows)!
UPDATE heartbeat
SET unknown_revision = true
FROM jsonb_array_elements(CAST(:rows AS jsonb)) AS flagged
WHERE heartbeat.sensor = CAST(flagged ->> 1 AS bigint)
AND heartbeat.timestamp = CAST(flagged ->> 2 AS bigint)
AND heartbeat.fingerprint = CAST(flagged ->> 3 AS bigint)
AND heartbeat.id = CAST(flagged ->> 0 AS bigint);
