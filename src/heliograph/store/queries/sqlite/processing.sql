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

-- name: actions_store(rows, until)
-- Only what follows from a packet that is stored under this very id: a repeat has none. With a time
-- until which it holds it is claimed at once.
INSERT INTO action (
    rule, position, sensor, timestamp, fingerprint, message, network_identifier, type, body,
    due_at, created_at, attempts
)
SELECT
    rule, position, sensor, timestamp, fingerprint, message, network_identifier, type, body,
    coalesce(CAST(:until AS bigint), due_at), created_at,
    CASE WHEN CAST(:until AS bigint) IS NULL THEN 0 ELSE 1 END
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
ON CONFLICT (rule, position, sensor, timestamp, fingerprint, type) DO NOTHING
RETURNING {action_claim};

-- name: observations_store(rows)
-- Only of rows that are stored under this very id: a repeat is no observation. And where a row need
-- not be looked at, only while the state is not idle, or may not be once others have been looked at.
WITH seen AS MATERIALIZED (
    SELECT
        json_extract(value, '$[0]') AS rule, json_extract(value, '$[1]') AS sensor,
        json_extract(value, '$[2]') AS timestamp, json_extract(value, '$[3]') AS fingerprint,
        json_extract(value, '$[4]') AS id, json_extract(value, '$[5]') AS receipt_timestamp,
        json_extract(value, '$[6]') AS kind, json_extract(value, '$[7]') AS verdict,
        json_extract(value, '$[8]') AS value, json_extract(value, '$[9]') AS first_id,
        json_extract(value, '$[10]') AS must
    FROM json_each(:rows)
),
newest AS MATERIALIZED (
    SELECT
        kind, sensor,
        CASE kind
            WHEN 'measurement' THEN (
                SELECT timestamp FROM measurement_key
                WHERE measurement_key.sensor = kinds.sensor AND measurement_key.id < kinds.first_id
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
        SELECT 1 FROM measurement_key
        WHERE measurement_key.sensor = seen.sensor AND measurement_key.timestamp = seen.timestamp
        AND measurement_key.fingerprint = seen.fingerprint AND measurement_key.id = seen.id
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
-- One that an ambiguous commit has stored before is told of, too.
ON CONFLICT (rule, sensor, timestamp, fingerprint) DO UPDATE SET kind = excluded.kind
RETURNING rule, sensor;

-- name: observations_settle(keys)!
-- What has been looked at.
DELETE FROM observation
WHERE (rule, sensor, timestamp, fingerprint) IN (
    SELECT
        json_extract(value, '$[0]'), json_extract(value, '$[1]'),
        json_extract(value, '$[2]'), json_extract(value, '$[3]')
    FROM json_each(:keys)
);

-- name: rule_states_find(pairs)
SELECT rule_state.rule, rule_state.sensor, rule_state.state, rule_state.basis
FROM (
    SELECT json_extract(value, '$[0]') AS rule, json_extract(value, '$[1]') AS sensor
    FROM json_each(:pairs)
) AS wanted
JOIN rule_state ON rule_state.rule = wanted.rule AND rule_state.sensor = wanted.sensor;

-- shared: rule_states_insert
INSERT INTO rule_state (rule, sensor, state, basis, phase, due_at)
SELECT rule, sensor, state, basis, phase, due_at
FROM (
    SELECT
        json_extract(value, '$[0]') AS rule, json_extract(value, '$[1]') AS sensor,
        json_extract(value, '$[2]') AS state, json_extract(value, '$[3]') AS basis,
        json_extract(value, '$[4]') AS phase, json_extract(value, '$[5]') AS due_at
    FROM json_each(:rows)
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
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]')
    FROM json_each(:pairs)
);

-- name: rule_actions_store(rows)!
-- What a rule has begun: once each, whoever comes to it again.
INSERT INTO action (
    rule, position, sensor, timestamp, fingerprint, message, network_identifier, type, body,
    due_at, created_at, state, finished_at, error
)
SELECT
    json_extract(value, '$[0]') AS rule, json_extract(value, '$[1]') AS position,
    json_extract(value, '$[2]') AS sensor,
    json_extract(value, '$[3]') AS timestamp, json_extract(value, '$[4]') AS fingerprint,
    json_extract(value, '$[5]') AS message, json_extract(value, '$[6]') AS network_identifier,
    json_extract(value, '$[7]') AS type, json_extract(value, '$[8]') AS body,
    json_extract(value, '$[9]') AS due_at, json_extract(value, '$[10]') AS created_at,
    json_extract(value, '$[11]') AS state, json_extract(value, '$[12]') AS finished_at,
    json_extract(value, '$[13]') AS error
FROM json_each(:rows)
WHERE true
ON CONFLICT (rule, position, sensor, timestamp, fingerprint, type) DO NOTHING;

-- name: rules_turn()
-- Whether this server may move the states of rules in the open transaction: one at a time does.
SELECT 1;

-- name: sensors_matched(network, names, tags)
-- Those in use of a network; with names or tags only those called so, or with one of the tags.
SELECT number FROM sensor
WHERE network_identifier = :network AND is_active AND deleted_at IS NULL
AND (
    CAST(:names AS text) IS NULL
    OR identifier IN (SELECT value FROM json_each(:names))
    OR device_id IN (SELECT value FROM json_each(:names))
    OR EXISTS (
        SELECT 1 FROM json_each(sensor.tags) AS own
        WHERE own.value IN (SELECT value FROM json_each(:tags))
    )
)
ORDER BY number;

-- name: actions_claim(now, until, later, type, limit, suspects, ended)
WITH due AS MATERIALIZED (
    SELECT id, attempts, {action_is_suspect} AS is_suspect FROM action
    WHERE state = 'pending' AND type = :type AND due_at <= :now
    ORDER BY due_at, id
    LIMIT :limit
)
UPDATE action
SET
{action_claimed};

-- name: actions_release(now, until, types)
-- What a server that is gone had claimed; what fails again and again comes a little earlier by that.
UPDATE action SET due_at = :now
WHERE state = 'pending' AND due_at BETWEEN :now AND :until
AND type IN (SELECT type FROM ({types_wanted}) AS wanted)
RETURNING id;

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
