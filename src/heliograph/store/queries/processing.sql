-- The outbox: what is to be done, and what was.

-- shared: action_columns
    id, rule, position, sensor, timestamp, fingerprint, message, network_identifier, type, body,
    state, attempts, due_at, created_at, finished_at, error

-- shared: actions_which
(CAST(:networks AS text) IS NULL OR network_identifier IN ({networks}))
AND (CAST(:state AS text) IS NULL OR state = :state)
AND (CAST(:type AS text) IS NULL OR type = :type)
AND (CAST(:rule AS text) IS NULL OR rule = :rule)
AND (CAST(:sensor AS bigint) IS NULL OR sensor = CAST(:sensor AS bigint))

-- What was claimed before and has no word of how that ended.
-- shared: action_unended
attempts > 0 AND (error IS NULL OR error = CAST(:ended AS text))

-- Begun more than once without a word: it may be what ended the server.
-- shared: action_is_suspect
attempts > 1 AND {action_unended}

-- What a claim changes. Of what is suspect one is begun, if any may be, and the others wait: that
-- which was begun least often, so that what ends the server comes last.
-- shared: action_claimed
    due_at = CASE
        WHEN claimed.is_begun THEN CAST(:until AS bigint) ELSE CAST(:later AS bigint)
    END,
    attempts = attempts + CASE WHEN claimed.is_begun THEN 1 ELSE 0 END,
    error = CASE
        WHEN NOT claimed.is_begun THEN error
        WHEN {action_unended} THEN CAST(:ended AS text)
    END
FROM (
    SELECT
        id,
        NOT is_suspect OR (
            CAST(:suspects AS boolean)
            AND id = (SELECT id FROM due WHERE is_suspect ORDER BY attempts, id LIMIT 1)
        ) AS is_begun
    FROM due
) AS claimed
WHERE action.id = claimed.id
RETURNING {action_claim}, COALESCE(attempts > 2 AND error = :ended, false), due_at

-- shared: action_claim
    action.id, rule, position, sensor, timestamp, fingerprint, message, network_identifier, type,
    body, attempts, created_at

-- name: actions_next_due(types)
-- Of each type: when the next one may be claimed. One look at the index each, however many wait.
SELECT type, due_at
FROM (
    SELECT
        wanted.type,
        (
            SELECT min(action.due_at) FROM action
            WHERE action.state = 'pending' AND action.type = wanted.type
        ) AS due_at
    FROM ({types_wanted}) AS wanted
) AS next
WHERE due_at IS NOT NULL;

-- name: actions_overdue()
SELECT min(due_at) FROM action WHERE state = 'pending';

-- name: actions_waiting(limit)
SELECT count(*) FROM (SELECT 1 FROM action WHERE state = 'pending' LIMIT :limit) AS waiting;

-- name: actions_hasten(now, until)
UPDATE action SET due_at = :now WHERE state = 'pending' AND due_at > :until
RETURNING id;

-- name: actions_list(networks, state, type, rule, sensor, offset, limit)
-- Newest first.
SELECT {action_columns}
FROM action
WHERE {actions_which}
ORDER BY id DESC
LIMIT :limit OFFSET :offset;

-- name: actions_count(networks, state, type, rule, sensor)
SELECT count(*) FROM action WHERE {actions_which};

-- name: action_find(id)
SELECT {action_columns} FROM action WHERE id = :id;

-- name: action_of_message(message, type)
SELECT {action_columns} FROM action WHERE message = :message AND type = :type ORDER BY position;

-- name: action_repeat(id, now)
-- Not what is waiting anyway.
UPDATE action
SET state = 'pending', attempts = 0, due_at = :now, finished_at = NULL, error = NULL
WHERE id = :id AND state <> 'pending'
RETURNING {action_columns};

-- name: actions_prune(before, limit)
DELETE FROM action
WHERE id IN (SELECT id FROM action WHERE finished_at < :before ORDER BY finished_at LIMIT :limit)
RETURNING id;

-- name: observations_take(limit, characters)
-- The oldest, in the order in which a rule has to look at them; the first of them however long.
SELECT rule, sensor, timestamp, fingerprint, id, receipt_timestamp, kind, verdict, value, newest
FROM (
    SELECT
        rule, sensor, timestamp, fingerprint, id, receipt_timestamp, kind, verdict, value, newest,
        sum(length(value)) OVER (ORDER BY id, rule) - length(value) AS before
    FROM (SELECT * FROM observation ORDER BY id, rule LIMIT :limit) AS oldest
) AS measured
WHERE before <= :characters
ORDER BY rule, sensor, timestamp, fingerprint;

-- name: observations_oldest()
SELECT receipt_timestamp FROM observation ORDER BY id LIMIT 1;

-- name: rule_states_due(now, limit)
-- What the clock may change, unless there is something to look at first.
SELECT rule, sensor, state, basis FROM rule_state
WHERE due_at <= :now AND NOT EXISTS (
    SELECT 1 FROM observation
    WHERE observation.rule = rule_state.rule AND observation.sensor = rule_state.sensor
)
ORDER BY due_at
LIMIT :limit;

-- name: rule_states_due_at()
SELECT min(due_at) FROM rule_state WHERE due_at IS NOT NULL;

-- name: rule_states_active()
-- What may change by the next message, or by the clock.
SELECT rule, sensor, basis FROM rule_state WHERE phase <> 'idle';

-- name: rule_states_awake()
-- Upon which sensors rules are not idle, or have something to look at.
SELECT rule, sensor FROM rule_state WHERE phase <> 'idle'
UNION
SELECT rule, sensor FROM observation;

-- name: {table}_by_key(sensor, timestamp, fingerprint)
SELECT * FROM {table}
WHERE sensor = :sensor AND timestamp = :timestamp AND fingerprint = :fingerprint;

-- name: packet_of_sensor(sensor, timestamp, fingerprint)
SELECT * FROM packet
WHERE sensor = :sensor AND timestamp = :timestamp AND fingerprint = :fingerprint;
