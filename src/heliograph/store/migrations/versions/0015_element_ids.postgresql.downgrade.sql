-- A view can't lose a column: those that have it, and those on top of them, are made anew.
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
    'epoch'::timestamptz + measurement.timestamp * interval '1 microsecond' AS time,
    measurement.timestamp AS timestamp_us,
    'epoch'::timestamptz
    + measurement.receipt_timestamp * interval '1 microsecond' AS receipt_time,
    measurement.revision,
    measurement.value::jsonb AS value,
    measurement.id,
    measurement.sensor,
    measurement.fingerprint
FROM measurement
JOIN sensor ON sensor.number = measurement.sensor;

CREATE VIEW v_attribute AS
SELECT
    whole.sensor_identifier,
    whole.device_id,
    whole.sensor_name,
    whole.network_identifier,
    whole.time,
    whole.timestamp_us,
    whole.revision,
    part.attribute,
    CASE jsonb_typeof(part.value)
        WHEN 'number' THEN (part.value #>> '{}')::double precision
        WHEN 'boolean' THEN (part.value = 'true'::jsonb)::integer::double precision
    END AS number,
    part.value #>> '{}' AS text,
    whole.id,
    whole.sensor,
    whole.fingerprint
FROM v_measurement AS whole
CROSS JOIN LATERAL (
    WITH RECURSIVE member (name, value) AS (
        SELECT NULL::text, whole.value
        UNION ALL
        SELECT
            coalesce(member.name || '.', '')
            || replace(replace(inner_member.key, '\', '\\'), '.', '\.'),
            inner_member.value
        FROM member
        CROSS JOIN LATERAL jsonb_each(
            CASE WHEN jsonb_typeof(member.value) = 'object' THEN member.value ELSE '{}' END
        ) AS inner_member
    )
    SELECT coalesce(member.name, 'value') AS attribute, member.value
    FROM member
    WHERE jsonb_typeof(member.value) <> 'object'
) AS part;

CREATE VIEW v_log AS
SELECT
    sensor.identifier AS sensor_identifier,
    sensor.device_id,
    sensor.sensor_name,
    sensor.network_identifier,
    'epoch'::timestamptz + log.timestamp * interval '1 microsecond' AS time,
    log.timestamp AS timestamp_us,
    'epoch'::timestamptz + log.receipt_timestamp * interval '1 microsecond' AS receipt_time,
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
    attribute.name AS attribute,
    newest.time,
    newest.timestamp_us,
    newest.revision,
    newest.number,
    newest.text
FROM attribute
CROSS JOIN LATERAL (
    SELECT v_attribute.*
    FROM v_attribute
    WHERE v_attribute.sensor = attribute.sensor AND v_attribute.attribute = attribute.name
    ORDER BY v_attribute.timestamp_us DESC, v_attribute.fingerprint DESC
    LIMIT 1
) AS newest;

CREATE VIEW readings AS
SELECT
    id,
    coalesce(device_id, sensor_identifier) AS device_id,
    time AS timestamp,
    CASE WHEN jsonb_typeof(value -> 'temperature') = 'number'
        THEN (value ->> 'temperature')::double precision END AS temperature,
    CASE WHEN jsonb_typeof(value -> 'humidity') = 'number'
        THEN (value ->> 'humidity')::double precision END AS humidity,
    CASE WHEN jsonb_typeof(value -> 'voltage') = 'number'
        THEN (value ->> 'voltage')::double precision END AS voltage,
    timestamp_us
FROM v_measurement;
