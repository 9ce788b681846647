-- name: network_by_name(name)^
SELECT identifier, name, created_at FROM network WHERE name = :name;

-- name: network_by_identifier(identifier)^
SELECT identifier, name, created_at FROM network WHERE identifier = :identifier;
