-- shared: alert_pairs
SELECT value ->> 0 AS rule, CAST(value ->> 1 AS bigint) AS sensor
FROM jsonb_array_elements(CAST(:pairs AS jsonb))

-- name: alerts_newest(pairs)
-- Whoever else changes them waits.
SELECT {alert_columns}
FROM ({newest_of_pairs}) AS newest
JOIN alert ON alert.id = newest.id
LEFT JOIN sensor ON sensor.number = alert.sensor
ORDER BY alert.id
FOR UPDATE OF alert;

-- name: alerts_create(rows, now)!
INSERT INTO alert (
    rule, sensor, network_identifier, name, severity, summary, raised_at, telling, noted_at
)
SELECT
    value ->> 0, CAST(value ->> 1 AS bigint), value ->> 2,
    value ->> 3, value ->> 4, value ->> 5,
    CAST(value ->> 6 AS bigint), value ->> 7, CAST(:now AS bigint)
FROM jsonb_array_elements(CAST(:rows AS jsonb));

-- name: alert_events_add(rows, now)!
INSERT INTO alert_event (alert, timestamp, event, actor, detail)
SELECT
    CAST(value ->> 0 AS bigint), CAST(:now AS bigint), value ->> 1,
    value ->> 2, value ->> 3
FROM jsonb_array_elements(CAST(:rows AS jsonb));

-- name: alert_locked(id)
SELECT {alert_columns}
FROM alert LEFT JOIN sensor ON sensor.number = alert.sensor
WHERE alert.id = :id
FOR UPDATE OF alert;

-- name: alerts_take_due(now, limit)
SELECT {alert_columns}
FROM alert LEFT JOIN sensor ON sensor.number = alert.sensor
WHERE alert.due_at <= :now
ORDER BY alert.due_at, alert.id
LIMIT :limit
FOR UPDATE OF alert SKIP LOCKED;

-- name: alerts_orphaned(limit)
SELECT {alert_columns}
{orphans}
ORDER BY alert.id
LIMIT :limit
FOR UPDATE OF alert SKIP LOCKED;

-- name: alerts_change(rows)!
UPDATE alert
SET
    name = given.name, severity = given.severity, summary = given.summary,
    acknowledged_at = given.acknowledged_at, acknowledged_by = given.acknowledged_by,
    comment = given.comment, cleared_at = given.cleared_at, cleared_by = given.cleared_by,
    count = given.count, due_at = given.due_at, telling = given.telling
FROM (
    SELECT
        CAST(value ->> 0 AS bigint) AS id, value ->> 1 AS name, value ->> 2 AS severity,
        value ->> 3 AS summary, CAST(value ->> 4 AS bigint) AS acknowledged_at,
        value ->> 5 AS acknowledged_by, value ->> 6 AS comment,
        CAST(value ->> 7 AS bigint) AS cleared_at, value ->> 8 AS cleared_by,
        CAST(value ->> 9 AS bigint) AS count, CAST(value ->> 10 AS bigint) AS due_at,
        value ->> 11 AS telling
    FROM jsonb_array_elements(CAST(:rows AS jsonb))
) AS given
WHERE alert.id = given.id;
