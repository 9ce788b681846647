-- name: rollups_find(keys)
-- The join's order is given: per key one search of the index.
SELECT rollup.start, rollup.packed, rollup.sensor, rollup.level
FROM json_each(:keys) AS wanted
CROSS JOIN rollup
WHERE rollup.sensor = json_extract(wanted.value, '$[0]')
AND rollup.level = json_extract(wanted.value, '$[1]')
AND rollup.start = json_extract(wanted.value, '$[2]');

-- name: measurements_spans(spans, limit, longest)
-- Rows of several sensors' spans of time, in no order, without the values that are longer; if
-- there are as many as the limit, there may be more. Where a span may have packed rows, a row without
-- a value tells it.
SELECT * FROM (
    SELECT
        measurement.timestamp,
        measurement.fingerprint,
        CASE WHEN length(measurement.value) <= :longest THEN measurement.value END AS value,
        measurement.sensor
    FROM json_each(:spans) AS wanted
    CROSS JOIN measurement
    WHERE measurement.sensor = json_extract(wanted.value, '$[0]')
    AND measurement.timestamp >= json_extract(wanted.value, '$[1]')
    AND measurement.timestamp < json_extract(wanted.value, '$[2]')
    LIMIT :limit
) AS hot
UNION ALL
SELECT * FROM (
    SELECT chunk.first, 0, NULL, chunk.sensor
    FROM json_each(:spans) AS wanted
    CROSS JOIN chunk
    WHERE chunk.sensor = json_extract(wanted.value, '$[0]')
    AND chunk.last >= json_extract(wanted.value, '$[1]')
    AND chunk.last < json_extract(wanted.value, '$[2]') + {longest_chunk}
    AND chunk.first < json_extract(wanted.value, '$[2]')
    LIMIT 1
) AS packed;

-- name: rollup_backlog_shorten(rows)!
UPDATE rollup_backlog
SET range_end = done.range_end
FROM (
    SELECT
        json_extract(value, '$[0]') AS sensor,
        json_extract(value, '$[1]') AS range_start,
        json_extract(value, '$[2]') AS range_end
    FROM json_each(:rows)
) AS done
WHERE rollup_backlog.sensor = done.sensor AND rollup_backlog.range_start = done.range_start;

-- name: rollup_backlog_forget()!
DELETE FROM rollup_backlog WHERE range_end <= range_start;

-- name: touched_done(ids)!
DELETE FROM touched WHERE id IN (SELECT value FROM json_each(:ids));

-- name: rollup_floors(sensors)
SELECT sensor, raw_from
FROM rollup_floor
WHERE sensor IN (SELECT value FROM json_each(:sensors));
