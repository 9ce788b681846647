-- name: deliveries_prune(now, limit)
DELETE FROM delivery
WHERE key IN (
    SELECT key FROM delivery WHERE expiry <= :now ORDER BY expiry LIMIT :limit
)
RETURNING id;
