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
