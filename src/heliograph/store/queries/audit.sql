-- shared: audit_page
SELECT
    id, timestamp, actor_kind, actor_name, address, action, resource_identifier,
    resource_name, network_identifier, changes
FROM audit
WHERE timestamp >= :start AND (timestamp, id) < (:before, :before_id)
AND (CAST(:actor_kind AS text) IS NULL OR actor_kind = :actor_kind)
AND (CAST(:actor_name AS text) IS NULL OR actor_name = :actor_name)
AND (CAST(:action AS text) IS NULL OR action = :action)

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

-- name: audit_list_of_networks(networks, actor_kind, actor_name, action, start, before, before_id, limit)
{audit_page}
AND network_identifier IN ({networks})
ORDER BY timestamp DESC, id DESC
LIMIT :limit;

-- name: audit_list_of_resource(networks, actor_kind, actor_name, action, resource, start, before, before_id, limit)
{audit_page}
AND (resource_identifier = :resource OR resource_name = :resource)
AND (CAST(:networks AS text) IS NULL OR network_identifier IN ({networks}))
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
