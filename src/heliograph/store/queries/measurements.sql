-- shared: value_up_to_longest
    CASE WHEN {value_length} <= :longest THEN value END AS value, {value_length} AS length

-- shared: measurement_page
SELECT id, timestamp, fingerprint, receipt_timestamp, revision, {value_up_to_longest}
FROM measurement

-- name: measurements_after(sensor, timestamp, fingerprint, until, limit, longest)
-- Without the values that are longer, as in all queries that have `longest`.
{measurement_page}
{page_after};

-- name: measurements_before(sensor, timestamp, fingerprint, since, limit, longest)
{measurement_page}
{page_before};

-- name: measurements_values(sensor, timestamp, fingerprint, until, limit, longest)
SELECT timestamp, fingerprint, {value_up_to_longest}
FROM measurement
{page_after};

-- name: measurements_reach(sensor, start, end, rows)
-- A row if there are more than so many in the range.
SELECT 1
FROM measurement
WHERE sensor = :sensor AND timestamp >= :start AND timestamp < :end
LIMIT 1 OFFSET :rows;

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
