DROP VIEW v_log;

DROP VIEW v_attribute;

DROP VIEW v_measurement;

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
    measurement.fingerprint,
    measurement.element_id
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
    CASE part.type
        WHEN 'true' THEN 'true'
        WHEN 'false' THEN 'false'
        WHEN 'real' THEN
            CASE WHEN instr(part.fullkey, '\') = 0 AND instr(part.fullkey, '""') = 0
                THEN trim(json_extract(measurement.value, part.fullkey, '$[0]'), '[,nul]')
                ELSE printf('%!.17g', part.value) END
        ELSE CAST(part.value AS TEXT)
    END AS text,
    measurement.id,
    measurement.sensor,
    measurement.fingerprint,
    measurement.element_id
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
    log.fingerprint,
    log.element_id
FROM log
JOIN sensor ON sensor.number = log.sensor;
