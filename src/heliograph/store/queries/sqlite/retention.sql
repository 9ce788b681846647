-- What is wanted is JSON: [sensor, from, to] each, `to` exclusive. Sensors come one after the other,
-- and each one's rows by time: the join's order is given, and the index covers it.

-- name: {table}s_due(wanted, limit)
SELECT {table}.id, {table}.sensor, {table}.timestamp
FROM json_each(:wanted) AS wanted
CROSS JOIN {table}
WHERE {table}.sensor = json_extract(wanted.value, '$[0]')
AND {table}.timestamp >= json_extract(wanted.value, '$[1]')
AND {table}.timestamp < json_extract(wanted.value, '$[2]')
LIMIT :limit;

-- name: rollups_due(wanted, limit)
SELECT rollup.rowid, rollup.sensor, rollup.start
FROM json_each(:wanted) AS wanted
CROSS JOIN (SELECT 60 AS value UNION ALL SELECT 3600) AS level
CROSS JOIN rollup
WHERE rollup.sensor = json_extract(wanted.value, '$[0]')
AND rollup.level = level.value
AND rollup.start >= json_extract(wanted.value, '$[1]')
AND rollup.start < json_extract(wanted.value, '$[2]')
LIMIT :limit;

-- name: {table}s_remove(keys, low, high)
DELETE FROM {table}
WHERE id IN (SELECT json_extract(value, '$[0]') FROM json_each(:keys))
AND timestamp >= :low AND timestamp <= :high
RETURNING 1;

-- name: rollups_remove(keys, low, high)
DELETE FROM rollup
WHERE rowid IN (SELECT json_extract(value, '$[0]') FROM json_each(:keys))
AND start >= :low AND start <= :high
RETURNING 1;

-- name: rollup_limits(wanted)
-- Of each sensor (JSON: [sensor, …]): from when on its raw rows stand, and from when on something
-- is to be rolled up yet, if anything is.
SELECT
    wanted.value,
    coalesce(rollup_floor.raw_from, 0),
    (
        SELECT min(touched.hour) FROM touched
        WHERE touched.sensor = wanted.value
        AND touched.hour >= coalesce(rollup_floor.raw_from, 0)
    ),
    (
        SELECT min(range_start) FROM rollup_backlog
        WHERE rollup_backlog.sensor = wanted.value
        AND range_end > coalesce(rollup_floor.raw_from, 0)
    )
FROM json_each(:wanted) AS wanted
LEFT JOIN rollup_floor ON rollup_floor.sensor = wanted.value;

-- name: rollup_floors_raise(floors)!
-- JSON: [sensor, from when on raw rows stand] each.
INSERT INTO rollup_floor (sensor, raw_from)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:floors)
WHERE true
ON CONFLICT (sensor) DO UPDATE
SET raw_from = excluded.raw_from
WHERE excluded.raw_from > rollup_floor.raw_from;

-- name: {table}s_count_due(wanted, limit)
-- Of each sensor: the sensor, and how many rows are due, the first and the last of those counted.
SELECT
    json_extract(wanted.value, '$[0]'),
    (
        SELECT json_array(count(*), min(timestamp), max(timestamp))
        FROM (
            SELECT timestamp FROM {table}
            WHERE sensor = json_extract(wanted.value, '$[0]')
            AND timestamp >= json_extract(wanted.value, '$[1]')
            AND timestamp < json_extract(wanted.value, '$[2]')
            ORDER BY timestamp
            LIMIT :limit
        )
    )
FROM json_each(:wanted) AS wanted;

-- name: rollups_count_due(wanted, limit)
-- Each level has an order of its own.
SELECT
    json_extract(wanted.value, '$[0]'),
    (
        SELECT json_array(count(*), min(start), max(start))
        FROM (
            SELECT start FROM (
                SELECT start FROM (
                    SELECT start FROM rollup
                    WHERE sensor = json_extract(wanted.value, '$[0]') AND level = 60
                    AND start >= json_extract(wanted.value, '$[1]')
                    AND start < json_extract(wanted.value, '$[2]')
                    ORDER BY start
                    LIMIT :limit
                ) AS of_level_60
                UNION ALL
                SELECT start FROM (
                    SELECT start FROM rollup
                    WHERE sensor = json_extract(wanted.value, '$[0]') AND level = 3600
                    AND start >= json_extract(wanted.value, '$[1]')
                    AND start < json_extract(wanted.value, '$[2]')
                    ORDER BY start
                    LIMIT :limit
                ) AS of_level_3600
            ) AS of_both
            ORDER BY start
            LIMIT :limit
        ) AS oldest
    )
FROM json_each(:wanted) AS wanted;

-- name: row_sizes()
-- Bytes of a row of each table, with its share of the indexes, by the newest there are.
SELECT 'measurements', CAST(avg(length(CAST(value AS BLOB))) + 90 AS INTEGER)
FROM (SELECT value FROM measurement ORDER BY id DESC LIMIT 1000)
UNION ALL
SELECT 'logs', CAST(avg(length(CAST(subject AS BLOB)) + coalesce(length(CAST(details AS BLOB)), 0)) + 100 AS INTEGER)
FROM (SELECT subject, details FROM log ORDER BY id DESC LIMIT 1000)
UNION ALL
SELECT 'heartbeats', CAST(avg(coalesce(length(CAST(details AS BLOB)), 0)) + 90 AS INTEGER)
FROM (SELECT details FROM heartbeat ORDER BY id DESC LIMIT 1000)
UNION ALL
SELECT 'rollups', CAST(avg(length(packed)) + 60 AS INTEGER)
FROM (SELECT packed FROM rollup ORDER BY rowid DESC LIMIT 1000);

-- name: disk_used()^
-- Live pages: what deletions have left free is used again before the file grows.
SELECT (page_count - freelist_count) * page_size
FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size();
