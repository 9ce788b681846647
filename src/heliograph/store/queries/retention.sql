-- name: network_retention_read(network)^
SELECT raw_days, rollup_days, log_days FROM network_retention WHERE network = :network;

-- name: network_retentions()
SELECT network, raw_days, rollup_days, log_days FROM network_retention;

-- name: sensor_retention_read(sensor)^
SELECT raw_days, rollup_days, log_days FROM sensor_retention WHERE sensor = :sensor;

-- name: network_retention_set(network, raw_days, rollup_days, log_days)!
INSERT INTO network_retention (network, raw_days, rollup_days, log_days)
VALUES (:network, :raw_days, :rollup_days, :log_days)
ON CONFLICT (network) DO UPDATE
SET
    raw_days = excluded.raw_days,
    rollup_days = excluded.rollup_days,
    log_days = excluded.log_days;

-- name: sensor_retention_set(sensor, raw_days, rollup_days, log_days)!
INSERT INTO sensor_retention (sensor, raw_days, rollup_days, log_days)
VALUES (:sensor, :raw_days, :rollup_days, :log_days)
ON CONFLICT (sensor) DO UPDATE
SET
    raw_days = excluded.raw_days,
    rollup_days = excluded.rollup_days,
    log_days = excluded.log_days;

-- name: network_retention_clear(network)!
DELETE FROM network_retention WHERE network = :network;

-- name: sensor_retention_clear(sensor)!
DELETE FROM sensor_retention WHERE sensor = :sensor;

-- name: retention_rules()
-- A row if anything is said of any network or sensor.
SELECT 1 FROM network_retention
UNION ALL
SELECT 1 FROM sensor_retention
LIMIT 1;

-- name: retention_sensors(after, network, by_network, by_default, raw_days, rollup_days, log_days, limit)
-- Those of which anything is not kept for ever. Deleted ones too: what was kept of theirs goes.
-- Without `by_network`, what networks say does not count.
SELECT
    sensor.number,
    sensor.identifier,
    sensor.network_identifier,
    coalesce(own.raw_days, whole.raw_days, CAST(:raw_days AS bigint)),
    coalesce(own.rollup_days, whole.rollup_days, CAST(:rollup_days AS bigint)),
    coalesce(own.log_days, whole.log_days, CAST(:log_days AS bigint))
FROM sensor
LEFT JOIN sensor_retention AS own ON own.sensor = sensor.number
LEFT JOIN network_retention AS whole
    ON whole.network = sensor.network_identifier AND CAST(:by_network AS boolean)
WHERE sensor.number > :after
AND (CAST(:network AS text) IS NULL OR sensor.network_identifier = :network)
AND (
    CAST(:by_default AS boolean)
    OR sensor.number IN (SELECT sensor_retention.sensor FROM sensor_retention)
    OR sensor.network_identifier IN (SELECT network_retention.network FROM network_retention)
)
AND (
    coalesce(own.raw_days, whole.raw_days, CAST(:raw_days AS bigint)) > 0
    OR coalesce(own.rollup_days, whole.rollup_days, CAST(:rollup_days AS bigint)) > 0
    OR coalesce(own.log_days, whole.log_days, CAST(:log_days AS bigint)) > 0
)
ORDER BY sensor.number
LIMIT :limit;

-- name: retention_frontier()$
SELECT frontier FROM rollup_state;

-- Packets of devices that are not known go by the server's own days.

-- name: unknown_packets_due(end, limit)
SELECT id FROM packet WHERE sensor IS NULL AND timestamp < :end LIMIT :limit;

-- name: unknown_packets_remove(names)
DELETE FROM packet WHERE id IN ({named_ids}) RETURNING id;

-- name: unknown_packets_count(end)$
SELECT count(*) FROM packet WHERE sensor IS NULL AND timestamp < :end;

-- name: unknown_packets_content(end, limit)
-- The bytes of content of some.
SELECT {packet_content} FROM packet WHERE sensor IS NULL AND timestamp < :end LIMIT :limit;
