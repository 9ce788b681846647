-- name: rollup_state()^
SELECT frontier, generation FROM rollup_state;

-- name: rollup_standing(sensor, now)
-- What of a sensor is rolled up, and its newest time, in one statement and so as of one moment.
SELECT 'frontier' AS what, frontier AS first, 0 AS last FROM rollup_state
UNION ALL
SELECT DISTINCT 'touched', hour, hour + 3600000000 FROM touched WHERE sensor = :sensor
UNION ALL
SELECT 'backlog', range_start, range_end FROM rollup_backlog WHERE sensor = :sensor
UNION ALL
SELECT 'floor', raw_from, 0 FROM rollup_floor WHERE sensor = :sensor
UNION ALL
SELECT 'newest', timestamp, 0
FROM (
    SELECT timestamp
    FROM measurement
    WHERE sensor = :sensor AND {not_beyond}
    ORDER BY timestamp DESC
    LIMIT 1
) AS newest
UNION ALL
SELECT
    'packed',
    (SELECT min(first) FROM chunk WHERE sensor = :sensor),
    (SELECT max(last) FROM chunk WHERE sensor = :sensor);

-- name: aggregates_oldest(sensor)$
-- The time of a sensor's oldest row, or where its oldest rollup begins.
SELECT min(oldest)
FROM (
    SELECT min(timestamp) AS oldest FROM {measurement_keys} WHERE sensor = :sensor
    UNION ALL
    SELECT min(first) FROM chunk WHERE sensor = :sensor
    UNION ALL
    SELECT min(start) FROM rollup WHERE sensor = :sensor AND level = 3600
) AS known;

-- name: rollup_advance(generation, frontier)
-- A row if the generation was still this one. The upper part counts changes of rollups, the lower
-- 24 bits the disturbances since.
UPDATE rollup_state
SET
    generation = (generation / 16777216 + 1) * 16777216,
    frontier = coalesce(:frontier, frontier)
WHERE generation = :generation
RETURNING generation;

-- name: rollup_discard()!
-- What is being rolled up at this moment was read before.
UPDATE rollup_state SET generation = generation + 1;

-- name: rollup_marks(until, limit)
SELECT id, sensor, hour FROM touched WHERE id <= :until ORDER BY id LIMIT :limit;

-- name: rollup_newest_mark()$
SELECT max(id) FROM touched;

-- name: rollup_counts(most)
-- Up to so many marks and so many ranges are counted.
SELECT
    (SELECT count(*) FROM (SELECT 1 FROM touched LIMIT :most) AS marks),
    (SELECT count(*) FROM (SELECT 1 FROM rollup_backlog LIMIT :most) AS ranges);

-- name: rollup_backlog_newest(limit)
SELECT sensor, range_start, range_end
FROM rollup_backlog
ORDER BY range_end DESC, sensor
LIMIT :limit;

-- name: measurement_newest_between(sensor, start, end)$
-- Of packed rows a time that none of them is later than.
SELECT newest
FROM (
    SELECT max(latest) AS newest
    FROM (
        SELECT max(timestamp) AS latest
        FROM {measurement_keys}
        WHERE sensor = :sensor AND timestamp >= :start AND timestamp < :end
        UNION ALL
        SELECT CASE WHEN max(last) >= :end THEN CAST(:end AS bigint) - 1 ELSE max(last) END
        FROM chunk
        WHERE sensor = :sensor AND last >= :start AND first < :end
    ) AS known
) AS found
WHERE newest IS NOT NULL;

-- name: sensor_numbers(after, limit)
SELECT number FROM sensor WHERE number > :after ORDER BY number LIMIT :limit;

-- name: rollups_erase(sensor, limit)
DELETE FROM rollup
WHERE sensor = :sensor
AND (level, start) <= (
    SELECT level, start
    FROM (
        SELECT level, start FROM rollup
        WHERE sensor = :sensor
        ORDER BY level, start
        LIMIT :limit
    ) AS oldest
    ORDER BY level DESC, start DESC
    LIMIT 1
)
RETURNING start;

-- name: touched_erase(sensor, limit)
DELETE FROM touched
WHERE id IN (SELECT id FROM touched WHERE sensor = :sensor ORDER BY id LIMIT :limit)
RETURNING id;

-- name: rollup_backlog_erase(sensor, limit)
DELETE FROM rollup_backlog
WHERE sensor = :sensor
AND range_start IN (
    SELECT range_start FROM rollup_backlog WHERE sensor = :sensor ORDER BY range_start LIMIT :limit
)
RETURNING range_start;

-- name: rollup_floor_erase(sensor, limit)
DELETE FROM rollup_floor WHERE sensor = :sensor AND :limit > 0 RETURNING raw_from;
