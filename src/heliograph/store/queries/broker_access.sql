-- What brokers are told of the devices.

-- name: broker_access_load(after, limit)
SELECT number, identifier, device_id, is_active, key_hash, broker_password
FROM sensor
WHERE number > :after
-- A longer one is no key of the device's own.
AND length(key_hash) = 32
ORDER BY number
LIMIT :limit;

