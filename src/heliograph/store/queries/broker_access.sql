-- What brokers are told of the devices.

-- name: broker_access_load(after, limit)
SELECT number, identifier, device_id, is_active, key_hash, broker_password
FROM sensor
WHERE number > :after AND key_hash IS NOT NULL
ORDER BY number
LIMIT :limit;

