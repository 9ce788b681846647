-- What brokers are told of the devices.

-- name: broker_access_load(after, limit)
SELECT number, identifier, device_id, is_active, key_hash, broker_password
FROM sensor
WHERE number > :after
-- A longer one is no key of the device's own.
AND length(key_hash) = 32
ORDER BY number
LIMIT :limit;


-- name: broker_drops_find(broker)^
SELECT total, uptime, noted_at FROM broker_drops WHERE broker = :broker;

-- name: broker_drops_note(broker, total, uptime, noted_at)!
INSERT INTO broker_drops (broker, total, uptime, noted_at)
VALUES (:broker, :total, :uptime, :noted_at)
ON CONFLICT (broker) DO UPDATE
SET total = excluded.total, uptime = excluded.uptime, noted_at = excluded.noted_at;
