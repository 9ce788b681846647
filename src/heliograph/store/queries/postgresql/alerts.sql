-- name: alert_newest(rule, sensor)
-- Whoever else changes it waits.
SELECT {alert_columns}
FROM alert LEFT JOIN sensor ON sensor.number = alert.sensor
WHERE alert.rule = :rule AND alert.sensor = :sensor
ORDER BY alert.id DESC
LIMIT 1
FOR UPDATE OF alert;

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
-- Open, of rules that are gone or switched off, or of sensors that are gone.
SELECT {alert_columns}
FROM alert LEFT JOIN sensor ON sensor.number = alert.sensor
WHERE alert.cleared_at IS NULL
-- The name of a condition of the server's own is no UUID.
AND length(alert.rule) = 36
AND (
    NOT EXISTS (SELECT 1 FROM rule WHERE rule.identifier = alert.rule AND rule.enabled)
    OR (alert.sensor <> 0 AND (sensor.number IS NULL OR sensor.deleted_at IS NOT NULL))
)
ORDER BY alert.id
LIMIT :limit
FOR UPDATE OF alert SKIP LOCKED;
