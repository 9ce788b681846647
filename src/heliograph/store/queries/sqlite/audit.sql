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
