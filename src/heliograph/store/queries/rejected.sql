-- name: rejected_list(before, limit, sensor, sender, reason)
SELECT
    id, receipt_timestamp, sensor, principal, source, payload, size, reason, detail, indexes
FROM rejected_message
WHERE id < :before
AND (
    CAST(:sender AS text) IS NULL
    OR source = :sender
    OR sensor = :sensor
    OR principal IN (
        :sender, 'device:' || :sender, 'user:' || :sender, 'shared:' || :sender,
        'broker:' || :sender
    )
)
AND (CAST(:reason AS text) IS NULL OR reason = :reason)
ORDER BY id DESC
LIMIT :limit;

-- name: rejected_totals()^
SELECT count(*), CAST(coalesce(sum(length(payload)), 0) AS bigint) FROM rejected_message;

-- name: rejected_prune(before, limit)
DELETE FROM rejected_message
WHERE id IN (
    SELECT id FROM rejected_message
    WHERE receipt_timestamp < :before
    ORDER BY receipt_timestamp
    LIMIT :limit
)
RETURNING id;
