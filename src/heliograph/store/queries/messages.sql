-- Everything received, by its ingest id. PostgreSQL finds ids by their blocks alone, so that no
-- query is asked for more than a stretch of ids in which there are few rows: see `store/messages`.
-- `kinds` has the names of the kinds that are wanted.

-- shared: between
id >= :since AND id < :before

-- A measurement that came with a packet is shown as that. By the stretch, PostgreSQL knows how many
-- packets there may be: it reads them all at once, or looks for each where they are too many.

-- shared: no_packet
NOT EXISTS (
    SELECT 1 FROM packet
    WHERE packet.id = measurement.id AND packet.id >= :since AND packet.id < :before
)

-- What a rule has yet to look at, or has an action that has yet to be done, is not processed (0).

-- shared: message_processed
(
    CAST(:processed AS bigint) IS NULL
    OR CAST(:processed AS bigint) = CASE
        WHEN id IN (
            SELECT message FROM action
            WHERE state = 'pending' AND message >= :since AND message < :before
            UNION ALL
            SELECT observed.id FROM observation AS observed
            WHERE observed.id >= :since AND observed.id < :before
        ) THEN 0
        ELSE 1
    END
)

-- The sensors of the networks that are asked for, found once for all tables.

-- shared: of_networks
WITH of_networks AS (SELECT number FROM sensor WHERE network_identifier IN ({networks}))

-- shared: message_visible
{between}
AND (CAST(:sensor AS bigint) IS NULL OR sensor = CAST(:sensor AS bigint))
AND (
    CAST(:networks AS text) IS NULL
    OR sensor IN (SELECT number FROM of_networks)
)
-- Of any sensor, if not null.
AND (CAST(:of_all AS bigint) IS NULL OR sensor IS NOT NULL)
AND {message_processed}

-- Measurements last: where the others are enough, nobody looks for their packets.

-- shared: messages_visible
SELECT id FROM (
    SELECT id FROM log
    WHERE CAST(:kinds AS text) LIKE '%log%' AND {message_visible}
    LIMIT :limit
) AS logs
UNION ALL
SELECT id FROM (
    SELECT id FROM heartbeat
    WHERE CAST(:kinds AS text) LIKE '%heartbeat%' AND {message_visible}
    LIMIT :limit
) AS heartbeats
UNION ALL
SELECT id FROM (
    SELECT id FROM packet
    WHERE CAST(:kinds AS text) LIKE '%packet%' AND {message_visible}
    LIMIT :limit
) AS packets
UNION ALL
SELECT id FROM (
    SELECT id FROM rejected_message
    WHERE CAST(:kinds AS text) LIKE '%rejected%' AND {message_visible}
    AND (CAST(:reason AS text) IS NULL OR reason = :reason)
    LIMIT :limit
) AS rejected_messages
UNION ALL
SELECT id FROM (
    SELECT id FROM measurement
    WHERE CAST(:kinds AS text) LIKE '%measurement%' AND {message_visible}
    AND {no_packet}
    LIMIT :limit
) AS measurements

-- name: messages_count(since, before, kinds, sensor, networks, of_all, reason, processed, limit)
-- How many there are, but not more than the limit.
{of_networks}
SELECT count(*) FROM ({messages_visible} LIMIT :limit) AS visible;

-- name: messages_stretch(since, before, kinds, limit)
-- How many rows have to be looked at, of each kind not more than the limit, and the newest's id.
SELECT count(*), max(id) FROM (
    SELECT id FROM (
        SELECT id FROM measurement
        WHERE CAST(:kinds AS text) LIKE '%measurement%' AND {between} LIMIT :limit
    ) AS measurements
    UNION ALL
    SELECT id FROM (
        SELECT id FROM log WHERE CAST(:kinds AS text) LIKE '%log%' AND {between} LIMIT :limit
    ) AS logs
    UNION ALL
    SELECT id FROM (
        SELECT id FROM heartbeat
        WHERE CAST(:kinds AS text) LIKE '%heartbeat%' AND {between} LIMIT :limit
    ) AS heartbeats
    UNION ALL
    SELECT id FROM (
        SELECT id FROM packet WHERE CAST(:kinds AS text) LIKE '%packet%' AND {between} LIMIT :limit
    ) AS packets
    UNION ALL
    SELECT id FROM (
        SELECT id FROM rejected_message
        WHERE CAST(:kinds AS text) LIKE '%rejected%' AND {between} LIMIT :limit
    ) AS rejected_messages
) AS received;

-- name: messages_other_network(networks)
-- A row if there is a network that is none of these.
SELECT 1 FROM network WHERE identifier NOT IN ({networks}) LIMIT 1;

-- name: messages_names(since, before, kinds, sensor, networks, of_all, reason, processed, member, said, spelled, limit)
-- The newest of a stretch: kind, id, sensor, timestamp. With a `member` only those of which the text
-- contains that, and one of the other texts: not all of them have the member, but no others do.
{of_networks}
SELECT kind, id, sensor, timestamp
FROM (
    SELECT kind, id, sensor, timestamp
    FROM (
        SELECT 'measurement' AS kind, id, sensor, timestamp FROM measurement
        WHERE CAST(:kinds AS text) LIKE '%measurement%' AND {message_visible}
        AND (CAST(:member AS text) IS NULL OR ({value_says}))
        AND {no_packet}
        ORDER BY id DESC LIMIT :limit
    ) AS measurements
    UNION ALL
    SELECT kind, id, sensor, timestamp
    FROM (
        SELECT 'log' AS kind, id, sensor, timestamp FROM log
        WHERE CAST(:kinds AS text) LIKE '%log%' AND {message_visible}
        ORDER BY id DESC LIMIT :limit
    ) AS logs
    UNION ALL
    SELECT kind, id, sensor, timestamp
    FROM (
        SELECT 'heartbeat' AS kind, id, sensor, timestamp FROM heartbeat
        WHERE CAST(:kinds AS text) LIKE '%heartbeat%' AND {message_visible}
        ORDER BY id DESC LIMIT :limit
    ) AS heartbeats
    UNION ALL
    SELECT kind, id, sensor, timestamp
    FROM (
        SELECT 'packet' AS kind, id, sensor, timestamp FROM packet
        WHERE CAST(:kinds AS text) LIKE '%packet%' AND {message_visible}
        AND (CAST(:member AS text) IS NULL OR ({packet_says}))
        ORDER BY id DESC LIMIT :limit
    ) AS packets
    UNION ALL
    SELECT kind, id, sensor, timestamp
    FROM (
        SELECT 'rejected' AS kind, id, sensor, receipt_timestamp AS timestamp
        FROM rejected_message
        WHERE CAST(:kinds AS text) LIKE '%rejected%' AND {message_visible}
        AND (CAST(:reason AS text) IS NULL OR reason = :reason)
        ORDER BY id DESC LIMIT :limit
    ) AS rejected_messages
) AS received
ORDER BY id DESC
LIMIT :limit;

-- The sensor has few rows: they are found by it. A plus keeps SQLite from going by the ids.

-- shared: of_few
sensor = :sensor AND +id >= :since AND +id < :before AND {message_processed}

-- name: messages_of_sensor(sensor, since, before, kinds, reason, processed, limit)
-- The newest.
SELECT kind, id, sensor, timestamp
FROM (
    SELECT kind, id, sensor, timestamp
    FROM (
        SELECT 'measurement' AS kind, id, sensor, timestamp FROM measurement
        WHERE CAST(:kinds AS text) LIKE '%measurement%' AND {of_few}
        AND {no_packet}
        ORDER BY +id DESC LIMIT :limit
    ) AS measurements
    UNION ALL
    SELECT kind, id, sensor, timestamp
    FROM (
        SELECT 'log' AS kind, id, sensor, timestamp FROM log
        WHERE CAST(:kinds AS text) LIKE '%log%' AND {of_few} ORDER BY +id DESC LIMIT :limit
    ) AS logs
    UNION ALL
    SELECT kind, id, sensor, timestamp
    FROM (
        SELECT 'heartbeat' AS kind, id, sensor, timestamp FROM heartbeat
        WHERE CAST(:kinds AS text) LIKE '%heartbeat%' AND {of_few} ORDER BY +id DESC LIMIT :limit
    ) AS heartbeats
    UNION ALL
    SELECT kind, id, sensor, timestamp
    FROM (
        SELECT 'packet' AS kind, id, sensor, timestamp FROM packet
        WHERE CAST(:kinds AS text) LIKE '%packet%' AND {of_few} ORDER BY +id DESC LIMIT :limit
    ) AS packets
    UNION ALL
    SELECT kind, id, sensor, timestamp
    FROM (
        SELECT 'rejected' AS kind, id, sensor, receipt_timestamp AS timestamp
        FROM rejected_message
        WHERE CAST(:kinds AS text) LIKE '%rejected%' AND {between} AND sensor = :sensor
        AND {message_processed}
        AND (CAST(:reason AS text) IS NULL OR reason = :reason)
        ORDER BY id DESC LIMIT :limit
    ) AS rejected_messages
) AS received
ORDER BY id DESC
LIMIT :limit;

-- name: messages_rows_of_sensor(sensor, limit)
-- How many rows a sensor has; of each kind not more than the limit.
SELECT
    (SELECT count(*) FROM (SELECT 1 FROM {measurement_keys} WHERE sensor = :sensor LIMIT :limit) AS m)
    + (SELECT count(*) FROM (SELECT 1 FROM log WHERE sensor = :sensor LIMIT :limit) AS l)
    + (SELECT count(*) FROM (SELECT 1 FROM heartbeat WHERE sensor = :sensor LIMIT :limit) AS h)
    + (SELECT count(*) FROM (SELECT 1 FROM packet WHERE sensor = :sensor LIMIT :limit) AS p);

-- name: messages_measurement(names, longest)
SELECT
    id, receipt_timestamp, NULL, {value_length},
    CASE WHEN {value_length} <= :longest THEN value END
FROM {named_measurement};

-- name: messages_log(names, longest)
SELECT
    id, receipt_timestamp, NULL, {log_length}, severity,
    {log_texts_up_to_longest}
FROM {named_log};

-- name: messages_heartbeat(names, longest)
SELECT
    id, receipt_timestamp, NULL, {details_length}, success,
    {details_up_to_longest}
FROM {named_heartbeat};

-- name: messages_packet(names, longest)
SELECT
    id, receipt_timestamp, source, {packet_length},
    CASE WHEN {packet_length} <= :longest THEN payload END
FROM packet
WHERE id IN ({named_ids});

-- name: messages_rejected(names)
-- Their payloads have 64 KiB at most.
SELECT
    id, receipt_timestamp, source, length(payload), payload, principal, size, reason, detail
FROM rejected_message
WHERE id IN ({named_ids});

-- name: messages_unprocessed(names)
-- Which of them a rule has yet to look at, or have an action that has yet to be done.
SELECT message FROM action WHERE state = 'pending' AND message IN ({named_ids})
UNION
SELECT id FROM observation WHERE id IN ({named_ids});

-- name: messages_unprocessed_span()
-- The ids of the first and the last of all of these.
SELECT min(first), max(last)
FROM (
    SELECT min(message) AS first, max(message) AS last FROM action WHERE state = 'pending'
    UNION ALL
    SELECT min(id), max(id) FROM observation
) AS unprocessed;

-- name: messages_sensors(numbers)
SELECT number, identifier, device_id FROM sensor WHERE number IN ({numbers_wanted});

-- name: rejected_find(id)
SELECT
    id, receipt_timestamp, sensor, principal, source, payload, size, reason, detail, indexes
FROM rejected_message
WHERE id = :id;

-- name: rejected_due(after, until, sensor, networks, source, reason, limit)
-- Those to be submitted again, the oldest first.
SELECT
    id, receipt_timestamp, sensor, principal, source, payload, size, reason, detail, indexes
FROM rejected_message
WHERE id >= :after AND id < :until
AND (CAST(:sensor AS bigint) IS NULL OR sensor = CAST(:sensor AS bigint))
AND (
    CAST(:networks AS text) IS NULL
    OR sensor IN (SELECT number FROM sensor WHERE network_identifier IN ({networks}))
)
AND (CAST(:source AS text) IS NULL OR source = :source)
AND (CAST(:reason AS text) IS NULL OR reason = :reason)
ORDER BY id
LIMIT :limit;

-- name: rejected_remove(id)
DELETE FROM rejected_message WHERE id = :id RETURNING id;

-- name: rejected_keep(id, reason, detail, indexes)
-- Some of its elements are stored by now.
UPDATE rejected_message SET reason = :reason, detail = :detail, indexes = :indexes
WHERE id = :id
RETURNING id;
