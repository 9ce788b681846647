-- What is wanted is JSON: [sensor, from, to] each, `to` exclusive. Sensors come one after the other,
-- and each one's rows by time: the join's order is given, and the index covers it.

-- name: {kept}s_due(wanted, limit)
SELECT {kept}.id, {kept}.sensor, {kept}.timestamp
FROM json_each(:wanted) AS wanted
CROSS JOIN {kept}
WHERE {kept}.sensor = json_extract(wanted.value, '$[0]')
AND {kept}.timestamp >= json_extract(wanted.value, '$[1]')
AND {kept}.timestamp < json_extract(wanted.value, '$[2]')
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

-- name: {kept}s_remove(keys, low, high)
DELETE FROM {kept}
WHERE id IN (SELECT json_extract(value, '$[0]') FROM json_each(:keys))
AND timestamp >= :low AND timestamp <= :high
RETURNING 1;

-- name: rollups_remove(keys, low, high)
DELETE FROM rollup
WHERE rowid IN (SELECT json_extract(value, '$[0]') FROM json_each(:keys))
AND start >= :low AND start <= :high
RETURNING 1;

-- name: rollup_limits(wanted, least)
-- Of each sensor (JSON: [sensor, …]): from when on its raw rows stand (`least`: all of them), and
-- from when on something is to be rolled up yet, if anything is.
SELECT
    wanted.value,
    coalesce(rollup_floor.raw_from, :least),
    (
        SELECT min(touched.hour) FROM touched
        WHERE touched.sensor = wanted.value
        AND touched.hour >= coalesce(rollup_floor.raw_from, :least)
    ),
    (
        SELECT min(range_start) FROM rollup_backlog
        WHERE rollup_backlog.sensor = wanted.value
        AND range_end > coalesce(rollup_floor.raw_from, :least)
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

-- name: {kept}s_count_due(wanted, limit)
-- Of each sensor: the sensor, and how many rows are due, the first and the last of those counted.
SELECT
    json_extract(wanted.value, '$[0]'),
    (
        SELECT json_array(count(*), min(timestamp), max(timestamp))
        FROM (
            SELECT timestamp FROM {kept}
            WHERE sensor = json_extract(wanted.value, '$[0]')
            AND timestamp >= json_extract(wanted.value, '$[1]')
            AND timestamp < json_extract(wanted.value, '$[2]')
            ORDER BY timestamp
            LIMIT :limit
        )
    )
FROM json_each(:wanted) AS wanted
WHERE EXISTS (
    SELECT 1 FROM {kept}
    WHERE sensor = json_extract(wanted.value, '$[0]')
    AND timestamp >= json_extract(wanted.value, '$[1]')
    AND timestamp < json_extract(wanted.value, '$[2]')
);

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
FROM json_each(:wanted) AS wanted
WHERE EXISTS (
    SELECT 1
    FROM (SELECT 60 AS value UNION ALL SELECT 3600) AS level
    CROSS JOIN rollup
    WHERE rollup.sensor = json_extract(wanted.value, '$[0]')
    AND rollup.level = level.value
    AND rollup.start >= json_extract(wanted.value, '$[1]')
    AND rollup.start < json_extract(wanted.value, '$[2]')
);

-- Of the rows that are due so many in 1,009, whatever times they are at: key, sensor, and bytes of
-- content each.

-- name: measurements_sample_due(wanted, share)
SELECT measurement.id, measurement.sensor, length(CAST(measurement.value AS BLOB))
FROM json_each(:wanted) AS wanted
CROSS JOIN measurement
WHERE measurement.sensor = json_extract(wanted.value, '$[0]')
AND measurement.timestamp >= json_extract(wanted.value, '$[1]')
AND measurement.timestamp < json_extract(wanted.value, '$[2]')
AND (measurement.timestamp / 1000) % 1009 < :share;

-- name: logs_sample_due(wanted, share)
SELECT log.id, log.sensor,
    length(CAST(log.severity || log.subject AS BLOB))
    + coalesce(length(CAST(log.details AS BLOB)), 0)
FROM json_each(:wanted) AS wanted
CROSS JOIN log
WHERE log.sensor = json_extract(wanted.value, '$[0]')
AND log.timestamp >= json_extract(wanted.value, '$[1]')
AND log.timestamp < json_extract(wanted.value, '$[2]')
AND (log.timestamp / 1000) % 1009 < :share;

-- name: heartbeats_sample_due(wanted, share)
SELECT heartbeat.id, heartbeat.sensor, coalesce(length(CAST(heartbeat.details AS BLOB)), 0)
FROM json_each(:wanted) AS wanted
CROSS JOIN heartbeat
WHERE heartbeat.sensor = json_extract(wanted.value, '$[0]')
AND heartbeat.timestamp >= json_extract(wanted.value, '$[1]')
AND heartbeat.timestamp < json_extract(wanted.value, '$[2]')
AND (heartbeat.timestamp / 1000) % 1009 < :share;

-- name: packets_sample_due(wanted, share)
SELECT packet.id, packet.sensor, {packet_content}
FROM json_each(:wanted) AS wanted
CROSS JOIN packet
WHERE packet.sensor = json_extract(wanted.value, '$[0]')
AND packet.timestamp >= json_extract(wanted.value, '$[1]')
AND packet.timestamp < json_extract(wanted.value, '$[2]')
AND (packet.timestamp / 1000) % 1009 < :share;

-- shared: packet_content
length(CAST(device_id || principal || source || payload AS BLOB))
+ coalesce(length(packet.network_identifier), 0)

-- name: rollups_sample_due(wanted, share)
SELECT rollup.rowid, rollup.sensor, length(rollup.packed)
FROM json_each(:wanted) AS wanted
CROSS JOIN rollup
WHERE rollup.sensor = json_extract(wanted.value, '$[0]')
AND rollup.level IN (60, 3600)
AND rollup.start >= json_extract(wanted.value, '$[1]')
AND rollup.start < json_extract(wanted.value, '$[2]')
AND (rollup.start / 60000000) % 1009 < :share;

-- name: {kept}s_near(ids, half)
-- Of each id, sensors and times of so many rows up to it and from it on, as they lie in the table.
SELECT wanted.value, near.sensor, near.timestamp
FROM json_each(:ids) AS wanted
CROSS JOIN {kept} AS near
WHERE near.id >= (
    SELECT min(id)
    FROM (SELECT id FROM {kept} WHERE id <= wanted.value ORDER BY id DESC LIMIT :half) AS before
)
AND near.id <= (
    SELECT max(id)
    FROM (SELECT id FROM {kept} WHERE id >= wanted.value ORDER BY id LIMIT :half) AS after
);

-- name: disk_used()^
-- Live pages: what deletions have left free is used again before the file grows.
SELECT (page_count - freelist_count) * page_size
FROM pragma_page_count(), pragma_freelist_count(), pragma_page_size();
