-- shared: networks
SELECT value FROM json_array_elements_text(CAST(:networks AS json))

-- name: table_exists(name)$
SELECT 1 WHERE to_regclass(CAST(:name AS text)) IS NOT NULL;

-- name: network_locked(identifier)^
SELECT identifier FROM network WHERE identifier = :identifier FOR NO KEY UPDATE;

-- name: registry_lock()^
SELECT version FROM registry FOR UPDATE;

-- name: integrity_version()
SELECT 'PostgreSQL ' || current_setting('server_version');

-- name: integrity_faults()
SELECT 'the index ' || CAST(CAST(indexrelid AS regclass) AS text) || ' is not valid'
FROM pg_index
WHERE NOT indisvalid
UNION ALL
SELECT checksum_failures || ' pages with wrong checksums'
FROM pg_stat_database
WHERE datname = current_database() AND checksum_failures > 0;

-- name: integrity_lax_settings()
SELECT name || '=' || setting
FROM pg_settings
WHERE name IN ('fsync', 'full_page_writes') AND setting <> 'on'
ORDER BY name;
