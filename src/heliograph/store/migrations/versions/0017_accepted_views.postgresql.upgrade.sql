-- Not what was stored while the clock was ahead, for as long as its time has not come; nor a time
-- at which nobody can have been seen yet (by a minute: clocks differ).
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
    AND (
        v_attribute.timestamp_us <= extract(epoch FROM now()) * 1000000
        OR NOT EXISTS (
            SELECT 1
            FROM measurement AS beyond, clock_state
            WHERE beyond.sensor = v_attribute.sensor
            AND beyond.timestamp = v_attribute.timestamp_us
            AND beyond.id = v_attribute.id
            AND beyond.id <= clock_state.accepted_id
            AND beyond.receipt_timestamp > clock_state.accepted_at
        )
    )
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
    CASE WHEN last_seen_at <= extract(epoch FROM now()) * 1000000 + 60000000 THEN
        'epoch'::timestamptz + last_seen_at * interval '1 microsecond'
    END AS last_seen_at
FROM sensor
WHERE deleted_at IS NULL;
