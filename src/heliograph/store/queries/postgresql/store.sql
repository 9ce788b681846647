-- shared: networks
SELECT value FROM json_array_elements_text(CAST(:networks AS json))

-- name: table_exists(name)$
SELECT 1 WHERE to_regclass(CAST(:name AS text)) IS NOT NULL;

-- name: network_locked(identifier)^
SELECT identifier FROM network WHERE identifier = :identifier FOR NO KEY UPDATE;

-- name: registry_lock()^
SELECT version FROM registry FOR UPDATE;
