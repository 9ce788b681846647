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
    FROM jsonb_array_elements(CAST(:rows AS jsonb))
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
    FROM jsonb_array_elements(CAST(:rows AS jsonb))
) AS received
JOIN packet USING (device_id, timestamp, fingerprint);

-- name: actions_store(rows, until, server)
-- Only what follows from a packet that is stored under this very id: a repeat has none. With a time
-- until which it holds it is claimed at once, by the server of this token.
INSERT INTO action (
    rule, position, sensor, timestamp, fingerprint, message, network_identifier, type, body,
    due_at, created_at, attempts, claimant
)
SELECT
    rule, position, sensor, timestamp, fingerprint, message, network_identifier, type, body,
    coalesce(CAST(:until AS bigint), due_at), created_at,
    CASE WHEN CAST(:until AS bigint) IS NULL THEN 0 ELSE 1 END,
    CASE WHEN CAST(:until AS bigint) IS NOT NULL THEN nullif(CAST(:server AS text), '') END
FROM (
    SELECT
        value ->> 0 AS rule, CAST(value ->> 1 AS bigint) AS position,
        CAST(value ->> 2 AS bigint) AS sensor, CAST(value ->> 3 AS bigint) AS timestamp,
        CAST(value ->> 4 AS bigint) AS fingerprint, CAST(value ->> 5 AS bigint) AS message,
        value ->> 6 AS network_identifier, value ->> 7 AS type, value ->> 8 AS body,
        CAST(value ->> 9 AS bigint) AS due_at, CAST(value ->> 10 AS bigint) AS created_at
    FROM jsonb_array_elements(CAST(:rows AS jsonb))
) AS due
WHERE EXISTS (SELECT 1 FROM packet WHERE packet.id = due.message)
ON CONFLICT (rule, position, sensor, timestamp, fingerprint, type) DO NOTHING
RETURNING {action_claim};

-- name: observations_store(rows)
-- Only of rows that are stored under this very id: a repeat is no observation. And where a row need
-- not be looked at, only while the state is not idle, or may not be once others have been looked at.
WITH seen AS MATERIALIZED (
    SELECT
        value ->> 0 AS rule, CAST(value ->> 1 AS bigint) AS sensor,
        CAST(value ->> 2 AS bigint) AS timestamp, CAST(value ->> 3 AS bigint) AS fingerprint,
        CAST(value ->> 4 AS bigint) AS id, CAST(value ->> 5 AS bigint) AS receipt_timestamp,
        value ->> 6 AS kind, value ->> 7 AS verdict,
        value ->> 8 AS value, CAST(value ->> 9 AS bigint) AS first_id,
        CAST(value ->> 10 AS boolean) AS must
    FROM jsonb_array_elements(CAST(:rows AS jsonb))
),
newest AS MATERIALIZED (
    SELECT
        kind, sensor,
        CASE kind
            WHEN 'measurement' THEN (
                SELECT timestamp FROM measurement
                WHERE measurement.sensor = kinds.sensor AND measurement.id < kinds.first_id
                ORDER BY timestamp DESC LIMIT 1
            )
            WHEN 'log' THEN (
                SELECT timestamp FROM log
                WHERE log.sensor = kinds.sensor AND log.id < kinds.first_id
                ORDER BY timestamp DESC LIMIT 1
            )
            WHEN 'heartbeat' THEN (
                SELECT timestamp FROM heartbeat
                WHERE heartbeat.sensor = kinds.sensor AND heartbeat.id < kinds.first_id
                ORDER BY timestamp DESC LIMIT 1
            )
            ELSE (
                SELECT timestamp FROM packet
                WHERE packet.sensor = kinds.sensor AND packet.id < kinds.first_id
                ORDER BY timestamp DESC LIMIT 1
            )
        END AS timestamp
    FROM (SELECT DISTINCT kind, sensor, first_id FROM seen WHERE must) AS kinds
)
INSERT INTO observation (
    rule, sensor, timestamp, fingerprint, id, receipt_timestamp, kind, verdict, value, newest
)
SELECT
    seen.rule, seen.sensor, seen.timestamp, seen.fingerprint, seen.id, seen.receipt_timestamp,
    seen.kind, seen.verdict, seen.value, newest.timestamp
FROM seen
LEFT JOIN newest ON newest.kind = seen.kind AND newest.sensor = seen.sensor
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
AND (
    seen.must
    OR EXISTS (
        SELECT 1 FROM rule_state
        WHERE rule_state.rule = seen.rule AND rule_state.sensor = seen.sensor
        AND rule_state.phase <> 'idle'
    )
    OR EXISTS (
        SELECT 1 FROM observation AS waiting
        WHERE waiting.rule = seen.rule AND waiting.sensor = seen.sensor
    )
)
ON CONFLICT (rule, sensor, timestamp, fingerprint) DO NOTHING;

-- name: observations_settle(keys)!
-- What has been looked at.
DELETE FROM observation
WHERE (rule, sensor, timestamp, fingerprint) IN (
    SELECT
        value ->> 0, CAST(value ->> 1 AS bigint), CAST(value ->> 2 AS bigint),
        CAST(value ->> 3 AS bigint)
    FROM jsonb_array_elements(CAST(:keys AS jsonb))
);

-- name: rule_states_find(pairs)
SELECT rule_state.rule, rule_state.sensor, rule_state.state, rule_state.basis
FROM (
    SELECT value ->> 0 AS rule, CAST(value ->> 1 AS bigint) AS sensor
    FROM jsonb_array_elements(CAST(:pairs AS jsonb))
) AS wanted
JOIN rule_state ON rule_state.rule = wanted.rule AND rule_state.sensor = wanted.sensor;

-- shared: rule_states_insert
INSERT INTO rule_state (rule, sensor, state, basis, phase, due_at)
SELECT rule, sensor, state, basis, phase, due_at
FROM (
    SELECT
        value ->> 0 AS rule, CAST(value ->> 1 AS bigint) AS sensor,
        value ->> 2 AS state, CAST(value ->> 3 AS bigint) AS basis,
        value ->> 4 AS phase, CAST(value ->> 5 AS bigint) AS due_at
    FROM jsonb_array_elements(CAST(:rows AS jsonb))
) AS given
WHERE EXISTS (SELECT 1 FROM rule WHERE rule.identifier = given.rule)

-- name: rule_states_store(rows)!
-- A rule that was deleted meanwhile has none.
{rule_states_insert}
ON CONFLICT (rule, sensor) DO UPDATE SET
    state = excluded.state, basis = excluded.basis, phase = excluded.phase,
    due_at = excluded.due_at;

-- name: rule_states_begin(rows)!
-- Of sensors of which the rule has none yet.
{rule_states_insert}
ON CONFLICT (rule, sensor) DO NOTHING;

-- name: rule_states_end(pairs)!
DELETE FROM rule_state
WHERE (rule, sensor) IN (
    SELECT value ->> 0, CAST(value ->> 1 AS bigint)
    FROM jsonb_array_elements(CAST(:pairs AS jsonb))
);

-- name: rule_actions_store(rows)!
-- What a rule has begun: once each, whoever comes to it again.
INSERT INTO action (
    rule, position, sensor, timestamp, fingerprint, message, network_identifier, type, body,
    due_at, created_at, state, finished_at, error
)
SELECT
    value ->> 0 AS rule, CAST(value ->> 1 AS bigint) AS position,
    CAST(value ->> 2 AS bigint) AS sensor,
    CAST(value ->> 3 AS bigint) AS timestamp, CAST(value ->> 4 AS bigint) AS fingerprint,
    CAST(value ->> 5 AS bigint) AS message, value ->> 6 AS network_identifier,
    value ->> 7 AS type, value ->> 8 AS body,
    CAST(value ->> 9 AS bigint) AS due_at, CAST(value ->> 10 AS bigint) AS created_at,
    value ->> 11 AS state, CAST(value ->> 12 AS bigint) AS finished_at,
    value ->> 13 AS error
FROM jsonb_array_elements(CAST(:rows AS jsonb))
WHERE true
ON CONFLICT (rule, position, sensor, timestamp, fingerprint, type) DO NOTHING;

-- name: rules_turn()
-- Whether this server may move the states of rules in the open transaction: one at a time does.
SELECT CAST(pg_try_advisory_xact_lock(5209617) AS integer);

-- name: sensors_matched(network, names, tags)
-- Those in use of a network; with names or tags only those called so, or with one of the tags.
SELECT number FROM sensor
WHERE network_identifier = :network AND is_active AND deleted_at IS NULL
AND (
    CAST(:names AS text) IS NULL
    OR identifier IN (SELECT json_array_elements_text(CAST(:names AS json)))
    OR device_id IN (SELECT json_array_elements_text(CAST(:names AS json)))
    OR EXISTS (
        SELECT 1 FROM json_array_elements_text(CAST(sensor.tags AS json)) AS own (value)
        WHERE own.value IN (SELECT json_array_elements_text(CAST(:tags AS json)))
    )
)
ORDER BY number;

-- name: actions_claim(now, until, later, type, limit, suspects, ended, server)
-- Materialized: a plan that looks for them once for each row of the table would claim more.
WITH due AS MATERIALIZED (
    SELECT id, attempts, {action_is_suspect} AS is_suspect FROM action
    WHERE state = 'pending' AND type = :type AND due_at <= :now
    ORDER BY due_at, id
    LIMIT :limit
    FOR UPDATE SKIP LOCKED
)
UPDATE action
SET
    claimant = nullif(CAST(:server AS text), ''),
{action_claimed};

-- Claimed by a server that is gone: its lease has run out. For a server that begins also by one whose
-- connection is gone, which it may be the successor of. Later a connection that is gone says little:
-- who is connecting anew runs what it has claimed.
-- shared: action_is_abandoned
action.state = 'pending' AND action.type IN (SELECT type FROM ({types_wanted}) AS wanted)
AND action.due_at > CAST(:now AS bigint)
AND action.claimant IS NOT NULL
AND NOT EXISTS (
    SELECT FROM instance
    WHERE instance.token = action.claimant
    AND instance.expires_at > {clock}
    AND (
        NOT CAST(:begins AS boolean)
        OR EXISTS (
            SELECT FROM pg_stat_activity AS activity
            WHERE activity.pid = instance.backend
            AND activity.datname = current_database()
            AND starts_with(coalesce(activity.application_name, 'heliograph writer'), 'heliograph writer')
        )
    )
)

-- name: actions_abandoned(now, types, begins)
SELECT EXISTS (SELECT FROM action WHERE {action_is_abandoned});

-- name: actions_take_over(now, types, begins)
UPDATE action SET due_at = :now, claimant = NULL
WHERE {action_is_abandoned}
RETURNING id;

-- name: actions_settle(rows)
-- Those that somebody else has settled or claimed meanwhile stay as they are, unless they are done.
UPDATE action
SET
    state = settled.state, attempts = settled.attempts, due_at = settled.due_at,
    finished_at = settled.finished_at, error = settled.error, claimant = NULL
FROM (
    SELECT
        CAST(value ->> 0 AS bigint) AS id, value ->> 1 AS state,
        CAST(value ->> 2 AS bigint) AS attempts, CAST(value ->> 3 AS bigint) AS due_at,
        CAST(value ->> 4 AS bigint) AS finished_at, value ->> 5 AS error,
        CAST(value ->> 6 AS bigint) AS claim
    FROM jsonb_array_elements(CAST(:rows AS jsonb))
) AS settled
WHERE action.id = settled.id AND action.state = 'pending'
AND (settled.state = 'done' OR action.attempts = settled.claim)
RETURNING action.id;
