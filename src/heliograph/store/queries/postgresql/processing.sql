-- shared: types_wanted
SELECT json_array_elements_text(CAST(:types AS json)) AS type

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
        CAST(value ->> 0 AS bigint) AS id, CAST(value ->> 1 AS bigint) AS sensor,
        CAST(value ->> 2 AS bigint) AS timestamp, CAST(value ->> 3 AS bigint) AS fingerprint,
        CAST(value ->> 4 AS bigint) AS receipt_timestamp, value ->> 5 AS device_id,
        value ->> 6 AS network_identifier, value ->> 7 AS principal, value ->> 8 AS source,
        value ->> 9 AS payload
    FROM json_array_elements(CAST(:rows AS json))
) AS received
WHERE true
ON CONFLICT DO NOTHING;

-- name: packets_earlier(rows)
-- The id of each row, and the one under which the packet is stored.
SELECT received.id, packet.id
FROM (
    SELECT
        CAST(value ->> 0 AS bigint) AS id, CAST(value ->> 2 AS bigint) AS timestamp,
        CAST(value ->> 3 AS bigint) AS fingerprint, value ->> 5 AS device_id
    FROM json_array_elements(CAST(:rows AS json))
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
        value ->> 0 AS rule, CAST(value ->> 1 AS bigint) AS position,
        CAST(value ->> 2 AS bigint) AS sensor, CAST(value ->> 3 AS bigint) AS timestamp,
        CAST(value ->> 4 AS bigint) AS fingerprint, CAST(value ->> 5 AS bigint) AS message,
        value ->> 6 AS network_identifier, value ->> 7 AS type, value ->> 8 AS body,
        CAST(value ->> 9 AS bigint) AS due_at, CAST(value ->> 10 AS bigint) AS created_at
    FROM json_array_elements(CAST(:rows AS json))
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
        value ->> 0 AS rule, CAST(value ->> 1 AS bigint) AS sensor,
        CAST(value ->> 2 AS bigint) AS timestamp, CAST(value ->> 3 AS bigint) AS fingerprint,
        CAST(value ->> 4 AS bigint) AS id, CAST(value ->> 5 AS bigint) AS receipt_timestamp,
        value ->> 6 AS kind, value ->> 7 AS verdict, value ->> 8 AS value
    FROM json_array_elements(CAST(:rows AS json))
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
-- Materialized: a plan that looks for them once for each row of the table would claim more.
WITH due AS MATERIALIZED (
    SELECT id FROM action
    WHERE state = 'pending' AND type = :type AND due_at <= :now
    ORDER BY due_at, id
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
)
UPDATE action
SET due_at = :until, attempts = attempts + 1
FROM due
WHERE action.id = due.id
RETURNING
    action.id, rule, position, sensor, timestamp, fingerprint, message, network_identifier, type,
    body, attempts, created_at;

-- name: actions_settle(rows)
-- Those that somebody else has settled or claimed meanwhile stay as they are, unless they are done.
UPDATE action
SET
    state = settled.state, attempts = settled.attempts, due_at = settled.due_at,
    finished_at = settled.finished_at, error = settled.error
FROM (
    SELECT
        CAST(value ->> 0 AS bigint) AS id, value ->> 1 AS state,
        CAST(value ->> 2 AS bigint) AS attempts, CAST(value ->> 3 AS bigint) AS due_at,
        CAST(value ->> 4 AS bigint) AS finished_at, value ->> 5 AS error,
        CAST(value ->> 6 AS bigint) AS claim
    FROM json_array_elements(CAST(:rows AS json))
) AS settled
WHERE action.id = settled.id AND action.state = 'pending'
AND (settled.state = 'done' OR action.attempts = settled.claim)
RETURNING action.id;
