DROP VIEW v_latest;

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

DROP VIEW devices;

CREATE VIEW devices AS
SELECT
    identifier AS id,
    coalesce(device_id, identifier) AS device_id,
    name,
    is_active,
    strftime('%Y-%m-%dT%H:%M:%S', created_at / 1000000, 'unixepoch')
    || printf('.%06dZ', created_at % 1000000) AS created_at,
    strftime('%Y-%m-%dT%H:%M:%S', last_seen_at / 1000000, 'unixepoch')
    || printf('.%06dZ', last_seen_at % 1000000) AS last_seen_at
FROM sensor
WHERE deleted_at IS NULL;
