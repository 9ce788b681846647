-- Where alerts are told, and what is to be told there.

-- shared: channel_columns
    identifier, network_identifier, name, type, enabled, definition, secrets, created_at, changed_at

-- shared: channels_wanted
FROM channel
WHERE (CAST(:networks AS text) IS NULL OR network_identifier IN ({networks}))

-- name: channels_list(networks, offset, limit)
SELECT {channel_columns}
{channels_wanted}
ORDER BY created_at, identifier
LIMIT :limit OFFSET :offset;

-- name: channels_count(networks)$
SELECT count(*) {channels_wanted};

-- name: channels_with_secrets()
SELECT {channel_columns} FROM channel WHERE secrets IS NOT NULL ORDER BY created_at, identifier;

-- name: channels_of_network(network)$
-- Null: those of the server.
SELECT count(*) FROM channel
WHERE coalesce(network_identifier, '') = coalesce(CAST(:network AS text), '');

-- name: channel_find(identifier)^
SELECT {channel_columns} FROM channel WHERE identifier = :identifier;

-- name: channel_called(network, name)^
SELECT {channel_columns} FROM channel
WHERE coalesce(network_identifier, '') = coalesce(CAST(:network AS text), '') AND name = :name;

-- name: channel_create(identifier, network, name, type, enabled, definition, secrets, created_at)^
INSERT INTO channel (
    identifier, network_identifier, name, type, enabled, definition, secrets, created_at, changed_at
)
VALUES (
    :identifier, :network, :name, :type, :enabled, :definition, :secrets, :created_at, :created_at
)
RETURNING {channel_columns};

-- name: channel_change(identifier, name, type, enabled, definition, secrets, changed_at)^
UPDATE channel
SET
    name = :name, type = :type, enabled = :enabled, definition = :definition, secrets = :secrets,
    changed_at = :changed_at
WHERE identifier = :identifier
RETURNING {channel_columns};

-- name: channel_encrypt(identifier, former, secrets)
-- Not what somebody else has changed meanwhile.
UPDATE channel SET secrets = :secrets
WHERE identifier = :identifier AND secrets = :former
RETURNING identifier;

-- name: channel_delete(identifier)^
DELETE FROM channel WHERE identifier = :identifier RETURNING {channel_columns};

-- name: notices_tell(rows, now)!
-- Each to those named, by name or identifier; null: to all of the network.
INSERT INTO notice (channel, notice, created_at)
SELECT channel.identifier, told.notice, :now
FROM ({notices_told}) AS told
JOIN channel ON coalesce(channel.network_identifier, '') = coalesce(told.network, '')
WHERE channel.enabled
AND (
    told.channels IS NULL
    OR channel.name IN ({channels_named})
    OR channel.identifier IN ({channels_named})
)
ORDER BY told.position;

-- name: notices_due_at(now, settle, longest)
-- When something is to be gathered or sent next: a notice waits for those that come with it, as
-- long as more come. One from before the clock was put back waits no longer.
SELECT min(at) FROM (
    SELECT min(due_at) AS at FROM channel_state
    UNION ALL
    SELECT min(
        CASE
            WHEN newest > CAST(:now AS bigint) THEN 0
            WHEN newest + CAST(:settle AS bigint) < oldest + CAST(:longest AS bigint)
                THEN newest + CAST(:settle AS bigint)
            ELSE oldest + CAST(:longest AS bigint)
        END
    ) FROM (
        SELECT min(created_at) AS oldest, max(created_at) AS newest FROM notice GROUP BY channel
    ) AS waiting
) AS next;

-- name: notices_take(channel, limit)
DELETE FROM notice
WHERE id IN (SELECT id FROM notice WHERE channel = :channel ORDER BY id LIMIT :limit)
RETURNING id, notice;

-- name: channel_state_read(channel)$
SELECT state FROM channel_state WHERE channel = :channel;

-- name: channel_state_set(channel, state, due_at)!
INSERT INTO channel_state (channel, state, due_at)
VALUES (:channel, :state, :due_at)
ON CONFLICT (channel) DO UPDATE SET state = excluded.state, due_at = excluded.due_at;

-- name: channel_states_hasten(now)
UPDATE channel_state SET due_at = :now WHERE due_at > :now RETURNING channel;

-- name: alerts_raised(network)
-- Who is told of each alert that is raised.
SELECT telling FROM alert
WHERE cleared_at IS NULL
AND coalesce(network_identifier, '') = coalesce(CAST(:network AS text), '');

-- name: notify_enter(network, fingerprint, body, now)!
INSERT INTO action (timestamp, fingerprint, network_identifier, type, body, due_at, created_at)
VALUES (:now, :fingerprint, :network, 'notify', :body, :now, :now);
