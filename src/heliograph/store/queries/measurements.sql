-- shared: measurement_columns
    id, timestamp, fingerprint, receipt_timestamp, revision, value

-- name: measurements_after(sensor, timestamp, fingerprint, until, limit)
SELECT {measurement_columns}
FROM measurement
{page_after};

-- name: measurements_before(sensor, timestamp, fingerprint, since, limit)
SELECT {measurement_columns}
FROM measurement
{page_before};

-- name: measurements_values(sensor, timestamp, fingerprint, until, limit, longest)
-- Without the values that are longer.
SELECT timestamp, fingerprint, CASE WHEN length(value) <= :longest THEN value END AS value
FROM measurement
{page_after};

-- name: measurements_reach(sensor, start, end, rows)
-- A row if there are more than so many in the range.
SELECT 1
FROM measurement
WHERE sensor = :sensor AND timestamp >= :start AND timestamp < :end
LIMIT 1 OFFSET :rows;
