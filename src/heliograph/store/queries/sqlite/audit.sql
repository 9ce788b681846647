-- name: audit_add(timestamp, actor_kind, actor_name, address, rows)!
INSERT INTO audit (
    timestamp, actor_kind, actor_name, address, action, resource_identifier, resource_name,
    network_identifier, changes
)
SELECT
    :timestamp, :actor_kind, :actor_name, :address, json_extract(value, '$[0]'),
    json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'),
    json_extract(value, '$[4]')
FROM json_each(:rows);

-- name: audit_list_of_networks(networks, actor_kind, actor_name, action, start, before, before_id, limit)
{audit_page}
AND network_identifier IN (SELECT value FROM json_each(:networks))
ORDER BY timestamp DESC, id DESC
LIMIT :limit;

-- name: audit_list_of_resource(networks, actor_kind, actor_name, action, resource, start, before, before_id, limit)
{audit_page}
AND (resource_identifier = :resource OR resource_name = :resource)
AND (:networks IS NULL OR network_identifier IN (SELECT value FROM json_each(:networks)))
ORDER BY timestamp DESC, id DESC
LIMIT :limit;
