-- name: audit_add(timestamp, actor_kind, actor_name, address, rows)!
INSERT INTO audit (
    timestamp, actor_kind, actor_name, address, action, resource_identifier, resource_name,
    network_identifier, changes
)
SELECT
    CAST(:timestamp AS bigint), CAST(:actor_kind AS text), CAST(:actor_name AS text),
    CAST(:address AS text), value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4
FROM json_array_elements(CAST(:rows AS json));

-- name: audit_list_of_networks(networks, actor_kind, actor_name, action, start, before, before_id, limit)
{audit_page}
AND network_identifier IN (SELECT value FROM json_array_elements_text(CAST(:networks AS json)))
ORDER BY timestamp DESC, id DESC
LIMIT :limit;

-- name: audit_list_of_resource(networks, actor_kind, actor_name, action, resource, start, before, before_id, limit)
{audit_page}
AND (resource_identifier = :resource OR resource_name = :resource)
AND (
    CAST(:networks AS text) IS NULL
    OR network_identifier IN (SELECT value FROM json_array_elements_text(CAST(:networks AS json)))
)
ORDER BY timestamp DESC, id DESC
LIMIT :limit;
