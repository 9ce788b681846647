-- name: rollups_find(keys)
-- OFFSET keeps the planner from joining with the whole table; each key is searched by itself.
SELECT found.start, found.packed, found.sensor, found.level
FROM jsonb_array_elements(CAST(:keys AS jsonb)) AS wanted (key)
CROSS JOIN LATERAL (
    SELECT sensor, level, start, packed
    FROM rollup
    WHERE sensor = CAST(wanted.key ->> 0 AS bigint)
    AND level = CAST(wanted.key ->> 1 AS integer)
    AND start = CAST(wanted.key ->> 2 AS bigint)
    OFFSET 0
) AS found;

-- name: measurements_spans(spans, limit, longest)
-- Rows of several sensors' spans of time, in no order, without the values that are longer; if
-- there are as many as the limit, there may be more. Where a span may have packed rows, a row without
-- a value tells it.
SELECT * FROM (
    SELECT
        found.timestamp,
        found.fingerprint,
        CASE WHEN length(found.value) <= :longest THEN found.value END AS value,
        found.sensor
    FROM jsonb_array_elements(CAST(:spans AS jsonb)) AS wanted (span)
    CROSS JOIN LATERAL (
        SELECT timestamp, fingerprint, value, sensor
        FROM measurement
        WHERE sensor = CAST(wanted.span ->> 0 AS bigint)
        AND timestamp >= CAST(wanted.span ->> 1 AS bigint)
        AND timestamp < CAST(wanted.span ->> 2 AS bigint)
        OFFSET 0
    ) AS found
    LIMIT :limit
) AS hot
UNION ALL
SELECT * FROM (
    SELECT chunk.first, CAST(0 AS bigint), CAST(NULL AS text), chunk.sensor
    FROM jsonb_array_elements(CAST(:spans AS jsonb)) AS wanted (span)
    JOIN chunk ON chunk.sensor = CAST(wanted.span ->> 0 AS bigint)
    AND chunk.last >= CAST(wanted.span ->> 1 AS bigint)
    AND chunk.last < CAST(wanted.span ->> 2 AS bigint) + {longest_chunk}
    AND chunk.first < CAST(wanted.span ->> 2 AS bigint)
    LIMIT 1
) AS packed;

-- name: rollups_store(sensors, levels, starts, packed)!
INSERT INTO rollup (sensor, level, start, packed)
SELECT * FROM unnest(
    CAST(:sensors AS bigint[]), CAST(:levels AS integer[]), CAST(:starts AS bigint[]),
    CAST(:packed AS bytea[])
)
ON CONFLICT (sensor, level, start) DO UPDATE SET packed = excluded.packed;

-- name: rollups_drop(sensors, levels, starts)!
DELETE FROM rollup
USING unnest(
    CAST(:sensors AS bigint[]), CAST(:levels AS integer[]), CAST(:starts AS bigint[])
) AS gone (sensor, level, start)
WHERE rollup.sensor = gone.sensor AND rollup.level = gone.level AND rollup.start = gone.start;

-- name: rollup_backlog_shorten(rows)!
UPDATE rollup_backlog
SET range_end = CAST(done.row ->> 2 AS bigint)
FROM jsonb_array_elements(CAST(:rows AS jsonb)) AS done (row)
WHERE rollup_backlog.sensor = CAST(done.row ->> 0 AS bigint)
AND rollup_backlog.range_start = CAST(done.row ->> 1 AS bigint);

-- name: rollup_backlog_forget()!
DELETE FROM rollup_backlog WHERE range_end <= range_start;

-- name: touched_done(ids)!
DELETE FROM touched WHERE id = ANY(CAST(:ids AS bigint[]));

-- name: touched_add(sensors, hours)!
INSERT INTO touched (sensor, hour)
SELECT * FROM unnest(CAST(:sensors AS bigint[]), CAST(:hours AS bigint[]));

-- name: rollup_floors(sensors)
SELECT sensor, raw_from
FROM rollup_floor
WHERE sensor IN (
    SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:sensors AS json))
);
