-- shared: networks
SELECT value FROM json_each(:networks)

-- name: table_exists(name)$
SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = :name;

-- name: network_locked(identifier)^
-- The transaction is the only one that writes.
SELECT identifier FROM network WHERE identifier = :identifier;

-- name: registry_lock()^
SELECT version FROM registry;
