-- name: activity_sensors(network, limit)
SELECT number, identifier, sensor_name
FROM sensor
WHERE network_identifier = :network AND deleted_at IS NULL
ORDER BY number
LIMIT :limit;

-- name: activity_counts(network, first, last, since, until, width)
-- The bounds on the sensor's number keep it to the sensors that were asked for.
SELECT sensor, timestamp / :width AS bucket, count(*)
FROM measurement
WHERE sensor IN (
    SELECT number FROM sensor
    WHERE network_identifier = :network AND deleted_at IS NULL
    AND number >= :first AND number <= :last
)
AND timestamp >= :since AND timestamp < :until
GROUP BY sensor, bucket
ORDER BY sensor, bucket;
