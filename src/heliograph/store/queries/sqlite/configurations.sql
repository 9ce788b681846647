-- name: configuration_targets(network, numbers, longest)
-- The transaction is the only one that writes. Without the configurations that are longer.
SELECT
    sensor.number, sensor.identifier, sensor.device_id, configuration.revision,
    CASE
        WHEN length(configuration.configuration) <= :longest THEN configuration.configuration
    END,
    length(configuration.configuration)
FROM sensor
LEFT JOIN configuration ON configuration.sensor = sensor.number
AND configuration.revision = (
    SELECT max(newer.revision) FROM configuration AS newer WHERE newer.sensor = sensor.number
)
WHERE sensor.network_identifier = :network AND sensor.deleted_at IS NULL
AND sensor.number IN (SELECT value FROM json_each(:numbers))
ORDER BY sensor.number;

-- name: configuration_targets_locked(network, numbers)
-- The transaction is the only one that writes.
SELECT number
FROM sensor
WHERE network_identifier = :network AND number IN (SELECT value FROM json_each(:numbers));

-- name: configurations_add(rows, created_at, author)
INSERT INTO configuration (sensor, revision, configuration, created_at, author)
SELECT
    json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    :created_at, :author
FROM json_each(:rows)
RETURNING sensor, revision;

-- name: configuration_texts(rows)
SELECT configuration.sensor, configuration.revision, configuration.configuration
FROM json_each(:rows) AS wanted
CROSS JOIN configuration ON configuration.sensor = json_extract(wanted.value, '$[0]')
AND configuration.revision = json_extract(wanted.value, '$[1]');

-- name: revisions_find(rows)
SELECT configuration.sensor, configuration.revision, configuration.success
FROM json_each(:rows) AS wanted
CROSS JOIN configuration ON configuration.sensor = json_extract(wanted.value, '$[0]')
AND configuration.revision = json_extract(wanted.value, '$[1]');

-- name: acknowledgments_store(rows)!
-- Nobody else has written since these were found to be new.
UPDATE configuration
SET
    acknowledgment_timestamp = said.timestamp,
    receipt_timestamp = said.receipt_timestamp,
    success = said.success
FROM (
    SELECT
        json_extract(value, '$[0]') AS sensor,
        json_extract(value, '$[1]') AS revision,
        json_extract(value, '$[2]') AS timestamp,
        json_extract(value, '$[3]') AS receipt_timestamp,
        json_extract(value, '$[4]') AS success
    FROM json_each(:rows)
) AS said
WHERE configuration.sensor = said.sensor AND configuration.revision = said.revision;

-- name: heartbeats_flag(rows)!
UPDATE heartbeat
SET unknown_revision = 1
WHERE id IN (SELECT json_extract(value, '$[0]') FROM json_each(:rows));
