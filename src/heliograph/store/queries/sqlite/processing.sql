-- shared: types_wanted
SELECT value AS type FROM json_each(:types)

-- What a batch of the pipeline stores beside telemetry: `rows` is JSON, in the order of the records'
-- rows.

-- name: packets_store(rows)
INSERT INTO packet (
    id, sensor, timestamp, fingerprint, receipt_timestamp, device_id, network_identifier,
    principal, source, payload
)
SELECT
    id, sensor, timestamp, fingerprint, receipt_timestamp, device_id, network_identifier,
    principal, source, payload
FROM (
    SELECT
        json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS sensor,
        json_extract(value, '$[2]') AS timestamp, json_extract(value, '$[3]') AS fingerprint,
        json_extract(value, '$[4]') AS receipt_timestamp, json_extract(value, '$[5]') AS device_id,
        json_extract(value, '$[6]') AS network_identifier,
        json_extract(value, '$[7]') AS principal, json_extract(value, '$[8]') AS source,
        json_extract(value, '$[9]') AS payload
    FROM json_each(:rows)
) AS received
WHERE true
ON CONFLICT (id) DO NOTHING
ON CONFLICT (device_id, timestamp, fingerprint) DO NOTHING;

-- name: packets_earlier(rows)
-- The id of each row, and the one under which the packet is stored.
SELECT received.id, packet.id
FROM (
    SELECT
        json_extract(value, '$[0]') AS id, json_extract(value, '$[2]') AS timestamp,
        json_extract(value, '$[3]') AS fingerprint, json_extract(value, '$[5]') AS device_id
    FROM json_each(:rows)
) AS received
JOIN packet USING (device_id, timestamp, fingerprint);

-- name: actions_store(rows)
-- Only what follows from a packet that is stored under this very id: a repeat has none.
INSERT INTO action (
    rule, position, sensor, timestamp, fingerprint, message, network_identifier, type, body,
    due_at, created_at
)
SELECT
    rule, position, sensor, timestamp, fingerprint, message, network_identifier, type, body,
    due_at, created_at
FROM (
    SELECT
        json_extract(value, '$[0]') AS rule, json_extract(value, '$[1]') AS position,
        json_extract(value, '$[2]') AS sensor, json_extract(value, '$[3]') AS timestamp,
        json_extract(value, '$[4]') AS fingerprint, json_extract(value, '$[5]') AS message,
        json_extract(value, '$[6]') AS network_identifier, json_extract(value, '$[7]') AS type,
        json_extract(value, '$[8]') AS body, json_extract(value, '$[9]') AS due_at,
        json_extract(value, '$[10]') AS created_at
    FROM json_each(:rows)
) AS due
WHERE EXISTS (SELECT 1 FROM packet WHERE packet.id = due.message)
ON CONFLICT (rule, position, sensor, timestamp, fingerprint, type) DO NOTHING;

-- name: observations_store(rows)
-- Only of rows that are stored under this very id: a repeat is no observation.
INSERT INTO observation (
    rule, sensor, timestamp, fingerprint, id, receipt_timestamp, kind, verdict, value
)
SELECT
    rule, sensor, timestamp, fingerprint, id, receipt_timestamp, kind, verdict, value
FROM (
    SELECT
        json_extract(value, '$[0]') AS rule, json_extract(value, '$[1]') AS sensor,
        json_extract(value, '$[2]') AS timestamp, json_extract(value, '$[3]') AS fingerprint,
        json_extract(value, '$[4]') AS id, json_extract(value, '$[5]') AS receipt_timestamp,
        json_extract(value, '$[6]') AS kind, json_extract(value, '$[7]') AS verdict,
        json_extract(value, '$[8]') AS value
    FROM json_each(:rows)
) AS seen
WHERE CASE seen.kind
    WHEN 'measurement' THEN EXISTS (
        SELECT 1 FROM measurement
        WHERE measurement.sensor = seen.sensor AND measurement.timestamp = seen.timestamp
        AND measurement.fingerprint = seen.fingerprint AND measurement.id = seen.id
    )
    WHEN 'log' THEN EXISTS (
        SELECT 1 FROM log
        WHERE log.sensor = seen.sensor AND log.timestamp = seen.timestamp
        AND log.fingerprint = seen.fingerprint AND log.id = seen.id
    )
    WHEN 'heartbeat' THEN EXISTS (
        SELECT 1 FROM heartbeat
        WHERE heartbeat.sensor = seen.sensor AND heartbeat.timestamp = seen.timestamp
        AND heartbeat.fingerprint = seen.fingerprint AND heartbeat.id = seen.id
    )
    ELSE EXISTS (SELECT 1 FROM packet WHERE packet.id = seen.id)
END
ON CONFLICT (rule, sensor, timestamp, fingerprint) DO NOTHING;

-- name: actions_claim(now, until, type, limit)
UPDATE action
SET due_at = :until, attempts = attempts + 1
WHERE id IN (
    SELECT id FROM action
    WHERE state = 'pending' AND type = :type AND due_at <= :now
    ORDER BY due_at, id
    LIMIT :limit
)
RETURNING
    id, rule, position, sensor, timestamp, fingerprint, message, network_identifier, type, body,
    attempts, created_at;

-- name: actions_settle(rows)
-- Those that somebody else has settled or claimed meanwhile stay as they are, unless they are done.
UPDATE action
SET
    state = settled.state, attempts = settled.attempts, due_at = settled.due_at,
    finished_at = settled.finished_at, error = settled.error
FROM (
    SELECT
        json_extract(value, '$[0]') AS id, json_extract(value, '$[1]') AS state,
        json_extract(value, '$[2]') AS attempts, json_extract(value, '$[3]') AS due_at,
        json_extract(value, '$[4]') AS finished_at, json_extract(value, '$[5]') AS error,
        json_extract(value, '$[6]') AS claim
    FROM json_each(:rows)
) AS settled
WHERE action.id = settled.id AND action.state = 'pending'
AND (settled.state = 'done' OR action.attempts = settled.claim)
RETURNING action.id;
