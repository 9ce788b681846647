-- A column can be dropped where no view is broken by it: all of them are made anew.
DROP VIEW readings;

DROP VIEW v_latest;

DROP VIEW v_log;

DROP VIEW v_attribute;

DROP VIEW v_measurement;

ALTER TABLE heartbeat DROP COLUMN element_id;

ALTER TABLE log DROP COLUMN element_id;

ALTER TABLE measurement DROP COLUMN element_id;

CREATE VIEW v_measurement AS
SELECT
    sensor.identifier AS sensor_identifier,
    sensor.device_id,
    sensor.sensor_name,
    sensor.network_identifier,
    strftime('%Y-%m-%dT%H:%M:%S', measurement.timestamp / 1000000, 'unixepoch')
    || printf('.%06dZ', measurement.timestamp % 1000000) AS time,
    measurement.timestamp AS timestamp_us,
    strftime('%Y-%m-%dT%H:%M:%S', measurement.receipt_timestamp / 1000000, 'unixepoch')
    || printf('.%06dZ', measurement.receipt_timestamp % 1000000) AS receipt_time,
    measurement.revision,
    measurement.value,
    measurement.id,
    measurement.sensor,
    measurement.fingerprint
FROM measurement
JOIN sensor ON sensor.number = measurement.sensor;

CREATE VIEW v_attribute AS
SELECT
    sensor.identifier AS sensor_identifier,
    sensor.device_id,
    sensor.sensor_name,
    sensor.network_identifier,
    strftime('%Y-%m-%dT%H:%M:%S', measurement.timestamp / 1000000, 'unixepoch')
    || printf('.%06dZ', measurement.timestamp % 1000000) AS time,
    measurement.timestamp AS timestamp_us,
    measurement.revision,
    CASE
        WHEN part.key IS NULL THEN 'value'
        WHEN part.path = '$' THEN replace(replace(part.key, '\', '\\'), '.', '\.')
        ELSE (
            SELECT group_concat(replace(replace(above.key, '\', '\\'), '.', '\.'), '.')
            FROM json_tree(measurement.value) AS above
            WHERE above.key IS NOT NULL
            AND (
                above.fullkey = part.fullkey
                OR substr(part.fullkey, 1, length(above.fullkey) + 1) = above.fullkey || '.'
            )
        )
    END AS attribute,
    CASE WHEN part.type IN ('integer', 'real', 'true', 'false') THEN part.value END AS number,
    CASE part.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false'
        ELSE CAST(part.value AS TEXT) END AS text,
    measurement.id,
    measurement.sensor,
    measurement.fingerprint
FROM measurement
JOIN sensor ON sensor.number = measurement.sensor
JOIN json_tree(measurement.value) AS part
WHERE part.type <> 'object'
AND (
    instr(measurement.value, '[') = 0
    OR NOT EXISTS (
        SELECT 1
        FROM json_tree(measurement.value) AS around
        WHERE around.type = 'array'
        AND substr(part.fullkey, 1, length(around.fullkey) + 1) = around.fullkey || '['
    )
);

CREATE VIEW v_log AS
SELECT
    sensor.identifier AS sensor_identifier,
    sensor.device_id,
    sensor.sensor_name,
    sensor.network_identifier,
    strftime('%Y-%m-%dT%H:%M:%S', log.timestamp / 1000000, 'unixepoch')
    || printf('.%06dZ', log.timestamp % 1000000) AS time,
    log.timestamp AS timestamp_us,
    strftime('%Y-%m-%dT%H:%M:%S', log.receipt_timestamp / 1000000, 'unixepoch')
    || printf('.%06dZ', log.receipt_timestamp % 1000000) AS receipt_time,
    log.revision,
    log.severity,
    log.subject,
    log.details,
    log.id,
    log.sensor,
    log.fingerprint
FROM log
JOIN sensor ON sensor.number = log.sensor;

CREATE VIEW v_latest AS
SELECT
    newest.sensor_identifier,
    newest.device_id,
    newest.sensor_name,
    newest.network_identifier,
    newest.attribute,
    newest.time,
    newest.timestamp_us,
    newest.revision,
    newest.number,
    newest.text
FROM attribute
JOIN v_attribute AS newest
    ON newest.attribute = attribute.name
    AND newest.id = (
        SELECT v_attribute.id
        FROM v_attribute
        WHERE v_attribute.sensor = attribute.sensor AND v_attribute.attribute = attribute.name
        ORDER BY v_attribute.timestamp_us DESC, v_attribute.fingerprint DESC
        LIMIT 1
    );

CREATE VIEW readings AS
SELECT
    id,
    coalesce(device_id, sensor_identifier) AS device_id,
    time AS timestamp,
    CASE WHEN json_type(value, '$.temperature') IN ('integer', 'real')
        THEN json_extract(value, '$.temperature') END AS temperature,
    CASE WHEN json_type(value, '$.humidity') IN ('integer', 'real')
        THEN json_extract(value, '$.humidity') END AS humidity,
    CASE WHEN json_type(value, '$.voltage') IN ('integer', 'real')
        THEN json_extract(value, '$.voltage') END AS voltage,
    timestamp_us
FROM v_measurement;
