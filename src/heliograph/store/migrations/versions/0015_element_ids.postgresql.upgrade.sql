-- What the device called the element; null for most, and then no part of a row's identity.
ALTER TABLE measurement ADD COLUMN element_id text;

ALTER TABLE log ADD COLUMN element_id text;

ALTER TABLE heartbeat ADD COLUMN element_id text;

CREATE OR REPLACE VIEW v_measurement AS
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
    measurement.fingerprint,
    measurement.element_id
FROM measurement
JOIN sensor ON sensor.number = measurement.sensor;

CREATE OR REPLACE VIEW v_attribute AS
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
    whole.fingerprint,
    whole.element_id
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

CREATE OR REPLACE VIEW v_log AS
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
    log.fingerprint,
    log.element_id
FROM log
JOIN sensor ON sensor.number = log.sensor;
