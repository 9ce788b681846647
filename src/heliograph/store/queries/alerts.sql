-- shared: alert_columns
    alert.id, alert.rule, alert.sensor, alert.network_identifier, alert.name, alert.severity,
    alert.summary, alert.raised_at, alert.noted_at, alert.acknowledged_at, alert.acknowledged_by,
    alert.comment, alert.cleared_at, alert.cleared_by, alert.count, alert.due_at, alert.telling,
    sensor.identifier, sensor.device_id, coalesce(sensor.sensor_name, sensor.name), sensor.tags

-- shared: alerts_which
(CAST(:networks AS text) IS NULL OR alert.network_identifier IN ({networks}))
AND (CAST(:severity AS text) IS NULL OR alert.severity = :severity)
AND (CAST(:rule AS text) IS NULL OR alert.rule = :rule)
AND (CAST(:sensor AS bigint) IS NULL OR alert.sensor = CAST(:sensor AS bigint))
AND CASE coalesce(CAST(:state AS text), '')
    WHEN '' THEN true
    WHEN 'open' THEN alert.cleared_at IS NULL
    WHEN 'cleared' THEN alert.cleared_at IS NOT NULL
    WHEN 'raised' THEN alert.cleared_at IS NULL AND alert.acknowledged_at IS NULL
    ELSE alert.cleared_at IS NULL AND alert.acknowledged_at IS NOT NULL
END

-- shared: orphans
-- Open, of rules that are gone or switched off, or of sensors that are gone.
FROM alert LEFT JOIN sensor ON sensor.number = alert.sensor
WHERE alert.cleared_at IS NULL
-- The name of a condition of the server's own is no UUID.
AND length(alert.rule) = 36
AND (
    NOT EXISTS (SELECT 1 FROM rule WHERE rule.identifier = alert.rule AND rule.enabled)
    OR (alert.sensor <> 0 AND (sensor.number IS NULL OR sensor.deleted_at IS NOT NULL))
)

-- Of each rule and sensor the id of its newest alert.
-- shared: newest_of_pairs
SELECT (
    SELECT max(alert.id) FROM alert
    WHERE alert.rule = wanted.rule AND alert.sensor = wanted.sensor
) AS id
FROM ({alert_pairs}) AS wanted

-- name: alerts_orphaned_any()
SELECT 1 {orphans} LIMIT 1;

-- name: alerts_list(networks, state, severity, rule, sensor, offset, limit)
-- Newest first.
SELECT {alert_columns}
FROM alert LEFT JOIN sensor ON sensor.number = alert.sensor
WHERE {alerts_which}
ORDER BY alert.id DESC
LIMIT :limit OFFSET :offset;

-- name: alerts_count(networks, state, severity, rule, sensor)
SELECT count(*) FROM alert WHERE {alerts_which};

-- name: alert_find(id)
SELECT {alert_columns}
FROM alert LEFT JOIN sensor ON sensor.number = alert.sensor
WHERE alert.id = :id;

-- name: alerts_due_at()
-- When the next one has to be looked at.
SELECT min(due_at) FROM alert WHERE due_at IS NOT NULL;

-- name: alerts_look_again(network, sensor, rule, now)!
-- Those that a silence may be about, which is another one than it was.
UPDATE alert SET due_at = :now
WHERE (cleared_at IS NULL OR due_at IS NOT NULL)
AND (CAST(:network AS text) IS NULL OR network_identifier = :network)
AND (CAST(:sensor AS bigint) IS NULL OR sensor = CAST(:sensor AS bigint))
AND (CAST(:rule AS text) IS NULL OR rule = :rule);

-- name: alerts_prune(before, limit)
DELETE FROM alert
WHERE id IN (
    SELECT id FROM alert
    WHERE cleared_at < :before AND due_at IS NULL
    ORDER BY cleared_at
    LIMIT :limit
)
RETURNING id;

-- name: alert_events(alert, limit)
-- The newest, the oldest of them first.
SELECT timestamp, event, actor, detail
FROM (
    SELECT id, timestamp, event, actor, detail
    FROM alert_event
    WHERE alert = :alert
    ORDER BY id DESC
    LIMIT :limit
) AS newest
ORDER BY id;

-- shared: silence_columns
    silence.identifier, silence.network_identifier, silence.sensor, silence.tag, silence.rule,
    silence.starts_at, silence.ends_at, silence.comment, silence.author, silence.created_at,
    sensor.identifier, sensor.device_id, coalesce(sensor.sensor_name, sensor.name)

-- shared: silences_which
(CAST(:networks AS text) IS NULL OR silence.network_identifier IN ({networks}))
AND silence.ends_at > :since

-- name: silences_list(networks, since, offset, limit)
SELECT {silence_columns}
FROM silence LEFT JOIN sensor ON sensor.number = silence.sensor
WHERE {silences_which}
ORDER BY silence.starts_at, silence.identifier
LIMIT :limit OFFSET :offset;

-- name: silences_count(networks, since)
SELECT count(*) FROM silence WHERE {silences_which};

-- name: silence_find(identifier)
SELECT {silence_columns}
FROM silence LEFT JOIN sensor ON sensor.number = silence.sensor
WHERE silence.identifier = :identifier;

-- name: silences_current(now, network)
-- That have not ended, of the alerts of a network, or of all; those of all networks with either.
SELECT {silence_columns}
FROM silence LEFT JOIN sensor ON sensor.number = silence.sensor
WHERE silence.ends_at > :now
AND (
    CAST(:network AS text) IS NULL
    OR silence.network_identifier IS NULL
    OR silence.network_identifier = :network
);

-- name: silence_create(identifier, network, sensor, tag, rule, starts_at, ends_at, comment, author, created_at)!
INSERT INTO silence (
    identifier, network_identifier, sensor, tag, rule, starts_at, ends_at, comment, author,
    created_at
)
VALUES (
    :identifier, :network, :sensor, :tag, :rule, :starts_at, :ends_at, :comment, :author,
    :created_at
);

-- name: silence_change(identifier, starts_at, ends_at, comment)!
UPDATE silence SET starts_at = :starts_at, ends_at = :ends_at, comment = :comment
WHERE identifier = :identifier;

-- name: silence_delete(identifier)
DELETE FROM silence WHERE identifier = :identifier RETURNING identifier;

-- name: silences_prune(before, limit)
DELETE FROM silence
WHERE identifier IN (SELECT identifier FROM silence WHERE ends_at < :before LIMIT :limit)
RETURNING identifier;
