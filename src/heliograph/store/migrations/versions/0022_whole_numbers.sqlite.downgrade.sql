DROP VIEW v_attribute;

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
