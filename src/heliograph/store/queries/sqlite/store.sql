-- shared: networks
SELECT value FROM json_each(:networks)

-- name: table_exists(name)$
SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = :name;

-- name: network_locked(identifier)^
-- The transaction is the only one that writes.
SELECT identifier FROM network WHERE identifier = :identifier;

-- name: registry_lock()^
SELECT version FROM registry;

-- name: integrity_version()
SELECT 'SQLite ' || sqlite_version();

-- name: integrity_faults()
SELECT quick_check FROM pragma_quick_check(3) WHERE quick_check <> 'ok';

-- name: integrity_lax_settings()
-- Those of the file are the server's own.
SELECT name FROM sqlite_schema WHERE false;
