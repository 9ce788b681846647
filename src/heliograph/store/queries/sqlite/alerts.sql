-- shared: alert_pairs
SELECT json_extract(value, '$[0]') AS rule, json_extract(value, '$[1]') AS sensor
FROM json_each(:pairs)

-- name: alerts_newest(pairs)
-- The transaction is the only one that writes.
SELECT {alert_columns}
FROM ({newest_of_pairs}) AS newest
JOIN alert ON alert.id = newest.id
LEFT JOIN sensor ON sensor.number = alert.sensor
ORDER BY alert.id;

-- name: alerts_create(rows, now)!
INSERT INTO alert (
    rule, sensor, network_identifier, name, severity, summary, raised_at, telling, noted_at
)
SELECT
    json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]'),
    json_extract(value, '$[6]'), json_extract(value, '$[7]'), :now
FROM json_each(:rows);

-- name: alert_events_add(rows, now)!
INSERT INTO alert_event (alert, timestamp, event, actor, detail)
SELECT
    json_extract(value, '$[0]'), :now, json_extract(value, '$[1]'),
    json_extract(value, '$[2]'), json_extract(value, '$[3]')
FROM json_each(:rows);

-- name: alert_locked(id)
SELECT {alert_columns}
FROM alert LEFT JOIN sensor ON sensor.number = alert.sensor
WHERE alert.id = :id;

-- name: alerts_take_due(now, limit)
SELECT {alert_columns}
FROM alert LEFT JOIN sensor ON sensor.number = alert.sensor
WHERE alert.due_at <= :now
ORDER BY alert.due_at, alert.id
LIMIT :limit;

-- name: alerts_orphaned(limit)
SELECT {alert_columns}
{orphans}
ORDER BY alert.id
LIMIT :limit;

-- name: alerts_change(rows)!
UPDATE alert
SET
    name = given.name, severity = given.severity, summary = given.summary,
    acknowledged_at = given.acknowledged_at, acknowledged_by = given.acknowledged_by,
    comment = given.comment, cleared_at = given.cleared_at, cleared_by = given.cleared_by,
    count = given.count, due_at = given.due_at, telling = given.telling
FROM (
    SELECT
        json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS name,
        json_extract(value, '$[2]') AS severity, json_extract(value, '$[3]') AS summary,
        json_extract(value, '$[4]') AS acknowledged_at,
        json_extract(value, '$[5]') AS acknowledged_by, json_extract(value, '$[6]') AS comment,
        json_extract(value, '$[7]') AS cleared_at, json_extract(value, '$[8]') AS cleared_by,
        json_extract(value, '$[9]') AS count, json_extract(value, '$[10]') AS due_at,
        json_extract(value, '$[11]') AS telling
    FROM json_each(:rows)
) AS given
WHERE alert.id = given.id;
