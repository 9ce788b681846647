-- shared: channels_named
SELECT json_array_elements_text(CAST(told.channels AS json))

-- shared: notices_told
SELECT
    position, value ->> 0 AS network, value ->> 1 AS channels, value ->> 2 AS notice
FROM jsonb_array_elements(CAST(:rows AS jsonb)) WITH ORDINALITY AS given (value, position)

-- name: channel_locked(identifier)^
SELECT {channel_columns} FROM channel WHERE identifier = :identifier FOR NO KEY UPDATE;

-- name: channels_due(now, settle, longest, limit)
-- Those that no other server is about. Whoever tells meanwhile does not wait for that.
SELECT
    channel.identifier, channel.name, channel.network_identifier, channel.enabled,
    (SELECT name FROM network WHERE network.identifier = channel.network_identifier)
FROM channel
LEFT JOIN channel_state ON channel_state.channel = channel.identifier
WHERE channel_state.due_at <= :now
OR channel.identifier IN (
    SELECT channel FROM notice
    GROUP BY channel
    HAVING NOT (
        max(created_at) BETWEEN CAST(:now AS bigint) - CAST(:settle AS bigint) + 1
        AND CAST(:now AS bigint)
    )
    OR min(created_at) <= CAST(:now AS bigint) - CAST(:longest AS bigint)
)
ORDER BY channel.identifier
LIMIT :limit
FOR NO KEY UPDATE OF channel SKIP LOCKED;
