-- What is wanted is JSON: [sensor, from, to] each, `to` exclusive. `low` and `high` bound the times
-- of all keys, so that only the partitions that hold them are looked at.

-- name: {kept}s_due(wanted, low, high, limit)
SELECT {kept}.fingerprint, {kept}.sensor, {kept}.timestamp
FROM jsonb_array_elements(CAST(:wanted AS jsonb)) AS wanted (value)
CROSS JOIN LATERAL (
    SELECT sensor, timestamp, fingerprint FROM {kept}
    WHERE sensor = CAST(wanted.value ->> 0 AS bigint)
    AND timestamp >= CAST(wanted.value ->> 1 AS bigint)
    AND timestamp < CAST(wanted.value ->> 2 AS bigint)
    AND timestamp >= :low AND timestamp <= :high
    ORDER BY timestamp
    LIMIT :limit
) AS {kept}
LIMIT :limit;

-- name: rollups_due(wanted, low, high, limit)
SELECT rollup.level, rollup.sensor, rollup.start
FROM jsonb_array_elements(CAST(:wanted AS jsonb)) AS wanted (value)
CROSS JOIN (VALUES (60), (3600)) AS level (value)
CROSS JOIN LATERAL (
    SELECT sensor, level, start FROM rollup
    WHERE sensor = CAST(wanted.value ->> 0 AS bigint) AND rollup.level = level.value
    AND start >= CAST(wanted.value ->> 1 AS bigint)
    AND start < CAST(wanted.value ->> 2 AS bigint)
    AND start >= :low AND start <= :high
    ORDER BY start
    LIMIT :limit
) AS rollup
LIMIT :limit;

-- name: {kept}s_remove(keys, low, high)
WITH due AS MATERIALIZED (
    SELECT
        CAST(value ->> 0 AS bigint) AS fingerprint,
        CAST(value ->> 1 AS bigint) AS sensor,
        CAST(value ->> 2 AS bigint) AS timestamp
    FROM jsonb_array_elements(CAST(:keys AS jsonb))
)
DELETE FROM {kept}
USING due
WHERE {kept}.sensor = due.sensor
AND {kept}.timestamp = due.timestamp
AND {kept}.fingerprint = due.fingerprint
AND {kept}.timestamp >= :low AND {kept}.timestamp <= :high
RETURNING 1;

-- name: rollups_remove(keys, low, high)
WITH due AS MATERIALIZED (
    SELECT
        CAST(value ->> 0 AS integer) AS level,
        CAST(value ->> 1 AS bigint) AS sensor,
        CAST(value ->> 2 AS bigint) AS start
    FROM jsonb_array_elements(CAST(:keys AS jsonb))
)
DELETE FROM rollup
USING due
WHERE rollup.sensor = due.sensor AND rollup.level = due.level AND rollup.start = due.start
AND rollup.start >= :low AND rollup.start <= :high
RETURNING 1;

-- name: rollup_limits(wanted, least)
-- Of each sensor (JSON: [sensor, …]): from when on its raw rows stand (`least`: all of them), and
-- from when on something is to be rolled up yet, if anything is.
SELECT
    wanted.sensor,
    coalesce(rollup_floor.raw_from, CAST(:least AS bigint)),
    (
        SELECT min(touched.hour) FROM touched
        WHERE touched.sensor = wanted.sensor
        AND touched.hour >= coalesce(rollup_floor.raw_from, CAST(:least AS bigint))
    ),
    (
        SELECT min(range_start) FROM rollup_backlog
        WHERE rollup_backlog.sensor = wanted.sensor
        AND range_end > coalesce(rollup_floor.raw_from, CAST(:least AS bigint))
    )
FROM (
    SELECT CAST(value AS bigint) AS sensor
    FROM json_array_elements_text(CAST(:wanted AS json))
) AS wanted
LEFT JOIN rollup_floor ON rollup_floor.sensor = wanted.sensor;

-- name: rollup_floors_raise(floors)!
-- JSON: [sensor, from when on raw rows stand] each; in an order in which two don't wait for each
-- other.
INSERT INTO rollup_floor (sensor, raw_from)
SELECT CAST(value ->> 0 AS bigint), CAST(value ->> 1 AS bigint)
FROM jsonb_array_elements(CAST(:floors AS jsonb))
ORDER BY 1
ON CONFLICT (sensor) DO UPDATE
SET raw_from = excluded.raw_from
WHERE excluded.raw_from > rollup_floor.raw_from;

-- name: {kept}s_count_due(wanted, limit)
-- Of each sensor: the sensor, and how many rows are due, the first and the last of those counted.
SELECT
    CAST(wanted.value ->> 0 AS bigint),
    (
        SELECT CAST(json_build_array(count(*), min(timestamp), max(timestamp)) AS text)
        FROM (
            SELECT timestamp FROM {kept}
            WHERE sensor = CAST(wanted.value ->> 0 AS bigint)
            AND timestamp >= CAST(wanted.value ->> 1 AS bigint)
            AND timestamp < CAST(wanted.value ->> 2 AS bigint)
            ORDER BY timestamp
            LIMIT :limit
        ) AS oldest
    )
FROM jsonb_array_elements(CAST(:wanted AS jsonb)) AS wanted (value)
WHERE EXISTS (
    SELECT 1 FROM {kept}
    WHERE sensor = CAST(wanted.value ->> 0 AS bigint)
    AND timestamp >= CAST(wanted.value ->> 1 AS bigint)
    AND timestamp < CAST(wanted.value ->> 2 AS bigint)
);

-- name: rollups_count_due(wanted, limit)
-- Each level has an order of its own.
SELECT
    CAST(wanted.value ->> 0 AS bigint),
    (
        SELECT CAST(json_build_array(count(*), min(start), max(start)) AS text)
        FROM (
            SELECT start FROM (
                SELECT start FROM (
                    SELECT start FROM rollup
                    WHERE sensor = CAST(wanted.value ->> 0 AS bigint) AND level = 60
                    AND start >= CAST(wanted.value ->> 1 AS bigint)
                    AND start < CAST(wanted.value ->> 2 AS bigint)
                    ORDER BY start
                    LIMIT :limit
                ) AS of_level_60
                UNION ALL
                SELECT start FROM (
                    SELECT start FROM rollup
                    WHERE sensor = CAST(wanted.value ->> 0 AS bigint) AND level = 3600
                    AND start >= CAST(wanted.value ->> 1 AS bigint)
                    AND start < CAST(wanted.value ->> 2 AS bigint)
                    ORDER BY start
                    LIMIT :limit
                ) AS of_level_3600
            ) AS of_both
            ORDER BY start
            LIMIT :limit
        ) AS oldest
    )
FROM jsonb_array_elements(CAST(:wanted AS jsonb)) AS wanted (value)
WHERE EXISTS (
    SELECT 1 FROM rollup
    WHERE sensor = CAST(wanted.value ->> 0 AS bigint) AND level IN (60, 3600)
    AND start >= CAST(wanted.value ->> 1 AS bigint)
    AND start < CAST(wanted.value ->> 2 AS bigint)
);

-- name: measurements_keep_partition(start, end, moment, default_days, by_floors)
-- A row if between start and end there is any that is not due, by the rules as they are now. Of
-- measurements none is due, `by_floors`, that its sensor's rollups may still need. A search a
-- sensor, not a row.
WITH RECURSIVE present (sensor) AS (
    (
        SELECT sensor FROM measurement
        WHERE timestamp >= :start AND timestamp < :end
        ORDER BY sensor LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT measurement.sensor FROM measurement
        WHERE measurement.sensor > present.sensor
        AND measurement.timestamp >= :start AND measurement.timestamp < :end
        ORDER BY measurement.sensor LIMIT 1
    )
    FROM present
    WHERE present.sensor IS NOT NULL
),
kept (sensor, since) AS (
    SELECT present.sensor, least(
        CASE
            WHEN sensor.number IS NULL OR days.count = 0 THEN 0
            ELSE (:moment - days.count * 86400000000) / 3600000000 * 3600000000
        END,
        CASE WHEN :by_floors THEN coalesce(rollup_floor.raw_from, 0) ELSE :end END
    )
    FROM present
    LEFT JOIN sensor ON sensor.number = present.sensor
    LEFT JOIN sensor_retention AS own ON own.sensor = sensor.number
    LEFT JOIN network_retention AS whole ON whole.network = sensor.network_identifier
    LEFT JOIN rollup_floor ON rollup_floor.sensor = present.sensor
    CROSS JOIN LATERAL (
        SELECT coalesce(own.raw_days, whole.raw_days, CAST(:default_days AS bigint)) AS count
    ) AS days
    WHERE present.sensor IS NOT NULL
)
SELECT kept.sensor
FROM kept
WHERE kept.since < :end
AND EXISTS (
    SELECT 1 FROM measurement
    WHERE measurement.sensor = kept.sensor
    AND measurement.timestamp >= :start AND measurement.timestamp < :end
    AND measurement.timestamp >= kept.since
)
LIMIT 1;

-- name: measurements_in_partition(start, end)
SELECT 1 FROM measurement WHERE timestamp >= :start AND timestamp < :end LIMIT 1;

-- name: logs_keep_partition(start, end, moment, default_days)
WITH RECURSIVE present (sensor) AS (
    (
        SELECT sensor FROM log
        WHERE timestamp >= :start AND timestamp < :end
        ORDER BY sensor LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT log.sensor FROM log
        WHERE log.sensor > present.sensor
        AND log.timestamp >= :start AND log.timestamp < :end
        ORDER BY log.sensor LIMIT 1
    )
    FROM present
    WHERE present.sensor IS NOT NULL
),
kept (sensor, since) AS (
    SELECT present.sensor, CASE
        WHEN sensor.number IS NULL OR days.count = 0 THEN 0
        ELSE (:moment - days.count * 86400000000) / 3600000000 * 3600000000
    END
    FROM present
    LEFT JOIN sensor ON sensor.number = present.sensor
    LEFT JOIN sensor_retention AS own ON own.sensor = sensor.number
    LEFT JOIN network_retention AS whole ON whole.network = sensor.network_identifier
    CROSS JOIN LATERAL (
        SELECT coalesce(own.log_days, whole.log_days, CAST(:default_days AS bigint)) AS count
    ) AS days
    WHERE present.sensor IS NOT NULL
)
SELECT kept.sensor
FROM kept
WHERE kept.since < :end
AND EXISTS (
    SELECT 1 FROM log
    WHERE log.sensor = kept.sensor
    AND log.timestamp >= :start AND log.timestamp < :end
    AND log.timestamp >= kept.since
)
LIMIT 1;

-- name: partition_sizes(parent)
-- Of each partition: its name, its rows as the server's statistics have them, its bytes. Where it
-- has lost these, after a crash, there are those that the last VACUUM or ANALYZE has counted.
SELECT
    child.relname,
    coalesce(
        nullif(pg_stat_get_live_tuples(child.oid), 0),
        greatest(CAST(child.reltuples AS bigint), 0)
    ),
    pg_total_relation_size(child.oid)
FROM pg_inherits
JOIN pg_class AS child ON child.oid = pg_inherits.inhrelid
WHERE pg_inherits.inhparent = CAST(CAST(:parent AS text) AS regclass);

-- Of the rows that are due so many in 1,009, whatever times they are at: key, sensor, and bytes of
-- content each, as they are stored.

-- name: measurements_sample_due(wanted, share)
SELECT id, measurement.sensor, pg_column_size(measurement.value)
FROM jsonb_array_elements(CAST(:wanted AS jsonb)) AS wanted (value)
JOIN measurement ON measurement.sensor = CAST(wanted.value ->> 0 AS bigint)
AND measurement.timestamp >= CAST(wanted.value ->> 1 AS bigint)
AND measurement.timestamp < CAST(wanted.value ->> 2 AS bigint)
WHERE (measurement.timestamp / 1000) % 1009 < :share;

-- name: logs_sample_due(wanted, share)
SELECT id, log.sensor,
    pg_column_size(log.severity) + pg_column_size(log.subject)
    + coalesce(pg_column_size(log.details), 0)
FROM jsonb_array_elements(CAST(:wanted AS jsonb)) AS wanted (value)
JOIN log ON log.sensor = CAST(wanted.value ->> 0 AS bigint)
AND log.timestamp >= CAST(wanted.value ->> 1 AS bigint)
AND log.timestamp < CAST(wanted.value ->> 2 AS bigint)
WHERE (log.timestamp / 1000) % 1009 < :share;

-- name: heartbeats_sample_due(wanted, share)
SELECT id, heartbeat.sensor, coalesce(pg_column_size(heartbeat.details), 0)
FROM jsonb_array_elements(CAST(:wanted AS jsonb)) AS wanted (value)
JOIN heartbeat ON heartbeat.sensor = CAST(wanted.value ->> 0 AS bigint)
AND heartbeat.timestamp >= CAST(wanted.value ->> 1 AS bigint)
AND heartbeat.timestamp < CAST(wanted.value ->> 2 AS bigint)
WHERE (heartbeat.timestamp / 1000) % 1009 < :share;

-- name: packets_sample_due(wanted, share)
SELECT id, packet.sensor, {packet_content}
FROM jsonb_array_elements(CAST(:wanted AS jsonb)) AS wanted (value)
JOIN packet ON packet.sensor = CAST(wanted.value ->> 0 AS bigint)
AND packet.timestamp >= CAST(wanted.value ->> 1 AS bigint)
AND packet.timestamp < CAST(wanted.value ->> 2 AS bigint)
WHERE (packet.timestamp / 1000) % 1009 < :share;

-- shared: packet_content
octet_length(device_id) + octet_length(principal) + octet_length(source)
+ pg_column_size(payload) + coalesce(octet_length(packet.network_identifier), 0)

-- name: rollups_sample_due(wanted, share)
SELECT 0, rollup.sensor, pg_column_size(rollup.packed)
FROM jsonb_array_elements(CAST(:wanted AS jsonb)) AS wanted (value)
JOIN rollup ON rollup.sensor = CAST(wanted.value ->> 0 AS bigint)
AND rollup.level IN (60, 3600)
AND rollup.start >= CAST(wanted.value ->> 1 AS bigint)
AND rollup.start < CAST(wanted.value ->> 2 AS bigint)
WHERE (rollup.start / 60000000) % 1009 < :share;

-- name: disk_used()^
SELECT pg_database_size(current_database());
