-- What docs/guide/sql.md promises. Who reads needs rights on the views alone: no key or password
-- is in them. timestamp_us is the column that the tables are found by: a condition on it uses
-- the index, one on the time of the same row does not.

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

-- A row for each attribute: nested members have dotted paths, with \ before dots in a key.
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

-- The newest value of each attribute that a sensor has ever measured.
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

CREATE VIEW devices AS
SELECT
    identifier AS id,
    coalesce(device_id, identifier) AS device_id,
    name,
    is_active,
    'epoch'::timestamptz + created_at * interval '1 microsecond' AS created_at,
    'epoch'::timestamptz + last_seen_at * interval '1 microsecond' AS last_seen_at
FROM sensor
WHERE deleted_at IS NULL;

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
