-- shared: channels_named
SELECT value FROM json_each(told.channels)

-- shared: notices_told
SELECT
    key AS position, json_extract(value, '$[0]') AS network,
    json_extract(value, '$[1]') AS channels, json_extract(value, '$[2]') AS notice
FROM json_each(:rows)

-- name: channel_locked(identifier)^
-- The transaction is the only one that writes.
SELECT {channel_columns} FROM channel WHERE identifier = :identifier;

-- name: channels_due(now, settle, longest, limit)
SELECT
    channel.identifier, channel.name, channel.network_identifier, channel.enabled,
    (SELECT name FROM network WHERE network.identifier = channel.network_identifier)
FROM channel
LEFT JOIN channel_state ON channel_state.channel = channel.identifier
WHERE channel_state.due_at <= :now
OR channel.identifier IN (
    SELECT channel FROM notice
    GROUP BY channel
    HAVING NOT (max(created_at) BETWEEN :now - :settle + 1 AND :now)
    OR min(created_at) <= :now - :longest
)
ORDER BY channel.identifier
LIMIT :limit;
