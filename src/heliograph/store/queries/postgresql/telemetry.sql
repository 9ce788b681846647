-- name: {table}_by_name(names)
-- Those with these names: a list of [id, sensor, timestamp]. An id is found only by its blocks, so
-- that the key leads there; OFFSET keeps the planner from joining with the whole table.
SELECT stored.id, stored.sensor, stored.timestamp
FROM (
    SELECT
        CAST(value ->> 0 AS bigint) AS id, CAST(value ->> 1 AS bigint) AS sensor,
        CAST(value ->> 2 AS bigint) AS timestamp
    FROM jsonb_array_elements(CAST(:names AS jsonb)) AS named (value)
) AS wanted
CROSS JOIN LATERAL (
    SELECT {table}.id, {table}.sensor, {table}.timestamp
    FROM {table}
    WHERE {table}.sensor = wanted.sensor AND {table}.timestamp = wanted.timestamp
    AND {table}.id = wanted.id
    OFFSET 0
) AS stored;

-- shared: of_numbers
(id & 511) = ANY(CAST(:numbers AS bigint[]))

-- name: replay_index_of(numbers, after, until, limit)
-- Of what these servers have received, in its order: which rows there are, and how large they are.
SELECT kind, id, sensor, size
FROM (
    SELECT kind, id, sensor, size
    FROM (
        SELECT 'measurement' AS kind, id, sensor, length(value) AS size
        FROM measurement WHERE id > :after AND id <= :until AND {of_numbers}
        ORDER BY id LIMIT :limit
    ) AS measurements
    UNION ALL
    SELECT kind, id, sensor, size
    FROM (
        SELECT
            'log' AS kind, id, sensor, length(subject) + coalesce(length(details), 0) AS size
        FROM log WHERE id > :after AND id <= :until AND {of_numbers}
        ORDER BY id LIMIT :limit
    ) AS logs
    UNION ALL
    SELECT kind, id, sensor, size
    FROM (
        SELECT 'heartbeat' AS kind, id, sensor, coalesce(length(details), 0) AS size
        FROM heartbeat WHERE id > :after AND id <= :until AND {of_numbers}
        ORDER BY id LIMIT :limit
    ) AS heartbeats
) AS received
ORDER BY id
LIMIT :limit;

-- name: replay_measurements_of(numbers, first, last)
{measurements_by_id} AND {of_numbers};

-- name: replay_logs_of(numbers, first, last)
{logs_by_id} AND {of_numbers};

-- name: replay_heartbeats_of(numbers, first, last)
{heartbeats_by_id} AND {of_numbers};
