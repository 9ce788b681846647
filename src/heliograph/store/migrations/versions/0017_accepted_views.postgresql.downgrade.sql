CREATE OR REPLACE VIEW v_latest AS
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

CREATE OR REPLACE VIEW devices AS
SELECT
    identifier AS id,
    coalesce(device_id, identifier) AS device_id,
    name,
    is_active,
    'epoch'::timestamptz + created_at * interval '1 microsecond' AS created_at,
    'epoch'::timestamptz + last_seen_at * interval '1 microsecond' AS last_seen_at
FROM sensor
WHERE deleted_at IS NULL;
