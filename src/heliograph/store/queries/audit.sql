-- name: audit_list_of_network(network, actor_kind, actor_name, action, start, before, before_id, limit)
{audit_page}
AND network_identifier = :network
ORDER BY timestamp DESC, id DESC
LIMIT :limit;

-- name: audit_network_known(network)
SELECT 1 FROM audit WHERE network_identifier = :network LIMIT 1;

-- name: audit_list(actor_kind, actor_name, action, start, before, before_id, limit)
{audit_page}
ORDER BY timestamp DESC, id DESC
LIMIT :limit;

-- name: audit_prune(before, limit)
DELETE FROM audit
WHERE id IN (
    SELECT id FROM audit
    WHERE timestamp < :before
    ORDER BY timestamp, id
    LIMIT :limit
)
RETURNING id;
