-- Texts of numbers with all their digits, as they are stored: CAST gives 15 of them. Of two paths
-- json_extract makes an array with the parts as they stand; the second one leads nowhere. What a key
-- with a backslash, a quotation mark or nothing in it leads to depends on SQLite's version.
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
